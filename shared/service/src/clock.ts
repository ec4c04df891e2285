/**
 * Unix time in whole ms, independent of changes of the machine's clock: the wall clock at the start of the process plus the
 * time since. Use it for waits, expiry and rates: with the wall clock, a change by an hour would stop them for an hour, or
 * expire data early.
 */
export function steadyNow(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}
