import { setTimeout as wait } from 'node:timers/promises';

export interface WaitOptions {
  /** What is waited for, in words, for the error. */
  what: string;
  timeoutMs?: number;
  everyMs?: number;
}

/**
 * Waits until a condition holds and gives its value.
 * @throws Error that says what did not happen, and the last error of the condition if it threw
 */
export async function waitUntil<T>(
  condition: () => T | Promise<T>,
  { what, timeoutMs = 30_000, everyMs = 20 }: WaitOptions,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeoutMs;
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
      throw new Error(`waited ${timeoutMs / 1000} s in vain until ${what}${why}`);
    }
    await wait(everyMs);
  }
}
