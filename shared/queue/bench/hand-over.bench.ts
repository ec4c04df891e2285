/**
 * What the queue costs a batch on its way through: enqueue, move, take, settle, in CPU of Redis and of Node, with Redis'
 * AOF fsynced. One batch at a time as at low load, and in groups as at saturation.
 * Run: node shared/queue/bench/hand-over.bench.ts
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type Batch, type JobData, newBatchId, Store } from '../src/index.ts';

const PAYLOAD_BYTES = 25 * 1024; // 500 spans, gzip
const WARM_UP = 300;
const MEASURED = 2_000;

const dir = mkdtempSync(join(tmpdir(), 'nrdot-queue-'));
const socket = join(dir, 'redis.sock');
const server = spawn(
  'redis-server',
  [
    ...['--port', '0', '--unixsocket', socket, '--dir', dir, '--save', ''],
    ...['--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0'],
  ],
  { stdio: 'ignore' },
);

async function connected(): Promise<Redis> {
  const redis = new Redis({ path: socket, retryStrategy: () => 20, maxRetriesPerRequest: null });
  redis.on('error', () => {});
  while ((await redis.ping().catch(() => '')) !== 'PONG') await sleep(10);
  return redis;
}

const payload = Buffer.alloc(PAYLOAD_BYTES, 0x5a);
const batch = (): Batch => {
  const receivedAt = Date.now();
  return {
    ...{ id: newBatchId(receivedAt), signal: 'traces', class: 'normal', origin: 'live', encoding: 'gzip' },
    ...{ items: 500, receivedAt, payload },
  } as Batch;
};

/** So many batches, in at once, then moved, taken and settled one by one as exporters do. */
async function through(store: Store, count: number): Promise<void> {
  await store.enqueue(
    Array.from({ length: count }, () => [batch()]),
    Date.now(),
  );
  await store.move({
    ...{ windowBatches: 64, windowBytes: 1 << 30, mergeBytes: 1, maxPicks: 64, slotMs: 500 },
    weights: { critical: 5, high: 3, normal: 1 },
  });
  const { jobs } = await store.take('export', {
    ...{ token: 'bench', lockMs: 30_000, maxJobs: count, maxBytes: 1 << 30 },
    ...{ alone: true, lookForLost: false },
  });
  if (jobs.length !== count) throw new Error(`${jobs.length} jobs taken of ${count}`);
  await Promise.all(
    jobs.map(({ id, data }) => {
      const job = JSON.parse(data) as JobData;
      return store.settle(
        job,
        'export',
        { outcome: 'delivered' },
        { queue: 'export', id, token: 'bench', ended: false },
      );
    }),
  );
}

async function redisCpuUs(redis: Redis): Promise<number> {
  const info = await redis.info('cpu');
  const of = (name: string) => Number(new RegExp(`${name}:([\\d.]+)`).exec(info)?.[1] ?? 0);
  // Without its background threads, which only fsync and free.
  return (of('used_cpu_sys_main_thread') + of('used_cpu_user_main_thread')) * 1e6;
}

try {
  const redis = await connected();
  const store = new Store(redis, {
    ...{ prefix: '{bench}', maxBytes: 1 << 30, maxItems: 1e9, spillAt: 0.95, spillHysteresis: 0.05 },
    breaker: {
      ...{ failures: 5, throttleRatio: 0.3, minAnswers: 10 },
      ...{ windowMs: 30_000, minOpenMs: 1_000, maxOpenMs: 60_000 },
    },
  });
  for (const size of [1, 16]) {
    for (let n = 0; n < WARM_UP; n += size) await through(store, size);
    const [before, usage, startedAt] = [await redisCpuUs(redis), process.cpuUsage(), performance.now()];
    for (let n = 0; n < MEASURED; n += size) await through(store, size);
    const { user, system } = process.cpuUsage(usage);
    const us = (value: number) => (value / MEASURED).toFixed(0).padStart(6);
    const text = size === 1 ? 'one at a time' : `${size} at a time`;
    console.log(`${us((await redisCpuUs(redis)) - before)} µs of Redis CPU per batch, ${text}`);
    console.log(`${us(user + system)} µs of Node CPU per batch, ${text}`);
    console.log(`${us((performance.now() - startedAt) * 1000)} µs of time per batch, ${text}`);
  }
  redis.disconnect();
} finally {
  server.kill();
  rmSync(dir, { recursive: true, force: true });
}
