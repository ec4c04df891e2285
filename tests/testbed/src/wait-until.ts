import { setTimeout as wait } from 'node:timers/promises';

export interface WaitOptions {
  /** What is waited for, in words, for the error. */
  what: string;
  /** On a quiet machine; a busy one is given more. */
  timeoutMs?: number;
  everyMs?: number;
}

/**
 * What a quiet machine does in one second takes a busy one several. A wait ends when its condition holds, so tests that pass
 * are not slower for it; the fault campaign, whose verdicts speak of time, leaves it at 1.
 */
const PATIENCE = Number(process.env.NRDOT_TEST_PATIENCE ?? 1);

/**
 * Waits until a condition holds and gives its value.
 * @throws Error that says what did not happen, and the last error of the condition if it threw
 */
export async function waitUntil<T>(
  condition: () => T | Promise<T>,
  { what, timeoutMs = 30_000, everyMs = 20 }: WaitOptions,
): Promise<NonNullable<T>> {
  const patienceMs = timeoutMs * PATIENCE;
  const deadline = performance.now() + patienceMs;
  let last: unknown;
  while (true) {
    try {
      last = undefined;
      const value = await condition();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      const why = last instanceof Error ? ` (${last.message})` : '';
      throw new Error(`waited ${patienceMs / 1000} s in vain until ${what}${why}`);
    }
    await wait(everyMs);
  }
}
