import { CLASSES, type MoveOptions, type Store } from '@nrdot/queue';
import type { Logger, Metrics } from '@nrdot/telemetry';

export interface SchedulerOptions extends MoveOptions {
  /** Longest sleep: what a lost wake-up costs at most, in ms. */
  pollMs: number;
}

export interface SchedulerDeps {
  /** For the moves. */
  store: Store;
  /** On a connection of its own: it blocks there until there is something to decide. */
  sleeper: Store;
  log: Logger;
  metrics: Metrics;
}

const FAULT_DELAY_MS = 500;

/**
 * Decides what goes next. It sleeps until a batch arrives or an export ends, then moves weighted windows until the
 * export queue is full or nothing waits. All state is in Redis and every move is one script, so any number may run.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #deps: SchedulerDeps;
  readonly #done: Promise<void>;
  #stopping = false;

  constructor(options: SchedulerOptions, deps: SchedulerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#done = this.#run();
  }

  /** Ends after the move under way; what waits stays in Redis. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#deps.sleeper.redis.disconnect(); // ends the blocking read
    await this.#done;
  }

  async #run(): Promise<void> {
    const { sleeper, log } = this.#deps;
    while (!this.#stopping) {
      try {
        await this.#moveAll();
        if (!this.#stopping) await sleeper.awaitWake(this.#options.pollMs);
      } catch (error) {
        if (this.#stopping) return;
        log.warn({ err: (error as Error).message }, 'could not schedule; will try again');
        await new Promise((resolve) => setTimeout(resolve, FAULT_DELAY_MS));
      }
    }
  }

  async #moveAll(): Promise<void> {
    const { store, metrics } = this.#deps;
    while (!this.#stopping) {
      const result = await store.move(this.#options);
      for (const c of CLASSES) {
        if (result.items[c] > 0) metrics.apqMovedItems.inc({ class: c }, result.items[c]);
      }
      if (result.jobs < this.#options.maxPicks) return;
    }
  }
}
