/**
 * How long an area's log has been open, over all its runs, in ms. Retention goes by it: a wall clock that was wrong when
 * the process started, or the time that a machine was off, must not make what is kept expire.
 */
export class RunningClock {
  readonly #now: () => number;
  #startedAt: number;
  #before = 0;

  /** @param now does not jump while this runs, whatever it says */
  constructor(now: () => number) {
    this.#now = now;
    this.#startedAt = now();
  }

  /** Goes on from what an earlier run has written down. */
  resume(before: number): void {
    this.#before = before;
    this.#startedAt = this.#now();
  }

  get ms(): number {
    return this.#before + Math.max(0, this.#now() - this.#startedAt);
  }
}
