import { HashTable } from './hash-table.ts';

/*
 * The cumulative streams that are merged into others, as they were last seen: 12 int32, 48 bytes each.
 *
 *   0 hash lo    1 hash hi    2 output + 1             3 last seen, s    4,5 start    6,7 time    8,9 value
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

/** Sources by hash, in fixed memory. */
export class SourceTable {
  readonly words: Int32Array;
  readonly #table: HashTable;
  #hand = 0;
  /** No source can be expired before this second, as the last full round of the hand saw it. */
  #noneBeforeSec = 0;
  #roundOldestSec = 0;

  constructor(maxSources: number) {
    this.#table = new HashTable(maxSources, SOURCE_WORDS);
    this.words = this.#table.words;
  }

  get used(): number {
    return this.#table.used;
  }

  get memoryBytes(): number {
    return this.#table.memoryBytes;
  }

  /**
   * @param hint where it was found before, or -1
   * @returns the word at which the source begins, or -1; good until it is removed
   */
  find(lo: number, hi: number, hint = -1): number {
    return this.#table.find(lo, hi, hint);
  }

  /** @returns where the new source begins, all zero but its hash and output; -1 when the table is full */
  insert(lo: number, hi: number, output: number): number {
    const at = this.#table.insert(lo, hi);
    if (at >= 0) this.words[at + OUTPUT] = output + 1;
    return at;
  }

  remove(at: number): void {
    this.#table.remove(at);
  }

  /** Looks at the next `steps` places and calls `expire` for each source unseen since `beforeSec`; it must remove it. */
  sweep(steps: number, beforeSec: number, nowSec: number, expire: (at: number) => void): void {
    if (this.#noneBeforeSec >= beforeSec) return;
    const { words } = this;
    for (let step = 0; step < steps; step++) {
      if (this.#hand >= this.#table.end) {
        // Seen-times only grow, so until the oldest source of this round expires there is nothing to look for.
        this.#noneBeforeSec = this.#roundOldestSec;
        this.#hand = 0;
        this.#roundOldestSec = nowSec;
        if (this.#noneBeforeSec >= beforeSec || this.used === 0) return;
      }
      const at = this.#hand;
      this.#hand += SOURCE_WORDS;
      if (words[at + OUTPUT] === 0) continue;
      const seen = words[at + SEEN]!;
      if (seen < beforeSec) expire(at);
      else if (seen < this.#roundOldestSec) this.#roundOldestSec = seen;
    }
  }
}
