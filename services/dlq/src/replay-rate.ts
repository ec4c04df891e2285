/** Share of the cap by which the rate grows in a quiet second, and by which it shrinks in a crowded one. */
const GROW_PER_SECOND = 0.05;
const SHRINK = { throttled: 0.5, slow: 0.8 } as const;
/** Never slower than this share of the cap: a drain that stands still looks like a fault. */
const FLOOR = 0.02;
/** Bytes that may go at once after a pause, as seconds of the rate. */
const BURST_SECONDS = 0.25;

/**
 * The governor of replay: a token bucket in uncompressed payload bytes. The cap holds over any second; below it the
 * rate follows what the upstream says: halved in a second with more than a few 429, a fifth less in one with slow
 * answers, growing back by a twentieth of the cap in each second without.
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

  /** Bytes per second that may go now. */
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
   * Takes tokens for a batch. A batch larger than the bucket goes when the bucket is full and leaves a debt, so the
   * cap holds over time and no batch is too large to go.
   * @returns 0 when it may go, else how long to wait in ms
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

  /** Takes into account how the upstream was since the last call; call about once a second. */
  adapt(upstream: 'easy' | keyof typeof SHRINK, nowMs: number): void {
    const seconds = Math.min(5, Math.max(0, nowMs - this.#adaptedAtMs) / 1000);
    this.#adaptedAtMs = nowMs;
    this.#rate =
      upstream === 'easy'
        ? Math.min(this.#cap, this.#rate + this.#cap * GROW_PER_SECOND * seconds)
        : Math.max(this.#cap * FLOOR, this.#rate * SHRINK[upstream]);
  }
}
