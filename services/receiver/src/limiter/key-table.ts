import { slotHash } from './hash.ts';

/*
 * One slot is four int32, 16 bytes, one cache line per lookup:
 *
 *   0 hash lo   1 hash hi   2 last seen, seconds (0: free)   3 heat (8 bits) | metric id (16 bits) << 8
 *
 * Linear probing over twice as many slots as keys, so that the load is at most 0.5; a removed key is closed up by
 * shifting, so there are no tombstones and lookups never grow slower. All memory is taken in the constructor.
 */
const STRIDE = 4;
const LO = 0;
const HI = 1;
const SEEN = 2;
const META = 3;
const HEAT_MAX = 255;

/** The set of key-sets that are alive: fixed memory, at most `maxKeys` keys. */
export class KeyTable {
  readonly maxKeys: number;
  readonly #slots: Int32Array;
  readonly #mask: number;
  #used = 0;
  #hand = 0;
  /** No key can be expired before this second, as the last full round of the hand saw it. */
  #noneBeforeSec = 0;
  #roundSteps = 0;
  #roundOldestSec = 0;
  /** Means nothing: a read without a use would be left out by the compiler. */
  #approached = 0;

  constructor(maxKeys: number) {
    this.maxKeys = maxKeys;
    let slots = 16;
    while (slots < 2 * maxKeys) slots *= 2;
    this.#slots = new Int32Array(slots * STRIDE);
    this.#mask = slots - 1;
  }

  get used(): number {
    return this.#used;
  }

  get memoryBytes(): number {
    return this.#slots.byteLength;
  }

  /**
   * Reads where a lookup of this key would begin, for nothing but to have it in the cache by then: many such reads wait for
   * memory at the same time, one lookup after the other does not.
   */
  approach(lo: number, hi: number): void {
    this.#approached ^= this.#slots[((slotHash(lo, hi) & this.#mask) << 2) + SEEN]!;
  }

  /** The slot of a key, or -1. Good until the next `insert`, `remove` or `sweep`. */
  find(lo: number, hi: number): number {
    const slots = this.#slots;
    let slot = slotHash(lo, hi) & this.#mask;
    for (;;) {
      const at = slot << 2;
      if (slots[at + SEEN] === 0) return -1;
      if (slots[at + LO] === lo && slots[at + HI] === hi) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }

  /** Notes that the key was seen, and gains it heat. */
  touch(slot: number, nowSec: number): void {
    const at = slot << 2;
    this.#slots[at + SEEN] = nowSec;
    const meta = this.#slots[at + META]!;
    if ((meta & 0xff) < HEAT_MAX) this.#slots[at + META] = meta + 1;
  }

  seenSec(slot: number): number {
    return this.#slots[(slot << 2) + SEEN]!;
  }

  metricId(slot: number): number {
    return this.#slots[(slot << 2) + META]! >>> 8;
  }

  /**
   * Takes in a key that is not in the table.
   * @returns false when the table is at `maxKeys`; it never grows
   */
  insert(lo: number, hi: number, metricId: number, nowSec: number): boolean {
    if (this.#used >= this.maxKeys) return false;
    const slots = this.#slots;
    let slot = slotHash(lo, hi) & this.#mask;
    while (slots[(slot << 2) + SEEN] !== 0) slot = (slot + 1) & this.#mask;
    const at = slot << 2;
    slots[at + LO] = lo;
    slots[at + HI] = hi;
    slots[at + SEEN] = nowSec;
    slots[at + META] = metricId << 8;
    this.#used++;
    return true;
  }

  remove(slot: number): void {
    const slots = this.#slots;
    const mask = this.#mask;
    let hole = slot;
    let next = slot;
    for (;;) {
      next = (next + 1) & mask;
      const at = next << 2;
      if (slots[at + SEEN] === 0) break;
      const home = slotHash(slots[at + LO]!, slots[at + HI]!) & mask;
      // The entry may fill the hole unless its home lies after the hole: then a lookup would no longer pass by.
      if (((next - home) & mask) >= ((next - hole) & mask)) {
        slots.copyWithin(hole << 2, at, at + STRIDE);
        hole = next;
      }
    }
    slots[(hole << 2) + SEEN] = 0;
    this.#used--;
  }

  /**
   * Moves the hand of the clock over up to `steps` slots. An expired key it comes by loses half its heat, and goes when
   * none is left: so of all expired keys the coldest goes first, and a key seen within `ttlSec` never does.
   * @param onEvict metric id and last second seen of each key that went
   * @param wanted stop after that many evictions
   * @returns how many went
   */
  sweep(
    steps: number,
    nowSec: number,
    ttlSec: number,
    wanted: number,
    onEvict: (metricId: number, seenSec: number) => void,
  ): number {
    const expiredBefore = nowSec - ttlSec;
    if (this.#noneBeforeSec >= expiredBefore) return 0;
    const slots = this.#slots;
    let evicted = 0;
    for (let step = 0; step < steps; step++) {
      const at = this.#hand << 2;
      const seen = slots[at + SEEN]!;
      if (seen !== 0 && seen < expiredBefore) {
        const meta = slots[at + META]!;
        const heat = meta & 0xff;
        if (heat === 0) {
          this.remove(this.#hand); // another key may have moved here: the hand stays
          onEvict(meta >>> 8, seen);
          if (++evicted >= wanted) return evicted;
          continue;
        }
        slots[at + META] = (meta & ~0xff) | (heat >> 1);
      }
      if (seen !== 0 && seen < this.#roundOldestSec) this.#roundOldestSec = seen;
      this.#hand = (this.#hand + 1) & this.#mask;
      if (++this.#roundSteps > this.#mask) {
        // Seen-times only grow, so until the oldest key of this round expires there is nothing to look for.
        this.#noneBeforeSec = this.#roundOldestSec;
        this.#roundSteps = 0;
        this.#roundOldestSec = nowSec;
        if (this.#noneBeforeSec >= expiredBefore) return evicted;
      }
    }
    return evicted;
  }

  /** Evicts, coldest and oldest first, expired or not, until `used <= maxUsed`: for a budget that was taken away. */
  shrinkTo(maxUsed: number, onEvict: (metricId: number, seenSec: number) => void): void {
    if (this.#used <= maxUsed) return;
    const slots = this.#slots;
    const live: number[] = [];
    for (let slot = 0; slot <= this.#mask; slot++) if (slots[(slot << 2) + SEEN] !== 0) live.push(slot);
    const rank = (slot: number) => slots[(slot << 2) + SEEN]! * 256 + (slots[(slot << 2) + META]! & 0xff);
    live.sort((a, b) => rank(a) - rank(b));
    const doomed = live
      .slice(0, this.#used - maxUsed)
      .map((slot) => [slots[(slot << 2) + LO]!, slots[(slot << 2) + HI]!] as const);
    for (const [lo, hi] of doomed) {
      const slot = this.find(lo, hi);
      onEvict(this.metricId(slot), this.seenSec(slot));
      this.remove(slot);
    }
  }

  /** Calls `visit` for every key: for moving to a table of another size. */
  forEach(visit: (lo: number, hi: number, metricId: number, seenSec: number) => void): void {
    const slots = this.#slots;
    for (let at = 0; at < slots.length; at += STRIDE) {
      if (slots[at + SEEN] !== 0)
        visit(slots[at + LO]!, slots[at + HI]!, slots[at + META]! >>> 8, slots[at + SEEN]!);
    }
  }

  /** The longest way a lookup of a present key goes, in slots: for tests and the report. */
  longestProbe(): number {
    let longest = 0;
    for (let slot = 0; slot <= this.#mask; slot++) {
      const at = slot << 2;
      if (this.#slots[at + SEEN] === 0) continue;
      const home = slotHash(this.#slots[at + LO]!, this.#slots[at + HI]!) & this.#mask;
      longest = Math.max(longest, ((slot - home) & this.#mask) + 1);
    }
    return longest;
  }
}
