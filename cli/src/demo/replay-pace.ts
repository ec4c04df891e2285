import { type Finding, finding, unmeasured } from './finding.ts';

const MIB = 1024 * 1024;
const CAP = 4 * MIB;
export const WINDOW_SECONDS = 2;
/** In such a window: a burst of a quarter second, and the debt of one batch. */
const MOST = 1.25 * CAP;

/**
 * Whether replay kept its rate limit. The promise states its tolerance.
 * @param fastest bytes per second in the fastest window; 0 if there was none
 */
export function replayPace(fastest: number): Finding {
  const promise = `With live traffic, replay stays within ${CAP / MIB} MiB/s and a burst: at most ${MOST / MIB} MiB/s in any ${WINDOW_SECONDS} s`;
  if (fastest === 0) return unmeasured(promise, 'no replay was observed');
  const measured = `${(fastest / MIB).toFixed(1)} MiB/s in the fastest ${WINDOW_SECONDS} s`;
  return finding(promise, measured, fastest <= MOST);
}
