import { CLASSES, type MoveOptions, type Store, type WakeSignal } from '@nrdot/queue';
import { RateMeter } from '@nrdot/status';
import type { Logger, Metrics } from '@nrdot/telemetry';

export interface SchedulerOptions extends MoveOptions {
  /** Maximum sleep in ms: bounds the delay after a lost wake signal. */
  pollMs: number;
}

export interface SchedulerDeps {
  store: Store;
  /** There may be something to decide. */
  wakeSignal: Pick<WakeSignal, 'wait' | 'close'>;
  log: Logger;
  metrics: Metrics;
  now(): number;
}

const FAULT_DELAY_MS = 500;
const DRAIN_JOBS = 128;
const RATE_SPAN_MS = 10_000;
const RATE_EVERY_MS = 1_000;
/** Minimum wait, so that a due probe does not wait for the poll; Redis counts whole ms. */
const SHORTEST_SLEEP_MS = 5;

/**
 * Moves batches to the exporters. It waits until a batch arrives or an export ends, then moves weighted windows until the
 * export queue is full or nothing waits; while the breaker of a signal is open, it spills that signal's batches to the dlq. All
 * state is in Redis and every step is one script, so any number of schedulers may run.
 */
export class Scheduler {
  #options: SchedulerOptions;
  readonly #deps: SchedulerDeps;
  readonly #done: Promise<void>;
  readonly #rate = new RateMeter(RATE_SPAN_MS, Number.POSITIVE_INFINITY, RATE_EVERY_MS);
  #decisions = 0;
  #stopping = false;

  constructor(options: SchedulerOptions, deps: SchedulerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#done = this.#run();
  }

  get weights(): SchedulerOptions['weights'] {
    return this.#options.weights;
  }

  /** Jobs moved by this scheduler per second, over about the last ten seconds. */
  get decisionsPerSecond(): number {
    this.#countDecisions(0);
    return this.#rate.perSecond('decisions', performance.now());
  }

  setWeights(weights: SchedulerOptions['weights']): void {
    this.#options = { ...this.#options, weights };
  }

  #countDecisions(more: number): void {
    this.#decisions += more;
    this.#rate.record('decisions', 'own', this.#decisions, performance.now());
  }

  /** Stops after the move in flight; waiting batches stay in Redis. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#deps.wakeSignal.close();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { wakeSignal, log } = this.#deps;
    while (!this.#stopping) {
      try {
        const sleepMs = await this.#decide();
        if (!this.#stopping) await wakeSignal.wait(sleepMs);
      } catch (error) {
        if (this.#stopping) return;
        log.debug({ err: (error as Error).message }, 'could not schedule; will retry');
        await new Promise((resolve) => setTimeout(resolve, FAULT_DELAY_MS));
      }
    }
  }

  /** @returns how long to wait if nothing arrives, in ms */
  async #decide(): Promise<number> {
    const { store, metrics, now } = this.#deps;
    while (!this.#stopping) {
      const startedAt = performance.now();
      const result = await store.move(this.#options);
      metrics.apqMoveSeconds.observe((performance.now() - startedAt) / 1000);
      this.#countDecisions(result.jobs);
      for (const c of CLASSES)
        if (result.items[c] > 0) metrics.apqMovedItems.inc({ class: c }, result.items[c]);
      if (result.breaker === 'open') {
        const taken = await store.drain(DRAIN_JOBS, now());
        if (taken === DRAIN_JOBS || result.more) continue;
        return Math.max(SHORTEST_SLEEP_MS, Math.min(this.#options.pollMs, result.probeInMs));
      }
      if (!result.more) break;
    }
    return this.#options.pollMs;
  }
}
