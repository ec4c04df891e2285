/**
 * A store on a real redis-server of its own, for tests of what the pipeline's promises stand on. A file that calls `useStore`
 * has it from its first test on, emptied before each.
 */
import {
  type Batch,
  type JobData,
  newBatchId,
  type PriorityClass,
  Store,
  type StoreOptions,
  worstOf,
} from '@nrdot/queue';
import { connect, type RedisConnection } from '@nrdot/redis';
import { temporaryDirectory } from '@nrdot/testbed';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { type RedisServer, startRedis } from '../redis-server.ts';

export const OPTIONS: StoreOptions = {
  prefix: '{test}',
  maxBytes: 10_000_000,
  maxItems: 10_000_000,
  spillAt: 0.95,
  spillHysteresis: 0.05,
  breaker: {
    failures: 5,
    throttleRatio: 0.3,
    minAnswers: 10,
    windowMs: 30_000,
    minOpenMs: 100,
    maxOpenMs: 1_000,
  },
};
export const MOVE = {
  windowBatches: 64,
  windowBytes: 64_000_000,
  mergeBytes: 0,
  weights: { critical: 5, high: 3, normal: 1 },
  maxPicks: 64,
  slotMs: 500,
};

export let server: RedisServer;
export let redis: RedisConnection;
export let store: Store;

export const batch = (priorityClass: PriorityClass, items = 10, more: Partial<Batch> = {}): Batch => ({
  id: newBatchId(Date.now()),
  signal: 'traces',
  class: priorityClass,
  origin: 'live',
  encoding: 'identity',
  items,
  receivedAt: 1_700_000_000_000,
  payload: Buffer.alloc(100, 'p'),
  ...more,
});
export const enqueue = async (...batches: Batch[]) =>
  (
    await store.enqueue(
      batches.map((b) => [b]),
      Date.now(),
    )
  ).flat();
export const worstBreaker = async (of = store) => worstOf(await of.breakers());
export const open = () =>
  connect({ url: server.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
/** Payloads of a job's batches, in order; `null` where a batch was settled or handed over already. */
export const payloads = ({ batches }: JobData) =>
  redis.mgetBuffer(batches.map(({ key }) => store.keys.payload(key)));
/** Jobs in the export queue, next one first. */
export const exported = async () => {
  const ids = (await redis.lrange(store.keys.queue('export', 'wait'), 0, -1)).reverse();
  return Promise.all(
    ids.map(async (id) => JSON.parse((await redis.hget(store.keys.queue('export', id), 'data')) ?? '{}')),
  );
};

export function useStore(): void {
  const dir = temporaryDirectory();
  beforeAll(async () => {
    server = await startRedis({ dir: dir.path });
    redis = open();
    store = new Store(redis, OPTIONS);
  });
  beforeEach(async () => {
    await redis.flushall();
  });
  afterAll(async () => {
    redis.disconnect();
    await server[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });
}
