import { slotHash } from '../hash.ts';

/** Numbers by 64-bit hash, for the streams of one request; cleared and reused for the next. */
export class StreamIndex {
  #words = new Int32Array(3 * 256);
  #mask = 255;
  used = 0;

  clear(): void {
    if (this.used === 0) return;
    if (this.#mask > 16_383) {
      // Shrink after a large request, because clearing costs by size.
      this.#words = new Int32Array(3 * 256);
      this.#mask = 255;
    } else this.#words.fill(0);
    this.used = 0;
  }

  /** @returns -1 if there is none */
  get(lo: number, hi: number): number {
    const at = this.#find(lo, hi);
    return at < 0 ? -1 : this.#words[at + 2]! - 1;
  }

  /** Counts occurrences of a hash. @returns 0 at the first one */
  count(lo: number, hi: number): number {
    const at = this.#find(lo, hi);
    if (at >= 0) return this.#words[at + 2]!++ - 1;
    this.set(lo, hi, 1);
    return 0;
  }

  /** Takes back one count. */
  uncount(lo: number, hi: number): void {
    this.#words[this.#find(lo, hi) + 2]!--;
  }

  /** The hash must be new. */
  set(lo: number, hi: number, value: number): void {
    if (++this.used * 2 > this.#mask) this.#grow();
    const words = this.#words;
    let slot = slotHash(lo, hi) & this.#mask;
    while (words[slot * 3 + 2] !== 0) slot = (slot + 1) & this.#mask;
    words[slot * 3] = lo;
    words[slot * 3 + 1] = hi;
    words[slot * 3 + 2] = value + 1;
  }

  /** @returns its word, or -1 if there is none */
  #find(lo: number, hi: number): number {
    const words = this.#words;
    for (let slot = slotHash(lo, hi) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * 3;
      if (words[at + 2] === 0) return -1;
      if (words[at] === lo && words[at + 1] === hi) return at;
    }
  }

  #grow(): void {
    const old = this.#words;
    this.#mask = this.#mask * 2 + 1;
    this.#words = new Int32Array(3 * (this.#mask + 1));
    this.used = 1;
    for (let at = 0; at < old.length; at += 3) {
      if (old[at + 2] !== 0) this.set(old[at]!, old[at + 1]!, old[at + 2]! - 1);
    }
  }
}
