/** One drain: requests wait in Redis, an exporter starts while its queue is paused, and then sends them on. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Process, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { monotonicMs } from './clock.ts';
import { nextRun } from './measure.ts';
import { cpuNow } from './sampler.ts';
import { type Sink, send } from './upstream.ts';

const TIMEOUT_MS = 300_000;
/** As long as it takes an exporter that has started to come to rest. */
const REST_MS = 1_000;
const EXPORT_QUEUE = '{nrdot}:export';

export interface Drain {
  /** From when the exporter may take the first request to the last item. */
  seconds: number;
  /** CPU of the exporter, and of all processes with Redis, in that time. */
  exporterMs: number;
  allMs: number;
  /** CPU of the exporter before. */
  startMs: number;
  /** Of OTLP before compression. */
  bodyBytes: number;
  requests: number;
}

/**
 * @param program of NRDOT+
 * @param options of it beside addresses and room
 */
export async function drain(
  program: string,
  sink: Sink,
  backlog: { items: number; batchSize: number },
  options: Record<string, object> = {},
): Promise<Drain> {
  using dir = temporaryDirectory();
  const redisDir = join(dir.path, 'redis');
  mkdirSync(redisDir);
  const redis = await TestRedis.start({ dir: redisDir });
  const client = new Redis(redis.url);
  const file = join(dir.path, 'nrdot.yaml');
  const any = { listen: '127.0.0.1:0' };
  const room = { max_bytes: '4GiB', max_items: 100_000_000 };
  writeFileSync(
    file,
    JSON.stringify({
      ...{ data_dir: join(dir.path, 'data'), receiver: any, admin: any, dlq: any },
      ...{ queue: room, redis: { url: redis.url }, ...options },
    }),
  );
  const started: Process[] = [];
  const start = async (service: string, ...flags: string[]) => {
    const args = [program, service, '--config', file, ...flags];
    const process_ = new Process(`nrdot ${service}`, process.execPath, args, {}, dir.path);
    started.push(process_);
    return process_;
  };
  try {
    const roots: Record<string, number> = { redis: redis.pid };
    for (const service of ['dlq', 'scheduler', 'receiver']) {
      const { pid } = await start(service);
      roots[service] = pid;
    }
    const [, address] = await started.at(-1)!.line(/"address":"([^"]+)","msg":"receiving/, 60_000);
    const run = nextRun();
    const batches = Math.ceil(backlog.items / backlog.batchSize);
    await sink.expect({ run, batchSize: backlog.batchSize, batches, delayMs: 0 });
    const load = await send({
      ...{ endpoint: `http://${address}`, run, rate: 0, connections: 8, encoding: 'gzip' },
      ...{ signals: { traces: 1 }, ...backlog },
    });
    if (load.acknowledgedItems !== backlog.items)
      throw new Error(`${load.acknowledgedItems} of ${backlog.items} items acknowledged: ${load.messages}`);
    // As BullMQ has it: nothing is taken, and nothing more is moved there.
    await client.hset(`${EXPORT_QUEUE}:meta`, 'paused', 1);
    const exporter = await start('exporter', '--upstream', sink.url);
    await exporter.line(/"msg":"exporting"/, 60_000);
    await wait(REST_MS);
    const startMs = sum(cpuNow({ exporter: exporter.pid }));
    const before = sum(cpuNow(roots));
    const fromMs = monotonicMs();
    await client.multi().hdel(`${EXPORT_QUEUE}:meta`, 'paused').zadd(`${EXPORT_QUEUE}:marker`, 0, '0').exec();
    await waitUntil(async () => (await sink.count(run)) >= backlog.items, {
      what: 'the drain',
      timeoutMs: TIMEOUT_MS,
    });
    const exporterMs = sum(cpuNow({ exporter: exporter.pid })) - startMs;
    const allMs = sum(cpuNow(roots)) - before + exporterMs;
    const { requests, lastAtMs } = await sink.arrivals(run);
    const seconds = (lastAtMs - fromMs) / 1e3;
    return { seconds, exporterMs, allMs, startMs, bodyBytes: load.bodyBytes, requests };
  } finally {
    client.disconnect();
    for (const process_ of started.reverse()) await process_.end('SIGTERM');
    await redis.stop();
  }
}

function sum(byName: Record<string, number>): number {
  return Object.values(byName).reduce((total, ms) => total + ms, 0);
}
