/**
 * What a drain costs: requests wait in Redis, an exporter starts while its queue is paused, and then sends them on. Its start is
 * booked apart: it costs as much as some MiB do, and what it costs says nothing of them.
 * Run: node tests/bench/drain.ts, or against an earlier commit: node tests/bench/drain.ts --base main~5
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Process, TestRedis, temporaryDirectory, type Workload, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { monotonicMs } from './clock.ts';
import { checkOut, removeTree } from './earlier-tree.ts';
import { nextRun } from './measure.ts';
import { cpuNow } from './sampler.ts';
import { Sink, send } from './upstream.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ROUNDS = 3;
const TIMEOUT_MS = 300_000;
const MIB = 1048576;
/** As long as it takes an exporter that has started to come to rest. */
const REST_MS = 1_000;
const EXPORT_QUEUE = '{nrdot}:export';

/** Large requests leave as they came; small ones are joined. */
const BACKLOGS = {
  '1,000 requests of 500 spans': { items: 500_000, batchSize: 500 },
  '20,000 requests of 5 spans': { items: 100_000, batchSize: 5 },
} satisfies Record<string, Partial<Workload>>;

interface Drain {
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

async function drain(
  tree: string,
  sink: Sink,
  backlog: { items: number; batchSize: number },
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
      ...{ queue: room, redis: { url: redis.url } },
    }),
  );
  const started: Process[] = [];
  const start = async (service: string, ...flags: string[]) => {
    const args = [join(tree, 'dist/nrdot.js'), service, '--config', file, ...flags];
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

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function show(title: string, drains: readonly Drain[]): void {
  const mib = drains[0]!.bodyBytes / MIB;
  const of = (value: (drain: Drain) => number) => median(drains.map(value));
  process.stdout.write(
    `  ${title.padEnd(10)} ${of(({ seconds }) => mib / seconds).toFixed(1)} MiB/s of OTLP before compression, ` +
      `CPU per MiB: exporter ${of((d) => d.exporterMs / mib).toFixed(2)} ms, all with Redis ${of((d) => d.allMs / mib).toFixed(2)} ms; ` +
      `${of((d) => d.requests)} requests; start of the exporter ${of((d) => d.startMs)} ms\n`,
  );
}

/** Of the drains that followed each other: what else the machine does meets both. */
function showRatios(before: readonly Drain[], after: readonly Drain[]): void {
  const of = (value: (drain: Drain) => number) => {
    const ratios = after.map((drain, i) => value(drain) / value(before[i]!));
    return `${median(ratios).toFixed(2)} (${ratios.map((ratio) => ratio.toFixed(2)).join(', ')})`;
  };
  process.stdout.write(
    `  ratios of pairs: throughput ${of(({ seconds }) => 1 / seconds)}, CPU of the exporter ${of((d) => d.exporterMs)}, ` +
      `of all ${of((d) => d.allMs)}, start of the exporter ${of((d) => d.startMs)}\n`,
  );
}

async function compare(trees: Record<string, string>): Promise<void> {
  // What is run where it is used.
  for (const tree of Object.values(trees)) execFileSync(process.execPath, ['cli/build.ts'], { cwd: tree });
  const sink = await new Sink().start();
  try {
    for (const [title, backlog] of Object.entries(BACKLOGS)) {
      const drains: Record<string, Drain[]> = {};
      for (let round = 0; round < ROUNDS; round++) {
        // In turns, so that a busy moment of the machine meets both.
        for (const [name, tree] of Object.entries(trees)) {
          drains[name] ??= [];
          drains[name].push(await drain(tree, sink, backlog));
        }
      }
      process.stdout.write(`${title}, median of ${ROUNDS}:\n`);
      for (const [name, measured] of Object.entries(drains)) show(name, measured);
      const [before, after] = Object.values(drains);
      if (before && after) showRatios(before, after);
    }
  } finally {
    await sink.process.end('SIGTERM');
  }
}

const { values: flags } = parseArgs({ options: { base: { type: 'string' } } });
if (!flags.base) await compare({ now: ROOT });
else {
  using dir = temporaryDirectory();
  const tree = checkOut(flags.base, dir.path);
  try {
    await compare({ [flags.base]: tree, now: ROOT });
  } finally {
    removeTree(tree);
  }
}
