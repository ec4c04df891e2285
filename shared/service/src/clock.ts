/**
 * Unix time in whole ms that no step of the machine's clock moves: the wall clock when the process started, and what has
 * passed since. For whatever waits, expires or has a rate: by the wall clock an hour forth and back would stop it for an
 * hour, or let what is kept expire.
 */
export function steadyNow(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}
