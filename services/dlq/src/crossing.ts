import { setTimeout as wait } from 'node:timers/promises';

/**
 * All writes from Redis to the disk pass here, so that they can be paused until none is in flight: only then do Redis and the
 * disk together show a consistent state.
 */
export class Crossing {
  #passing = 0;
  #held: Promise<void> | undefined;
  #empty: (() => void) | undefined;

  /** Runs `work` once no pause is active. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held) await this.#held;
    this.#passing++;
    try {
      return await work();
    } finally {
      if (--this.#passing === 0) this.#empty?.();
    }
  }

  /**
   * Pauses all writes while `work` runs; one pause at a time.
   * @param work gets whether no write is in flight: earlier ones may take longer than `patienceMs`
   */
  async hold<T>(patienceMs: number, work: (isStill: boolean) => Promise<T>): Promise<T> {
    const { promise, resolve: open } = Promise.withResolvers<void>();
    this.#held = promise;
    try {
      if (this.#passing > 0) {
        const empty = new Promise<void>((resolve) => {
          this.#empty = resolve;
        });
        await Promise.race([empty, wait(patienceMs, undefined, { ref: false })]);
      }
      return await work(this.#passing === 0);
    } finally {
      this.#held = undefined;
      open();
    }
  }
}
