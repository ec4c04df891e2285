import type { Failed } from '@nrdot/queue';

/** Limit of the memory. A forgotten batch starts afresh: it is retried more often, never lost. */
const REMEMBERED_MAX = 10_000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 60_000;

/** The history of a replayed batch that the upstream has not accepted. */
export interface Failure {
  /** How often it was returned. */
  times: number;
  /** How often it was returned while others of its signal were delivered: then the batch is at fault, not the upstream. */
  whileOthersPassed: number;
  /** Attempts in total. */
  attempts: number;
  message: string;
  /** Time of the last return; Unix ms. */
  atMs: number;
  /** How often all its attempts failed without being cut short by an open breaker, and when that last happened; Unix ms. */
  inVain: number;
  inVainAtMs: number;
  /** Earliest next attempt; Unix ms. */
  notBeforeMs: number;
  /**
   * Earliest time for being a probe. Probes fail during an outage through no fault of the batch, which must not wait once it is
   * over.
   */
  noProbeBeforeMs: number;
}

const NONE = { times: 0, whileOthersPassed: 0, attempts: 0, inVain: 0, inVainAtMs: 0, notBeforeMs: 0 };

/**
 * Batches that the upstream did not accept. Each waits longer after every return, so that a batch that always fails neither
 * serves as every probe of a half-open breaker nor is sent again and again.
 */
export class Failures {
  readonly #byKey = new Map<string, Failure>();

  of(key: string): Failure | undefined {
    return this.#byKey.get(key);
  }

  /** @param isOpen the breaker has opened meanwhile, so that the return says nothing about the batch */
  add(
    key: string,
    { attempts, message }: Failed,
    { isOpen, othersPassed }: { isOpen: boolean; othersPassed: boolean },
    nowMs: number,
  ): void {
    const before = this.#byKey.get(key) ?? NONE;
    const times = before.times + 1;
    const inVain = before.inVain + (isOpen ? 0 : 1);
    this.#byKey.delete(key);
    this.#byKey.set(key, {
      times,
      whileOthersPassed: before.whileOthersPassed + (othersPassed && !isOpen ? 1 : 0),
      attempts: before.attempts + attempts,
      message,
      atMs: nowMs,
      inVain,
      inVainAtMs: isOpen ? before.inVainAtMs : nowMs,
      notBeforeMs: isOpen ? before.notBeforeMs : nowMs + waitMs(inVain),
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
