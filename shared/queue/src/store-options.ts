import type { Config } from '@nrdot/config';
import type { ReplicaOptions } from '@nrdot/redis';

export interface StoreOptions {
  /** Has a hash tag, such as `{nrdot}`. */
  prefix: string;
  maxBytes: number;
  maxItems: number;
  /** Limits of single classes within those of the queue; undefined for none. */
  perClass?: Config['queue']['perClass'];
  /** Fill level (0 to 1) above which new batches of the lowest class spill, and how far it must fall for that to stop. */
  spillAt: number;
  spillHysteresis: number;
  breaker: Config['breaker'];
  /** Limits of the export queue for batches that bypass the scheduler; without it none does. */
  exportWindow?: { batches: number; bytes: number };
  /** For a Redis whose replicas may be promoted: a batch is acknowledged only once enough of them have it. */
  replicas?: ReplicaOptions;
}
