import { setTimeout as sleep } from 'node:timers/promises';
import { type Batch, newBatchId, Store } from '@nrdot/queue';
import { BatchMaker, waitUntil, workload } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import type { LoadReport } from '../load.ts';
import { nextRun } from '../measure.ts';
import { cpuNow, memoryNow, Sampler } from '../sampler.ts';
import type { RunningSystem } from '../system.ts';
import { onePipeline } from '../systems.ts';
import { send } from '../upstream.ts';
import { form, type Growth, type Stand, short, spentMs, total } from './growth.ts';

/** Batches per round trip while the backlog is laid down. */
const GROUP = 500;
const LIVE = { rate: 10_000, batchSize: 500, encoding: 'gzip' } as const;
const WARM_UP_MS = 2_000;
const IN_MS = 4_000;
/** What leaves is looked at for so long, and on a slow machine until so many have left. */
const OUT_MS = 3_000;
const OUT_BATCHES = 20_000;
const OUT_TIMEOUT_MS = 60_000;
const SETTLE_MS = 1_000;
const MIB = 1048576;
/** Far above what is laid down: neither spilling nor a full Redis is measured here. */
const ROOM = {
  queue: { max_bytes: '8GiB', max_items: 1_000_000_000 },
  redis: { private: { maxmemory: '12GiB' } },
};

export const backlog: Growth = {
  title: 'Batches waiting',
  about:
    'Batches of one span are laid down through the product’s own store until so many wait, while the export queue is paused. The pipeline is started again on them (time until it answers, memory). Then 20 requests/s of 500 spans come in on top, which gives the cost of taking a batch in, and the pause ends: what leaves in the next seconds gives the cost of sending one on (with nothing laid down, those of 500 spans). Waiting batches of one signal and class leave several in one request. Both should be flat; start-up and the memory of Redis grow with what waits, the memory of Node does not.',
  x: 'batches waiting',
  show: short,
  scale: 'log',
  charts: [
    {
      name: 'cost',
      title: 'CPU per batch, Redis included',
      unit: 'ms',
      lines: { inMs: 'taken in, 500 spans', outMs: 'sent on, 1 span' },
    },
    {
      name: 'latency',
      title: 'From due to 200',
      unit: 'ms',
      lines: { ackP50Ms: 'p50', ackP99Ms: 'p99' },
    },
    {
      name: 'start',
      title: 'Start-up until it answers',
      unit: 's',
      lines: { startS: 'time', startCpuS: 'CPU' },
    },
    {
      name: 'memory',
      title: 'Resident memory after start-up',
      unit: 'MiB',
      lines: { nodeMiB: 'Node', redisMiB: 'Redis' },
    },
  ],
  points: [0, 1_000, 10_000, 100_000],
  seconds: 75,
  long: { points: [1_000_000], seconds: 150 },
  run: steps,
};

async function* steps({ dir, sink, say }: Stand, sizes: readonly number[]) {
  const pipeline = onePipeline(form(ROOM));
  let system = await pipeline.start(dir, sink.url);
  try {
    for (const size of sizes) {
      const redis = connected(system);
      const store = storeOn(redis);
      try {
        await pause(redis, store, true);
        await redis.config('SET', 'appendfsync', 'no'); // until the restart: a million takes long enough
        await layDown(store, size - (await waiting(redis, store)));
        await unhurried(redis);
      } finally {
        redis.disconnect();
      }
      await system.stop();
      const startedAt = performance.now();
      system = await pipeline.start(dir, sink.url);
      const startS = (performance.now() - startedAt) / 1000;
      const startCpuS = total(cpuNow(system.roots)) / 1000;
      const values = { startS, startCpuS, ...(await costs(system)) };
      say(`${short(size)} waiting: ${JSON.stringify(values)}`);
      yield { x: size, values };
    }
  } finally {
    await system.stop();
  }
}

async function costs(system: RunningSystem): Promise<Record<string, number>> {
  const redis = connected(system);
  const store = storeOn(redis);
  try {
    await sleep(SETTLE_MS);
    await unhurried(redis); // the child that rewrites the AOF would count twice what it shares
    const memory = memoryNow(system.roots);
    // Nothing arrives upstream meanwhile: what is measured is the way in.
    const { inMs, ack } = await takenIn(system);
    await unhurried(redis);

    const [from, cpu, startedAt] = [await waiting(redis, store), cpuNow(system.roots), performance.now()];
    await pause(redis, store, false);
    const left = async () => from - (await waiting(redis, store));
    await waitUntil(
      async () => {
        const gone = await left();
        return gone === from || (gone >= OUT_BATCHES && performance.now() - startedAt > OUT_MS);
      },
      { what: 'batches were sent', timeoutMs: OUT_TIMEOUT_MS, everyMs: 50 },
    );
    const outMs = spentMs(cpu, cpuNow(system.roots)) / (await left());
    await pause(redis, store, true);
    return {
      inMs,
      outMs,
      ackP50Ms: ack.p50Ms,
      ackP99Ms: ack.p99Ms,
      nodeMiB: (memory['nrdot up']?.rss ?? 0) / MIB,
      redisMiB: (memory['redis-server']?.rss ?? 0) / MIB,
    };
  } finally {
    redis.disconnect();
  }
}

/** CPU ms per batch of the way in, and the time to its 200. */
async function takenIn(system: RunningSystem): Promise<{ inMs: number; ack: LoadReport['ack'] }> {
  const load = (ms: number) =>
    send({
      ...{ ...LIVE, endpoint: system.otlp, run: nextRun() },
      ...{ items: (LIVE.rate * ms) / 1000, prepare: true },
    });
  await load(WARM_UP_MS);
  const sampler = new Sampler(system.roots).start();
  const { startedAtMs, elapsedMs, batches, ack } = await load(IN_MS);
  sampler.stop();
  return { inMs: total(sampler.cpuBetween(startedAtMs, startedAtMs + elapsedMs)) / batches, ack };
}

/** Without another try: a pipeline that ended must end the measurement too, not leave it waiting for its Redis. */
function connected(system: RunningSystem): Redis {
  return new Redis(system.redisUrl!.replace('unix://', ''), { retryStrategy: () => null });
}

function storeOn(redis: Redis): Store {
  return new Store(redis, {
    prefix: '{nrdot}',
    maxBytes: Number.MAX_SAFE_INTEGER,
    maxItems: Number.MAX_SAFE_INTEGER,
    spillAt: 1,
    spillHysteresis: 0.1,
    breaker: {
      failures: 5,
      throttleRatio: 0.3,
      minAnswers: 10,
      windowMs: 30_000,
      minOpenMs: 1_000,
      maxOpenMs: 60_000,
    },
  });
}

/** Puts batches into the class queue of normal, as a receiver does. */
async function layDown(store: Store, count: number): Promise<void> {
  const maker = new BatchMaker(
    workload({ endpoint: 'http://localhost', batchSize: 1, encoding: 'identity' }),
    nextRun(),
  );
  const receivedAt = Date.now();
  const batch = (): Batch => ({
    id: newBatchId(receivedAt),
    signal: 'traces',
    class: 'normal',
    origin: 'live',
    encoding: 'identity',
    items: 1,
    receivedAt,
    payload: maker.make(1, receivedAt).body,
  });
  const group = (size: number) =>
    store.enqueue(
      Array.from({ length: size }, () => [batch()]),
      receivedAt,
    );
  let under = Promise.resolve<unknown>(undefined);
  for (let left = count; left > 0; left -= GROUP) {
    const next = group(Math.min(GROUP, left)); // made while Redis is busy with the one before
    await under;
    under = next;
  }
  await under;
}

async function waiting(redis: Redis, store: Store): Promise<number> {
  return Number((await redis.hget(store.keys.depth, 'total:batches')) ?? 0);
}

/** BullMQ's own mark of a queue that is paused. */
async function pause(redis: Redis, store: Store, paused: boolean): Promise<void> {
  const meta = store.keys.queue('export', 'meta');
  if (paused) await redis.hset(meta, 'paused', '1');
  else {
    await redis.hdel(meta, 'paused');
    await redis.zadd(store.keys.wake, 0, '0');
    await redis.zadd(store.keys.queue('export', 'marker'), 0, '0');
  }
}

/** Waits until Redis rewrites no AOF. */
async function unhurried(redis: Redis): Promise<void> {
  await waitUntil(
    async () => {
      const info = await redis.info('persistence');
      return /aof_rewrite_in_progress:0/.test(info) && /aof_rewrite_scheduled:0/.test(info);
    },
    { what: 'Redis has rewritten its AOF', timeoutMs: 120_000, everyMs: 100 },
  );
}
