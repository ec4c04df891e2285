/**
 * Bounds the bytes that are in memory at once. Waiters are served in order; one batch larger than the whole budget
 * passes alone rather than never.
 */
export class ByteBudget {
  readonly #maxBytes: number;
  #usedBytes = 0;
  #waiting: { bytes: number; go(): void }[] = [];

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** @returns a function that gives the bytes back; call it once */
  async acquire(bytes: number): Promise<() => void> {
    if (this.#waiting.length > 0 || !this.#fits(bytes)) {
      await new Promise<void>((resolve) => this.#waiting.push({ bytes, go: resolve }));
    } else {
      this.#usedBytes += bytes;
    }
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#usedBytes -= bytes;
      this.#serve();
    };
  }

  #fits(bytes: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + bytes <= this.#maxBytes;
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#usedBytes += next.bytes;
      next.go();
    }
  }
}
