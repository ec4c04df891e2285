const words = new Int32Array(2);
const double = new Float64Array(words.buffer);

/**
 * Writes protobuf from end to start: once a message's content is written, its length is known and is written in front of it. So
 * nothing has to be measured before or moved after.
 */
export class ReverseWriter {
  #bytes: Uint8Array;
  #pos: number;

  constructor(capacityBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(64, capacityBytes));
    this.#pos = this.#bytes.length;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#bytes.length - this.#pos;
  }

  /** What was written. */
  finish(): Uint8Array {
    const written = this.#bytes.subarray(this.#pos);
    // A small view of a large buffer would keep all of it in memory while it is queued.
    return written.length * 2 < this.#bytes.length ? Buffer.from(written) : written;
  }

  /** Copies `bytes[from, to)`. */
  raw(bytes: Uint8Array, from: number, to: number): void {
    const length = to - from;
    if (length <= 0) return;
    this.#reserve(length);
    this.#pos -= length;
    if (length > 24) this.#bytes.set(bytes.subarray(from, to), this.#pos);
    else for (let i = 0; i < length; i++) this.#bytes[this.#pos + i] = bytes[from + i]!;
  }

  /** An unsigned varint below 2^53. */
  varint(value: number): void {
    this.#reserve(10);
    let length = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++;
    this.#pos -= length;
    let at = this.#pos;
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[at] = rest;
  }

  tag(field: number, wire: number): void {
    this.varint(field * 8 + wire);
  }

  /** Writes the length of everything written since `length` was `mark`, and the tag of that message. */
  close(field: number, mark: number): void {
    this.varint(this.length - mark);
    this.tag(field, 2);
  }

  word(word: number): void {
    this.#reserve(4);
    this.#pos -= 4;
    const bytes = this.#bytes;
    bytes[this.#pos] = word;
    bytes[this.#pos + 1] = word >>> 8;
    bytes[this.#pos + 2] = word >>> 16;
    bytes[this.#pos + 3] = word >>> 24;
  }

  fixed64Field(field: number, lo: number, hi: number): void {
    this.word(hi);
    this.word(lo);
    this.tag(field, 1);
  }

  doubleField(field: number, value: number): void {
    double[0] = value;
    this.fixed64Field(field, words[0]!, words[1]!);
  }

  /** A whole number below 2^53 as fixed64. */
  fixed64(value: number): void {
    this.word(Math.floor(value / 4294967296));
    this.word(value >>> 0);
  }

  #reserve(length: number): void {
    if (this.#pos >= length) return;
    const used = this.length;
    const grown = Buffer.allocUnsafeSlow((used + length) * 2);
    grown.set(this.#bytes.subarray(this.#pos), grown.length - used);
    this.#bytes = grown;
    this.#pos = grown.length - used;
  }
}
