import { type Finding, finding, unmeasured } from './finding.ts';

const MIB = 1024 * 1024;
const CAP = 4 * MIB;
export const WINDOW_SECONDS = 2;
/** With a bucket of a quarter second of burst, and the debt of one batch, in such a window. */
const MOST = 1.25 * CAP;

/**
 * Whether replay kept its pace. The promise names the tolerance by which it is judged.
 * @param fastest bytes per second in the fastest window; 0 when none was seen
 */
export function replayPace(fastest: number): Finding {
  const promise = `Beside live traffic replay stays within ${CAP / MIB} MiB/s and a burst: at most ${MOST / MIB} MiB/s in any ${WINDOW_SECONDS} s`;
  if (fastest === 0) return unmeasured(promise, 'nothing was seen to be replayed');
  const measured = `${(fastest / MIB).toFixed(1)} MiB/s in the fastest ${WINDOW_SECONDS} s`;
  return finding(promise, measured, fastest <= MOST);
}
