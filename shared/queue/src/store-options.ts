/** What a store is told of the pipeline it keeps. */
import type { PriorityClass } from './priority-class.ts';
import type { ReplicaOptions } from './replicas.ts';

export interface StoreOptions {
  /** Contains a hash tag, such as `{nrdot}`. */
  prefix: string;
  maxBytes: number;
  maxItems: number;
  /** What the queue of one class may hold of that; undefined: no limit of its own. */
  perClass?: Readonly<Record<PriorityClass, ClassCapacity>>;
  /** Fill (0 to 1) at which new arrivals of the lowest class spill, and how far it must fall for that to end. */
  spillAt: number;
  spillHysteresis: number;
  breaker: BreakerOptions;
  /** How much the export queue may hold when a batch goes straight to an exporter; without it none does. */
  exportWindow?: { batches: number; bytes: number };
  /** For a Redis with replicas that may be promoted: whoever is told that something is kept may rely on it then too. */
  replicas?: ReplicaOptions;
}

export interface ClassCapacity {
  maxBytes: number | undefined;
  maxItems: number | undefined;
}

/** When the breaker opens and for how long. */
export interface BreakerOptions {
  /** Failures in a row. */
  failures: number;
  /** Share of 429 among the answers in the window (0 to 1), of at least `minAnswers`. */
  throttleRatio: number;
  minAnswers: number;
  windowMs: number;
  /** Shortest and longest time open; it doubles from one failed probe to the next. */
  minOpenMs: number;
  maxOpenMs: number;
}
