/**
 * Unix time in whole ms, independent of changes of the machine's clock: the wall clock at the start of the process plus the
 * time since. Use it for waits, expiry and rates: with the wall clock, a change by an hour would stop them for an hour, or
 * expire data early.
 */
export function steadyNow(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}

/** A change of the machine's clock that lasted so long is followed. */
const LASTING_MS = 30_000;
/** What clocks that agree may differ by. */
const AGREE_MS = 1_000;

/**
 * Unix time in whole ms for what others read, such as the times of points. It is as steady as `steadyNow` while the machine's
 * clock is wrong for a moment, and follows a difference that lasts 30 s: the clock was set late (by NTP after the start), or the
 * machine was suspended, which a steady clock does not count.
 */
export class FollowingClock {
  readonly #steady: () => number;
  readonly #wall: () => number;
  #offsetMs = 0;
  /** A difference of the two clocks that may last, since when on the steady one. */
  #seen: { differenceMs: number; sinceMs: number } | undefined;

  constructor(steady: () => number = steadyNow, wall: () => number = Date.now) {
    this.#steady = steady;
    this.#wall = wall;
  }

  readonly now = (): number => {
    const steadyMs = this.#steady();
    const differenceMs = this.#wall() - steadyMs;
    if (Math.abs(differenceMs - this.#offsetMs) <= AGREE_MS) this.#seen = undefined;
    else if (!this.#seen || Math.abs(differenceMs - this.#seen.differenceMs) > AGREE_MS)
      this.#seen = { differenceMs, sinceMs: steadyMs };
    else if (steadyMs - this.#seen.sinceMs >= LASTING_MS) {
      this.#offsetMs = differenceMs;
      this.#seen = undefined;
    }
    return steadyMs + this.#offsetMs;
  };
}
