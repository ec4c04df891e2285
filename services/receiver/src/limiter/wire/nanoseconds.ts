import type { Halves } from '../hash.ts';
import { lessThan } from './reader.ts';

const MS_NS = 1_000_000;
const HALF = 2 ** 32;

/** Unix nanoseconds, unsigned 64-bit, in int32 halves; used for results, to avoid allocations. */
export class Nanoseconds {
  lo = 0;
  hi = 0;

  set(lo: number, hi: number): this {
    this.lo = lo | 0;
    this.hi = hi | 0;
    return this;
  }

  setMs(unixMs: number): this {
    // In halves, so that no product exceeds 2^53.
    const ms = Math.max(0, Math.floor(unixMs));
    const low = (ms % HALF) * MS_NS;
    return this.set(low % HALF, Math.floor(ms / HALF) * MS_NS + Math.floor(low / HALF));
  }

  /** Rounded down. */
  get ms(): number {
    const high = this.hi >>> 0;
    const rest = (high % MS_NS) * HALF + (this.lo >>> 0);
    return Math.floor(high / MS_NS) * HALF + Math.floor(rest / MS_NS);
  }

  copy({ lo, hi }: Halves): this {
    return this.set(lo, hi);
  }

  /** The later of the two. */
  max(lo: number, hi: number): this {
    return lessThan(this.lo, this.hi, lo, hi) ? this.set(lo, hi) : this;
  }

  /** The earlier of the two. */
  min(lo: number, hi: number): this {
    return lessThan(lo, hi, this.lo, this.hi) ? this.set(lo, hi) : this;
  }

  /** @param ns below 2^31 */
  add(ns: number): this {
    const low = (this.lo >>> 0) + ns;
    return this.set(low, this.hi + (low > 0xffffffff ? 1 : 0));
  }

  /** Down to 0. */
  minus(lo: number, hi: number): this {
    if (lessThan(this.lo, this.hi, lo, hi)) return this.set(0, 0);
    const low = (this.lo >>> 0) - (lo >>> 0);
    return this.set(low, this.hi - hi - (low < 0 ? 1 : 0));
  }

  isBefore(lo: number, hi: number): boolean {
    return lessThan(this.lo, this.hi, lo, hi);
  }
}
