import type { Failed } from '@nrdot/queue';

/** Remembered at once. One that is forgotten begins anew: it is tried more often, never lost. */
const REMEMBERED_MAX = 10_000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 60_000;

/** What is known of a replayed batch that the upstream did not take. */
export interface Failure {
  /** How often it came back. */
  times: number;
  /** How often it came back while others of its signal were taken: then it is the batch, not the upstream. */
  whileOthersPassed: number;
  /** Tries in all. */
  attempts: number;
  message: string;
  /** When it came back last; Unix ms. */
  atMs: number;
  /** How often all its tries were in vain, not ended by a breaker that opened, and when it was last; Unix ms. */
  inVain: number;
  inVainAtMs: number;
  /** It is not tried again before this; Unix ms. */
  notBeforeMs: number;
  /** It is no probe before this. An outage makes probes fail that have nothing wrong with them: they do not wait once it is over. */
  noProbeBeforeMs: number;
}

/**
 * Batches that came back from the upstream, so that one which fails for ever neither is each probe of a breaker that is half
 * open nor is sent again and again: each waits longer than the time before.
 */
export class Failures {
  readonly #byKey = new Map<string, Failure>();

  of(key: string): Failure | undefined {
    return this.#byKey.get(key);
  }

  /** @param isOpen the breaker has opened meanwhile: that it came back says nothing of it */
  add(
    key: string,
    { attempts, message }: Failed,
    { isOpen, othersPassed }: { isOpen: boolean; othersPassed: boolean },
    nowMs: number,
  ): void {
    const before = this.#byKey.get(key);
    const times = (before?.times ?? 0) + 1;
    const inVain = (before?.inVain ?? 0) + (isOpen ? 0 : 1);
    this.#byKey.delete(key);
    this.#byKey.set(key, {
      times,
      whileOthersPassed: (before?.whileOthersPassed ?? 0) + (othersPassed && !isOpen ? 1 : 0),
      attempts: (before?.attempts ?? 0) + attempts,
      message,
      atMs: nowMs,
      inVain,
      inVainAtMs: isOpen ? (before?.inVainAtMs ?? 0) : nowMs,
      notBeforeMs: isOpen ? (before?.notBeforeMs ?? 0) : nowMs + waitMs(inVain),
      noProbeBeforeMs: nowMs + waitMs(times),
    });
    if (this.#byKey.size > REMEMBERED_MAX) this.#byKey.delete(this.#byKey.keys().next().value!);
  }

  forget(key: string): void {
    this.#byKey.delete(key);
  }
}

function waitMs(times: number): number {
  return Math.min(WAIT_MAX_MS, WAIT_MIN_MS * 2 ** Math.min(times - 1, 20));
}
