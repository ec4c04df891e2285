/** One measurement: a load through a running system into the sink, with what the operating system says it took. */
import { loadavg } from 'node:os';
import { type Workload, waitUntil } from '@nrdot/testbed';
import { quantile } from './quantile.ts';
import { type MemoryUse, Sampler } from './sampler.ts';
import type { RunningSystem } from './system.ts';
import { type Sink, send } from './upstream.ts';

export interface Case {
  name: string;
  workload: Partial<Workload> & { batchSize: number };
  /** Answers of the upstream take this long. */
  delayMs?: number;
  /** How long what was acknowledged may take to arrive after the last request; a minute when absent. */
  arrivalTimeoutMs?: number;
  /** Measured at most so many times, however many repetitions a run has. */
  repetitions?: number;
  /** Where it differs from that of the run, in seconds. */
  seconds?: { warmUp: number; measured: number };
}

export interface Timing {
  warmUpMs: number;
  measureMs: number;
}

interface Quantiles {
  p50Ms: number;
  p99Ms: number;
  p999Ms: number;
}

export interface Measurement {
  items: number;
  lostItems: number;
  twiceItems: number;
  /** At a rate, that; in a closed loop, what arrived per second while it was measured. */
  itemsPerSecond: number;
  /** Items of whole batches that arrived per second while it was measured. */
  arrivedPerSecond: number;
  /** By process, and in all: CPU ms per second. */
  cpu: Record<string, number>;
  cpuMsPerSecond: number;
  cpuUsPerItem: number;
  memory: Record<string, MemoryUse>;
  /**
   * From when a request was due to when the last of its items was at the upstream, ms. Not known for a system that sends
   * in a format without ids, and of no meaning in a closed loop.
   */
  latency?: Quantiles;
  /** From when a request was due to its 200, ms. */
  ack: Quantiles;
  upstreamRequests: number;
  upstreamBytes: number;
  loadAverage: number;
}

const ARRIVE_TIMEOUT_MS = 60_000;

let runs = Math.floor(Math.random() * 0x7fffffff);

/** A number that no other run of this process has. */
export function nextRun(): number {
  return ++runs;
}

/**
 * Sends a load and measures what the system spent on it. At a rate, the schedule is open: requests are due when they
 * are due, and latency counts from then. Without a rate it is a closed loop of `connections` senders for so long, or
 * until `items` are sent.
 */
export async function measure(
  system: RunningSystem,
  sink: Sink,
  what: Case,
  timing: Timing,
): Promise<Measurement> {
  const { batchSize } = what.workload;
  const rate = what.workload.rate ?? 10_000;
  const open = rate > 0;
  const wholeMs = timing.warmUpMs + timing.measureMs;
  const items = open
    ? Math.ceil((wholeMs * rate) / 1000 / batchSize) * batchSize
    : (what.workload.items ?? 0);
  const batches = Math.ceil(items / batchSize);
  const run = nextRun();
  await sink.expect({ run, batchSize, batches, delayMs: what.delayMs ?? 0 });
  const sampler = new Sampler(system.roots).start();
  const sent = await send({
    ...what.workload,
    ...{ rate, items, run, endpoint: system.otlp, prepare: true, retry: true },
    ...(open ? {} : { durationMs: wholeMs }),
  });
  await waitUntil(async () => (await sink.count(run)) >= sent.acknowledgedItems, {
    what: 'everything acknowledged arrived',
    timeoutMs: what.arrivalTimeoutMs ?? ARRIVE_TIMEOUT_MS,
    everyMs: 100,
  }).catch(() => {}); // what is missing is told as lost
  sampler.stop();
  const arrived = await sink.arrivals(run);

  const { completeAtMs } = arrived;
  const { startedAtMs } = sent;
  const fromMs = open
    ? startedAtMs + timing.warmUpMs
    : startedAtMs + (arrived.lastAtMs - startedAtMs) * (timing.warmUpMs / wholeMs);
  const toMs = open ? startedAtMs + (batches * batchSize * 1000) / rate : arrived.lastAtMs;
  const cpu = sampler.cpuBetween(fromMs, toMs);
  const cpuAllMs = Object.values(cpu).reduce((sum, ms) => sum + ms, 0);
  const seconds = (toMs - fromMs) / 1000;
  const dueMs = (batch: number) => startedAtMs + (batch * batchSize * 1000) / rate;
  const late = completeAtMs.flatMap((at, batch) =>
    open && at > 0 && dueMs(batch) >= fromMs ? [at - dueMs(batch)] : [],
  );
  const inWindow = open
    ? ((toMs - fromMs) * rate) / 1000
    : completeAtMs.filter((at) => at >= fromMs).length * batchSize;
  const arrivedIn = completeAtMs.filter((at) => at >= fromMs && at <= toMs).length * batchSize;
  const distinct = system.withoutIds ? arrived.items : completeAtMs.filter((at) => at > 0).length * batchSize;
  return {
    items: sent.acknowledgedItems,
    lostItems: Math.max(0, sent.acknowledgedItems - distinct),
    twiceItems: Math.max(0, arrived.items - sent.items),
    itemsPerSecond: inWindow / seconds,
    arrivedPerSecond: arrivedIn / seconds,
    cpu: Object.fromEntries(Object.entries(cpu).map(([name, ms]) => [name, ms / seconds])),
    cpuMsPerSecond: cpuAllMs / seconds,
    cpuUsPerItem: (cpuAllMs * 1000) / inWindow,
    memory: sampler.memorySince(fromMs),
    ...(late.length > 0
      ? {
          latency: {
            p50Ms: quantile(late, 0.5),
            p99Ms: quantile(late, 0.99),
            p999Ms: quantile(late, 0.999),
          },
        }
      : {}),
    ack: sent.ack,
    upstreamRequests: arrived.requests,
    upstreamBytes: arrived.wireBytes,
    loadAverage: loadavg()[0] ?? 0,
  };
}
