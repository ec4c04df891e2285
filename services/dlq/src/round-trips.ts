/** Times below this are never slow: they are within the wait for a slot and noise. */
const FLOOR_MS = 1_500;
const SLOW_FACTOR = 3;
/** Minimum number of answers to judge by: a machine that freezes for a moment is not a slow upstream. */
const ENOUGH = 5;
/**
 * Growth of the remembered minimum per second with answers, so that a permanently slower path becomes the new baseline within a
 * minute.
 */
const BEST_GROWTH = 1.02;

/**
 * How long replayed batches take from the disk to the upstream's answer. Several times the minimum means that the upstream, or
 * the queue before it, is saturated.
 */
export class RoundTrips {
  #bestMs = Number.POSITIVE_INFINITY;
  #sumMs = 0;
  #count = 0;

  add(ms: number): void {
    this.#sumMs += ms;
    this.#count++;
  }

  /** Whether the round trips since the last call were slow; false if there were too few. Call about once a second. */
  slow(): boolean {
    if (this.#count < ENOUGH) return false;
    const meanMs = this.#sumMs / this.#count;
    this.#sumMs = 0;
    this.#count = 0;
    this.#bestMs = Math.min(this.#bestMs * BEST_GROWTH, meanMs);
    return meanMs > Math.max(FLOOR_MS, this.#bestMs * SLOW_FACTOR);
  }
}
