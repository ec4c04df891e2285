/**
 * A bounded histogram of milliseconds: logarithmic buckets, 32 to each doubling, so a percentile is right to about
 * 2 % from one microsecond to more than an hour, in 8 KB whatever is recorded.
 */

const PER_DOUBLING = 32;
const MIN_MS = 0.001;
const BUCKETS = PER_DOUBLING * 32;

export interface LatencySummary {
  count: number;
  minMs: number;
  meanMs: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  p999Ms: number;
  maxMs: number;
}

export class LatencyHistogram {
  #buckets = new Float64Array(BUCKETS);
  #count = 0;
  #sum = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = 0;

  /** Records `count` values of `ms`. Negative ones (clocks of two processes) count as 0. */
  record(ms: number, count = 1): void {
    const value = Math.max(ms, 0);
    const index = value <= MIN_MS ? 0 : Math.floor(Math.log2(value / MIN_MS) * PER_DOUBLING) + 1;
    const bucket = index < BUCKETS ? index : BUCKETS - 1;
    this.#buckets[bucket] = this.#buckets[bucket]! + count;
    this.#count += count;
    this.#sum += value * count;
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  get count(): number {
    return this.#count;
  }

  /** The value below which the share `q` (0…1) lies: the middle of its bucket, never beyond the largest seen. */
  quantile(q: number): number {
    if (this.#count === 0) return 0;
    if (q >= 1) return this.#max;
    const rank = q * this.#count;
    let seen = 0;
    for (let i = 0; i < BUCKETS; i += 1) {
      seen += this.#buckets[i]!;
      if (seen > rank) {
        const middle = i === 0 ? MIN_MS : MIN_MS * 2 ** ((i - 0.5) / PER_DOUBLING);
        return Math.min(this.#max, Math.max(this.#min, middle));
      }
    }
    return this.#max;
  }

  merge(other: LatencyHistogram): void {
    for (let i = 0; i < BUCKETS; i += 1) this.#buckets[i] = this.#buckets[i]! + other.#buckets[i]!;
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }

  summary(): LatencySummary {
    const round = (ms: number) => Math.round(ms * 1000) / 1000;
    return {
      count: this.#count,
      minMs: this.#count === 0 ? 0 : round(this.#min),
      meanMs: this.#count === 0 ? 0 : round(this.#sum / this.#count),
      p50Ms: round(this.quantile(0.5)),
      p90Ms: round(this.quantile(0.9)),
      p99Ms: round(this.quantile(0.99)),
      p999Ms: round(this.quantile(0.999)),
      maxMs: round(this.#max),
    };
  }
}
