import { HashTable } from '../hash-table.ts';

/**
 * A key is four int32, 16 bytes: 0 hash lo   1 hash hi   2 last seen, seconds
 * 3 heat (8 bits) | metric id (16 bits) << 8 | mark of the day on which it was counted (8 bits) << 24
 *
 * All memory is allocated in the constructor.
 */
const STRIDE = 4;
const LO = 0;
const HI = 1;
const SEEN = 2;
const META = 3;
const HEAT_MAX = 255;
const metricOf = (meta: number) => (meta >>> 8) & 0xffff;

/** The live key-sets: fixed memory, at most `maxKeys` keys. */
export class KeyTable {
  readonly maxKeys: number;
  readonly #table: HashTable;
  readonly #words: Int32Array;
  #hand = 0;
  /** Lower bound for the oldest key, as of the last full round of the clock hand: nothing expires before. */
  #noneBeforeSec = 0;
  #roundOldestSec = 0;

  constructor(maxKeys: number) {
    this.maxKeys = maxKeys;
    this.#table = new HashTable(maxKeys, STRIDE);
    this.#words = this.#table.words;
  }

  get used(): number {
    return this.#table.used;
  }

  get memoryBytes(): number {
    return this.#table.memoryBytes;
  }

  /**
   * @param hint where it was found before, or -1
   * @returns position of the key, or -1; valid until the key is removed
   */
  find(lo: number, hi: number, hint = -1): number {
    return this.#table.find(lo, hi, hint);
  }

  /**
   * Marks the key as seen and increases its heat.
   * @returns when it was seen before
   */
  touch(at: number, nowSec: number): number {
    const words = this.#words;
    const before = words[at + SEEN]!;
    words[at + SEEN] = nowSec;
    const meta = words[at + META]!;
    if ((meta & 0xff) < HEAT_MAX) words[at + META] = meta + 1;
    return before;
  }

  setSeen(at: number, seenSec: number): void {
    this.#words[at + SEEN] = seenSec;
  }

  seenSec(at: number): number {
    return this.#words[at + SEEN]!;
  }

  metricId(at: number): number {
    return metricOf(this.#words[at + META]!);
  }

  /** Mark of the day on which it was last counted; 0 if never. */
  mark(at: number): number {
    return this.#words[at + META]! >>> 24;
  }

  setMark(at: number, mark: number): void {
    this.#words[at + META] = (this.#words[at + META]! & 0xffffff) | (mark << 24);
  }

  /**
   * Inserts a key that is not in the table.
   * @param nowSec at least 1
   * @param mark of the day on which it is counted
   * @returns false if the table has `maxKeys` keys; it never grows
   */
  insert(lo: number, hi: number, metricId: number, nowSec: number, mark = 0): boolean {
    const at = this.#table.insert(lo, hi);
    if (at < 0) return false;
    this.#words[at + SEEN] = nowSec;
    this.#words[at + META] = (metricId << 8) | (mark << 24);
    return true;
  }

  remove(at: number): void {
    this.#table.remove(at);
  }

  /**
   * Moves the clock hand over up to `steps` slots. Each expired key on its way loses half its heat and is evicted when none is
   * left, so that the coldest expired keys go first and keys seen within `ttlSec` stay.
   * @param onEvict called with the metric id of each evicted key
   * @param wanted stop after so many evictions
   * @returns the number of evictions
   */
  sweep(
    steps: number,
    nowSec: number,
    ttlSec: number,
    wanted: number,
    onEvict: (metricId: number) => void,
  ): number {
    const expiredBefore = nowSec - ttlSec;
    if (this.#noneBeforeSec >= expiredBefore) return 0;
    const words = this.#words;
    const { end } = this.#table;
    let evicted = 0;
    for (let step = 0; step < steps; step++) {
      if (this.#hand >= end) {
        // Last-seen times only grow, so nothing expires before the oldest key of this round does.
        this.#noneBeforeSec = this.#roundOldestSec;
        this.#hand = 0;
        this.#roundOldestSec = nowSec;
        if (this.#noneBeforeSec >= expiredBefore) return evicted;
      }
      const at = this.#hand;
      this.#hand += STRIDE;
      const seen = words[at + SEEN]!;
      if (seen === 0) continue;
      if (seen < expiredBefore) {
        const meta = words[at + META]!;
        const heat = meta & 0xff;
        if (heat === 0) {
          this.remove(at);
          onEvict(metricOf(meta));
          if (++evicted >= wanted) return evicted;
          continue;
        }
        words[at + META] = (meta & ~0xff) | (heat >> 1);
      }
      if (seen < this.#roundOldestSec) this.#roundOldestSec = seen;
    }
    return evicted;
  }

  /** Evicts keys, coldest and oldest first, expired or not, until `used <= maxUsed`: for a reduced budget. */
  shrinkTo(maxUsed: number, onEvict: (metricId: number) => void): void {
    if (this.used <= maxUsed) return;
    const words = this.#words;
    const live: number[] = [];
    for (let at = 0; at < this.#table.end; at += STRIDE) if (words[at + SEEN] !== 0) live.push(at);
    const rank = (at: number) => words[at + SEEN]! * 256 + (words[at + META]! & 0xff);
    live.sort((a, b) => rank(a) - rank(b));
    for (const at of live.slice(0, this.used - maxUsed)) {
      onEvict(this.metricId(at));
      this.remove(at);
    }
  }

  /** Calls `visit` for every key, to move them to a table of another size. */
  forEach(visit: (lo: number, hi: number, metricId: number, seenSec: number) => void): void {
    const words = this.#words;
    for (let at = 0; at < this.#table.end; at += STRIDE) {
      if (words[at + SEEN] !== 0)
        visit(words[at + LO]!, words[at + HI]!, metricOf(words[at + META]!), words[at + SEEN]!);
    }
  }

  /** The longest probe sequence of a present key, in index slots; for tests and the report. */
  longestProbe(): number {
    return this.#table.longestProbe();
  }
}
