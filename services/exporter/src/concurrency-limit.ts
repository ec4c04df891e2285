/** Per-sample inflation of the minimum round-trip time, so that a permanently slower path becomes the new baseline. */
const BEST_DECAY = 1.002;
/** A round trip this many times the minimum means that requests queue at the upstream. */
const SLOW_FACTOR = 3;
/** Round trips below this are never slow: they are within noise. */
const SLOW_FLOOR_MS = 50;
const DECREASE = 0.7;
/** Minimum time between two decreases, so that one incident causes only one. */
const DECREASE_EVERY_MS = 200;

/**
 * Limit on requests in flight: additive increase, multiplicative decrease. It grows by one per window of successes while
 * requests wait for it, and falls by 30 % when the upstream answers 429 or 503, is unreachable, or answers much slower than its
 * minimum. (Jacobson, 1988; TCP's AIMD with a delay signal.)
 */
export class ConcurrencyLimit {
  readonly #min: number;
  readonly #max: number;
  #limit: number;
  #bestMs = Number.POSITIVE_INFINITY;
  #smoothMs = 0;
  #decreasedAtMs = Number.NEGATIVE_INFINITY;

  constructor(min: number, max: number) {
    this.#min = min;
    this.#max = max;
    this.#limit = max;
  }

  /** Whole requests, between minimum and maximum. */
  get current(): number {
    return Math.floor(this.#limit);
  }

  /** @param crowded whether the limit was reached: raising it helps only then. @returns the new limit */
  observe(answer: 'ok' | 'overload', tookMs: number, crowded: boolean, nowMs: number): number {
    if (answer === 'ok') {
      this.#smoothMs = this.#smoothMs === 0 ? tookMs : this.#smoothMs * 0.9 + tookMs * 0.1;
      this.#bestMs = Math.min(this.#bestMs * BEST_DECAY, tookMs);
    }
    const slow = this.#smoothMs > Math.max(SLOW_FLOOR_MS, this.#bestMs * SLOW_FACTOR);
    if (answer === 'overload' || (slow && crowded)) {
      if (nowMs - this.#decreasedAtMs >= DECREASE_EVERY_MS) {
        this.#limit = Math.max(this.#min, this.#limit * DECREASE);
        this.#decreasedAtMs = nowMs;
      }
    } else if (crowded) {
      this.#limit = Math.min(this.#max, this.#limit + 1 / this.#limit);
    }
    return this.current;
  }
}
