import type { ReplicaOptions } from '@nrdot/redis';
import type { PriorityClass } from './priority-class.ts';

export interface StoreOptions {
  /** Has a hash tag, such as `{nrdot}`. */
  prefix: string;
  maxBytes: number;
  maxItems: number;
  /** Limits of single classes within those of the queue; undefined for none. */
  perClass?: Readonly<Record<PriorityClass, ClassCapacity>>;
  /** Fill level (0 to 1) above which new batches of the lowest class spill, and how far it must fall for that to stop. */
  spillAt: number;
  spillHysteresis: number;
  breaker: BreakerOptions;
  /** Limits of the export queue for batches that bypass the scheduler; without it none does. */
  exportWindow?: { batches: number; bytes: number };
  /** For a Redis whose replicas may be promoted: a batch is acknowledged only once enough of them have it. */
  replicas?: ReplicaOptions;
}

export interface ClassCapacity {
  maxBytes?: number | undefined;
  maxItems?: number | undefined;
}

/** When a breaker opens, and for how long. */
export interface BreakerOptions {
  /** Consecutive failures. */
  failures: number;
  /** Share of 429s among at least `minAnswers` answers in the window (0 to 1). */
  throttleRatio: number;
  minAnswers: number;
  windowMs: number;
  /** Minimum and maximum time open; it doubles with each failed probe. */
  minOpenMs: number;
  maxOpenMs: number;
}
