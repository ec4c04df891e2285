import { HashTable } from '../hash-table.ts';

/**
 * A key is four int32, 16 bytes: 0 hash lo   1 hash hi   2 last seen, seconds
 * 3 heat (8 bits) | metric id (16 bits) << 8 | mark of the day on which it was counted (8 bits) << 24
 *
 * All memory is allocated in the constructor.
 */
const STRIDE = 4;
const SEEN = 2;
const META = 3;
const HEAT_MAX = 255;

/** The live key-sets: fixed memory, at most `maxKeys` keys. */
export class KeyTable extends HashTable {
  constructor(maxKeys: number) {
    super(maxKeys, STRIDE);
  }

  /**
   * Marks the key as seen and increases its heat.
   * @returns when it was seen before
   */
  touch(at: number, nowSec: number): number {
    const { words } = this;
    const before = words[at + SEEN]!;
    words[at + SEEN] = nowSec;
    const meta = words[at + META]!;
    if ((meta & 0xff) < HEAT_MAX) words[at + META] = meta + 1;
    return before;
  }

  setSeen(at: number, seenSec: number): void {
    this.words[at + SEEN] = seenSec;
  }

  seenSec(at: number): number {
    return this.words[at + SEEN]!;
  }

  metricId(at: number): number {
    return (this.words[at + META]! >>> 8) & 0xffff;
  }

  /** Mark of the day on which it was last counted; 0 if never. */
  mark(at: number): number {
    return this.words[at + META]! >>> 24;
  }

  setMark(at: number, mark: number): void {
    this.words[at + META] = (this.words[at + META]! & 0xffffff) | (mark << 24);
  }

  /**
   * Adds a key that is not in the table.
   * @param nowSec at least 1
   * @param mark of the day on which it is counted
   * @returns false if the table is full; it never grows
   */
  add(lo: number, hi: number, metricId: number, nowSec: number, mark = 0): boolean {
    const at = this.insert(lo, hi);
    if (at < 0) return false;
    this.words[at + SEEN] = nowSec;
    this.words[at + META] = (metricId << 8) | (mark << 24);
    return true;
  }

  /**
   * Checks the next `steps` keys. Each expired one loses half its heat and is evicted when none is left, so that the coldest
   * expired keys go first and keys seen within `ttlSec` stay.
   * @param wanted stop after so many evictions
   * @param onEvict called with the metric id of each evicted key
   * @returns the number of evictions
   */
  evict(
    steps: number,
    nowSec: number,
    ttlSec: number,
    wanted: number,
    onEvict: (metricId: number) => void,
  ): number {
    return this.sweep(steps, nowSec - ttlSec, nowSec, wanted, (at) => {
      const meta = this.words[at + META]!;
      const heat = meta & 0xff;
      this.words[at + META] = (meta & ~0xff) | (heat >> 1);
      if (heat > 0) return false;
      onEvict(this.metricId(at));
      this.remove(at);
      return true;
    });
  }

  /** Evicts keys, coldest and oldest first, expired or not, until `used <= maxUsed`: for a reduced budget. */
  shrinkTo(maxUsed: number, onEvict: (metricId: number) => void): void {
    const live: number[] = [];
    this.forEach((at) => void live.push(at));
    const rank = (at: number) => this.seenSec(at) * 256 + (this.words[at + META]! & 0xff);
    live.sort((a, b) => rank(a) - rank(b));
    for (const at of live.slice(0, Math.max(0, live.length - maxUsed))) {
      onEvict(this.metricId(at));
      this.remove(at);
    }
  }
}
