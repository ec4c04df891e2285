/** How fast the remembered best round trip forgets, so that a route that got longer is believed in the end. */
const BEST_DECAY = 1.002;
/** A round trip this many times the best one says that requests wait at the upstream. */
const SLOW_FACTOR = 3;
/** Below this a round trip never counts as slow: it is noise. */
const SLOW_FLOOR_MS = 50;
const DECREASE = 0.7;
/** One decrease for all answers of one bad moment. */
const DECREASE_EVERY_MS = 200;

/**
 * How many requests may be in flight: additive increase, multiplicative decrease. It grows by one for each window of
 * good answers while the limit is what holds requests back, and falls by 30 % when the upstream says 429 or 503, is
 * lost, or answers much slower than it can. (Jacobson, 1988; TCP's AIMD with a delay signal.)
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

  /** Whole requests, between min and max. */
  get current(): number {
    return Math.floor(this.#limit);
  }

  /**
   * Takes one answer into account.
   * @param crowded whether as many requests were under way as the limit allows: only then does more room help
   * @returns the limit after it
   */
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
