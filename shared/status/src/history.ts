import { BREAKER_STATES, CLASSES } from '@nrdot/queue';
import { alignedInterval, oneRun } from '@nrdot/telemetry';
import { waitingOnDisk } from './findings.ts';
import type { PipelineStatus } from './pipeline-status.ts';

/** A quarter of an hour. */
const HISTORY_EVERY_MS = 5_000;
export const HISTORY_SAMPLES = 180;

/** Values of each sample; rates per second, `null` if unknown. */
const COLUMNS = {
  received: ({ rates }) => rates.received,
  delivered: ({ rates, books }) => books && rates.delivered,
  stored: ({ rates, books }) => books && rates.stored,
  replayed: ({ rates }) => rates.replayed,
  refusedRequests: ({ rates }) => rates.refusedRequests,
  limiterDropped: ({ rates }) => rates.limiterDropped,
  movedCritical: ({ rates, books }) => books && rates.moved.critical,
  movedHigh: ({ rates, books }) => books && rates.moved.high,
  movedNormal: ({ rates, books }) => books && rates.moved.normal,
  fill: ({ queue }) => queue?.fill,
  waiting: ({ queue }) =>
    queue &&
    CLASSES.reduce((sum, c) => sum + queue.classes[c].waiting.items + queue.classes[c].replay.items, 0),
  oldestAgeMs: ({ queue }) => queue && Math.max(...CLASSES.map((c) => queue.classes[c].oldestAgeMs)),
  onDisk: ({ dlq }) => dlq && waitingOnDisk(dlq),
  diskBytes: ({ dlq }) => dlq?.diskBytes,
  /** 0 closed, 1 open, 2 half-open. */
  breaker: ({ breaker }) => breaker && BREAKER_STATES.indexOf(breaker.state),
  keysUsed: ({ limiter }) => limiter?.keysUsed,
} satisfies Record<string, (status: PipelineStatus) => number | undefined>;

export type HistoryColumn = keyof typeof COLUMNS;

/** Columns of equal length, oldest first. */
export interface HistoryColumns {
  everyMs: number;
  at: number[];
  columns: Record<HistoryColumn, (number | null)[]>;
}

/**
 * The last fifteen minutes of one scheduler, in memory: a sample every five seconds, whether anybody watches or not, at most
 * 180. Survives a reload of the page, but not a restart of the process.
 */
export class History {
  readonly #read: () => Promise<PipelineStatus>;
  readonly #endTimer: () => void;
  readonly #samples: { at: number; values: Record<HistoryColumn, number | null> }[] = [];

  constructor(read: () => Promise<PipelineStatus>, everyMs = HISTORY_EVERY_MS) {
    this.#read = read;
    this.#endTimer = alignedInterval(() => void this.sample(), everyMs);
  }

  stop(): void {
    this.#endTimer();
  }

  readonly sample = oneRun(async () => {
    try {
      const status = await this.#read();
      const values = ofColumns((name) => {
        const value = COLUMNS[name](status);
        return value === undefined ? null : Math.round(value * 1_000) / 1_000;
      });
      this.#samples.push({ at: status.at, values });
      if (this.#samples.length > HISTORY_SAMPLES) this.#samples.shift();
    } catch {
      // On an error the sample is missing.
    }
  });

  columns(): HistoryColumns {
    const columns = ofColumns((name) => this.#samples.map(({ values }) => values[name]));
    return { everyMs: HISTORY_EVERY_MS, at: this.#samples.map(({ at }) => at), columns };
  }
}

function ofColumns<T>(value: (name: HistoryColumn) => T): Record<HistoryColumn, T> {
  const names = Object.keys(COLUMNS) as HistoryColumn[];
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<HistoryColumn, T>;
}
