import { clockMs } from '@nrdot/testbed';

/** Milliseconds of the machine's monotonic clock: the same for every process, and no step of the wall clock moves it. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** What to add to the testbed's clock in this process to have the monotonic one. */
export function toMonotonicMs(): number {
  return monotonicMs() - clockMs();
}
