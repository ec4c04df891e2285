/** Share of the cap by which the rate grows in a second without overload. */
const GROW_PER_SECOND = 0.05;
const SHRINK = { throttled: 0.5, slow: 0.8 } as const;
/** Minimum rate, as a share of the cap: a replay that stands still looks like a fault. */
const FLOOR = 0.02;
/** Maximum burst after a pause, in seconds of the rate. */
const BURST_SECONDS = 0.25;

/**
 * Rate limit of replay: a token bucket in uncompressed payload bytes. The cap holds over any second; below it the rate follows
 * the upstream: halved in a second with more than a few 429s, reduced by a fifth in one with slow answers, raised by a
 * twentieth of the cap in each other second.
 */
export class ReplayRate {
  #cap: number;
  #rate: number;
  #tokens = 0;
  #filledAtMs: number;
  #adaptedAtMs: number;

  /** @param capBytesPerSecond above 0 */
  constructor(capBytesPerSecond: number, nowMs: number) {
    this.#cap = capBytesPerSecond;
    this.#rate = capBytesPerSecond;
    this.#filledAtMs = nowMs;
    this.#adaptedAtMs = nowMs;
  }

  /** The current rate. */
  get bytesPerSecond(): number {
    return this.#rate;
  }

  get cap(): number {
    return this.#cap;
  }

  /** Sets the cap; the rate keeps its share of it. */
  setCap(bytesPerSecond: number): void {
    this.#rate = (this.#rate / this.#cap) * bytesPerSecond;
    this.#cap = bytesPerSecond;
  }

  /**
   * Takes tokens for a batch. A batch larger than the bucket passes when the bucket is full and leaves a debt, so that the cap
   * holds over time and no batch is too large.
   * @returns 0 if it may be sent, otherwise the wait in ms
   */
  take(bytes: number, nowMs: number): number {
    const burst = this.#rate * BURST_SECONDS;
    this.#tokens = Math.min(
      burst,
      this.#tokens + (Math.max(0, nowMs - this.#filledAtMs) * this.#rate) / 1000,
    );
    this.#filledAtMs = nowMs;
    const wanted = Math.min(bytes, burst);
    if (this.#tokens >= wanted) {
      this.#tokens -= bytes;
      return 0;
    }
    return Math.max(1, Math.ceil(((wanted - this.#tokens) / this.#rate) * 1000));
  }

  /** Adapts the rate to the upstream's behaviour since the last call; call about once a second. */
  adapt(upstream: 'easy' | keyof typeof SHRINK, nowMs: number): void {
    const seconds = Math.min(5, Math.max(0, nowMs - this.#adaptedAtMs) / 1000);
    this.#adaptedAtMs = nowMs;
    this.#rate =
      upstream === 'easy'
        ? Math.min(this.#cap, this.#rate + this.#cap * GROW_PER_SECOND * seconds)
        : Math.max(this.#cap * FLOOR, this.#rate * SHRINK[upstream]);
  }
}
