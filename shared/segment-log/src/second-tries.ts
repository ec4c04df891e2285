import { setTimeout as wait } from 'node:timers/promises';
import { isDamage } from './errors.ts';

/** @throws the operation's error; at once unless it is EIO */
export type Retry = <T>(operation: () => Promise<T>) => Promise<T>;

const PAUSES_MS = [100, 400, 1_000, 1_000];

/**
 * Retries reads that fail with EIO, because damaged records are given up and a disk may recover: a cable, a controller, a
 * network volume. At most 2.5 s per file, so that a bad one does not block the others.
 */
export function secondTries(): Retry {
  const pauses = [...PAUSES_MS];
  return async (operation) => {
    while (true) {
      try {
        return await operation();
      } catch (error) {
        const pauseMs = isDamage(error) ? pauses.shift() : undefined;
        if (pauseMs === undefined) throw error;
        await wait(pauseMs);
      }
    }
  };
}
