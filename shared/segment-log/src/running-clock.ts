/**
 * How long an area's log has been open, over all runs, in ms. Retention uses it instead of a wall clock, so that a wrong clock
 * at start-up or a machine that was off does not make records expire.
 */
export class RunningClock {
  readonly #now: () => number;
  #startedAt: number;
  #before = 0;

  /** @param now must not jump while this runs; its absolute value does not matter */
  constructor(now: () => number) {
    this.#now = now;
    this.#startedAt = now();
  }

  /** Continues from the stored time of earlier runs. */
  resume(before: number): void {
    this.#before = before;
    this.#startedAt = this.#now();
  }

  get ms(): number {
    return this.#before + Math.max(0, this.#now() - this.#startedAt);
  }
}
