import { setTimeout as wait } from 'node:timers/promises';
import { isDamage } from './errors.ts';

const PAUSES_MS = [100, 400, 1_000, 1_000];

/**
 * A disk that can't read now may read in a moment: a cable, a controller, a volume over the network. What is taken for damage is
 * given up, so it is asked again; of one file for 2.5 s in all, so that a bad one does not hold up the others.
 */
export class SecondTries {
  readonly #pauses = [...PAUSES_MS];

  /** @throws what the operation throws, at once when that is not EIO */
  async of<T>(operation: () => Promise<T>): Promise<T> {
    while (true) {
      try {
        return await operation();
      } catch (error) {
        const pauseMs = isDamage(error) ? this.#pauses.shift() : undefined;
        if (pauseMs === undefined) throw error;
        await wait(pauseMs);
      }
    }
  }
}
