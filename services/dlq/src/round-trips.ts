/** Times this long are slow only beside the best: below, it is the wait for a slot and noise. */
const FLOOR_MS = 1_500;
const SLOW_FACTOR = 3;
/** Fewer say nothing: a machine that stands still for a moment is not an upstream that is slow. */
const ENOUGH = 5;
/** By which the remembered best grows with each second that has answers: a route that got longer is believed in a minute. */
const BEST_GROWTH = 1.02;

/**
 * How long replayed batches take from the disk to the upstream's answer. When they take several times as long as they
 * can, the upstream, or the queue before it, has enough to do.
 */
export class RoundTrips {
  #bestMs = Number.POSITIVE_INFINITY;
  #sumMs = 0;
  #count = 0;

  add(ms: number): void {
    this.#sumMs += ms;
    this.#count++;
  }

  /** Whether those since it was last told were slow; not while they are too few. Call about once a second. */
  slow(): boolean {
    if (this.#count < ENOUGH) return false;
    const meanMs = this.#sumMs / this.#count;
    this.#sumMs = 0;
    this.#count = 0;
    this.#bestMs = Math.min(this.#bestMs * BEST_GROWTH, meanMs);
    return meanMs > Math.max(FLOOR_MS, this.#bestMs * SLOW_FACTOR);
  }
}
