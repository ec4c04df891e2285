/** The body of an answer as it arrives, in one buffer that grows: each of its bytes may come as a chunk of its own. */
export class AnswerBody {
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;

  append(chunk: Buffer): void {
    const before = this.#length;
    this.#length = before + chunk.byteLength;
    if (before === 0) {
      this.#buffer = chunk; // most have one, which is not copied
      return;
    }
    if (this.#length > this.#buffer.byteLength) {
      const grown = Buffer.allocUnsafe(2 * this.#length);
      this.#buffer.copy(grown, 0, 0, before);
      this.#buffer = grown;
    }
    chunk.copy(this.#buffer, before);
  }

  /** What has arrived so far. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }
}
