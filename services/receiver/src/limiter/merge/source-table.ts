import { HashTable } from '../hash-table.ts';

/*
 * What is known of the cumulative streams that are merged into others: a cache of the ledger in Redis. 16 int32, 64 bytes each.
 *
 *   0 hash lo    1 hash hi    2 flags, never 0          3 last seen, Unix seconds     4,5 start    6,7 time
 *   8,9 value: of a number its bits, of a histogram the hash of its bounds
 *   10,11 hash of the stream it goes into, without its writer      12 block in the arena, or 0      13 cells of it
 *   14 request that changed it last      15 place in that request's claim
 */
export const SOURCE_WORDS = 16;
export const SOURCE_FLAGS = 2;
export const SEEN = 3;
export const START = 4;
export const TIME = 6;
export const VALUE = 8;
export const INTO = 10;
export const BLOCK = 12;
export const CELLS = 13;
export const CHANGED_BY = 14;
export const CLAIM_AT = 15;

/** Flags of a source. */
export const LIVE = 1;
export const INTEGER = 2;
/** A non-monotonic sum. */
export const LEVEL = 4;
/** It goes to the overflow stream of its metric. */
export const OVERFLOW = 8;
/** Known to be missing in the ledger, or removed by the current request. */
export const GONE = 16;
/** Its own stream was forwarded up to its last known point. */
export const FORWARDED = 32;

/** It is sent unmerged, as deltas. */
export const CONVERTED = 64;

/** Number of sources of which the one not seen for longest is evicted. */
const LOOKED_AT = 8;

/** Sources by hash, in fixed memory. */
export class SourceTable {
  readonly words: Int32Array;
  readonly #table: HashTable;
  #hand = 0;
  #eviction = 0;
  /** Lower bound for the oldest source, as of the last full round: nothing expires before. */
  #noneBeforeSec = 0;
  #roundOldestSec = 0;

  constructor(maxSources: number) {
    this.#table = new HashTable(maxSources, SOURCE_WORDS);
    this.words = this.#table.words;
  }

  get used(): number {
    return this.#table.used;
  }

  get maxSources(): number {
    return this.#table.maxEntries;
  }

  get memoryBytes(): number {
    return this.#table.memoryBytes;
  }

  /**
   * @param hint where it was found before, or -1
   * @returns the word at which the source begins, or -1; valid until it is removed
   */
  find(lo: number, hi: number, hint = -1): number {
    return this.#table.find(lo, hi, hint);
  }

  /** @returns start of the new source, all zero except hash and flags; -1 if the table is full */
  insert(lo: number, hi: number): number {
    const at = this.#table.insert(lo, hi);
    if (at >= 0) this.words[at + SOURCE_FLAGS] = LIVE;
    return at;
  }

  remove(at: number): void {
    this.#table.remove(at);
  }

  /** Checks the next `steps` entries and calls `expire`, which may remove it, for each source not seen since `beforeSec`. */
  sweep(steps: number, beforeSec: number, nowSec: number, expire: (at: number) => void): void {
    if (this.#noneBeforeSec >= beforeSec) return;
    const { words } = this;
    for (let step = 0; step < steps; step++) {
      if (this.#hand >= this.#table.end) {
        // Last-seen times only grow, so nothing expires before the oldest source of this round does.
        this.#noneBeforeSec = this.#roundOldestSec;
        this.#hand = 0;
        this.#roundOldestSec = nowSec;
        if (this.#noneBeforeSec >= beforeSec || this.used === 0) return;
      }
      const at = this.#hand;
      this.#hand += SOURCE_WORDS;
      if (words[at + SOURCE_FLAGS] === 0) continue;
      const seen = words[at + SEEN]!;
      if (seen < beforeSec) expire(at);
      else if (seen < this.#roundOldestSec) this.#roundOldestSec = seen;
    }
  }

  /** Among a few sources that no request after `settled` has changed, the one not seen for longest; -1 if there is none. */
  oldest(settled: number): number {
    const { words } = this;
    let oldest = -1;
    for (let looked = 0, step = 0; looked < LOOKED_AT && step < this.maxSources; step++) {
      if (this.#eviction >= this.#table.end) this.#eviction = 0;
      const at = this.#eviction;
      this.#eviction += SOURCE_WORDS;
      if (words[at + SOURCE_FLAGS] === 0 || words[at + CHANGED_BY]! > settled) continue;
      looked++;
      if (oldest < 0 || words[at + SEEN]! < words[oldest + SEEN]!) oldest = at;
    }
    return oldest;
  }

  /** Calls `visit` for every source. */
  forEach(visit: (at: number) => void): void {
    for (let at = 0; at < this.#table.end; at += SOURCE_WORDS)
      if (this.words[at + SOURCE_FLAGS] !== 0) visit(at);
  }
}

/*
 * A source in the ledger, little-endian:
 *
 *   0 flags   1 last seen, Unix seconds   5 start   13 time   21 value   29 hash of its stream   37 cells, 8 bytes each
 *
 * Bytes 5 to 21, start and time, are what a writer expects to find: the version of the entry.
 */
export const SOURCE_HEAD_BYTES = 37;

/**
 * Reads an entry of the ledger into the words at `at`, and its cells into a block of the arena.
 * @returns false if it is malformed or there is no room for its cells; the words are unchanged then
 */
export function unpackSource(
  bytes: Buffer,
  words: Int32Array,
  at: number,
  take: (cells: number) => number,
  arena: Float64Array,
): boolean {
  const cells = (bytes.length - SOURCE_HEAD_BYTES) / 8;
  if (!Number.isInteger(cells) || cells < 0) return false;
  let block = 0;
  if (cells > 0) {
    block = take(cells);
    if (block === 0) return false;
    for (let i = 0, from = SOURCE_HEAD_BYTES; i < cells; i++, from += 8)
      arena[block + i] = bytes.readDoubleLE(from);
  }
  words[at + SOURCE_FLAGS] = (bytes[0]! | LIVE) & ~GONE;
  for (let i = 0, from = 1; i < 9; i++, from += 4) words[at + SEEN + i] = bytes.readInt32LE(from);
  words[at + BLOCK] = block;
  words[at + CELLS] = cells;
  words[at + CHANGED_BY] = 0;
  return true;
}
