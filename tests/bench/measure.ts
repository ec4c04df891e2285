/** One measurement: a load through a running system into the sink, with what the operating system says it took. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Workload, waitUntil } from '@nrdot/testbed';
import { monotonicMs } from './clock.ts';
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
  /** By process, and in all: CPU ms per second, at `itemsPerSecond`. */
  cpu: Record<string, number>;
  cpuMsPerSecond: number;
  /** 0 where nothing came in, like all that is said of items then. */
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
}

const ARRIVE_TIMEOUT_MS = 60_000;

let runs = Math.floor(Math.random() * 0x7fffffff);

/** A number that no other run of this process has. */
export function nextRun(): number {
  return ++runs;
}

/** Loads a system in a closed loop of two connections, until all of it has arrived; nothing is measured. */
export async function heat(
  system: RunningSystem,
  sink: Sink,
  { batchSize, encoding, signals, metricKinds }: Case['workload'],
  durationMs: number,
): Promise<void> {
  const run = nextRun();
  await sink.expect({ run, batchSize, batches: 0, delayMs: 0 });
  const { acknowledgedItems } = await send({
    ...{ endpoint: system.otlp, run, rate: 0, connections: 2, durationMs, batchSize },
    ...(encoding ? { encoding } : {}),
    ...(signals ? { signals } : {}),
    ...(metricKinds ? { metricKinds } : {}),
  });
  await arrival(sink, run, acknowledgedItems, ARRIVE_TIMEOUT_MS);
}

/** Waits until so much has arrived, or gives up: what is missing is told as lost. */
async function arrival(sink: Sink, run: number, items: number, timeoutMs: number): Promise<void> {
  const what = 'everything acknowledged arrived';
  const enough = async () => (await sink.count(run)) >= items;
  await waitUntil(enough, { what, timeoutMs, everyMs: 100 }).catch(() => {});
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
  await arrival(sink, run, sent.acknowledgedItems, what.arrivalTimeoutMs ?? ARRIVE_TIMEOUT_MS);
  sampler.stop();
  const arrived = await sink.arrivals(run);

  const { completeAtMs, lastAtMs } = arrived;
  const { startedAtMs } = sent;
  const dueMs = (batch: number) => startedAtMs + (batch * batchSize * 1000) / rate;
  const fromMs = open
    ? startedAtMs + timing.warmUpMs
    : startedAtMs + (lastAtMs - startedAtMs) * (timing.warmUpMs / wholeMs);
  const endMs = open ? dueMs(batches) : lastAtMs;
  // A system that falls behind its schedule has not done the work of the window when the window ends: what it spends
  // until the last item has arrived is set against all that arrived.
  const toMs = Math.max(endMs, lastAtMs);
  const completeIn = (to: number) => completeAtMs.filter((at) => at >= fromMs && at <= to).length * batchSize;
  const arrivedItems = system.withoutIds ? ((endMs - fromMs) * rate) / 1000 : completeIn(toMs);
  const itemsPerSecond = open ? rate : (arrivedItems * 1000) / (toMs - fromMs);
  const cpuMsPerItem = Object.entries(sampler.cpuBetween(fromMs, toMs)).map(
    ([name, ms]): [string, number] => [name, ms / arrivedItems],
  );
  const cpuAllMs = cpuMsPerItem.reduce((sum, [, ms]) => sum + ms, 0);
  const late = completeAtMs.flatMap((at, batch) =>
    open && at > 0 && dueMs(batch) >= fromMs ? [at - dueMs(batch)] : [],
  );
  const distinct = system.withoutIds ? arrived.items : completeAtMs.filter((at) => at > 0).length * batchSize;
  return {
    items: sent.acknowledgedItems,
    lostItems: Math.max(0, sent.acknowledgedItems - distinct),
    twiceItems: Math.max(0, arrived.items - sent.items),
    itemsPerSecond,
    arrivedPerSecond: (completeIn(endMs) * 1000) / (endMs - fromMs),
    cpu: Object.fromEntries(cpuMsPerItem.map(([name, ms]) => [name, ms * itemsPerSecond])),
    cpuMsPerSecond: cpuAllMs * itemsPerSecond,
    cpuUsPerItem: cpuAllMs * 1000,
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
  };
}

/** What a system spends that nobody sends to: it is left alone for the warm-up, and then watched. */
export async function measureIdle(system: RunningSystem, timing: Timing): Promise<Measurement> {
  await sleep(timing.warmUpMs);
  const sampler = new Sampler(system.roots).start();
  const fromMs = monotonicMs();
  await sleep(timing.measureMs);
  const toMs = monotonicMs();
  sampler.stop();
  const perSecond = Object.entries(sampler.cpuBetween(fromMs, toMs)).map(([name, ms]): [string, number] => [
    name,
    (ms * 1000) / (toMs - fromMs),
  ]);
  const nothing = { items: 0, lostItems: 0, twiceItems: 0, itemsPerSecond: 0, arrivedPerSecond: 0 };
  return {
    ...nothing,
    ...{ cpuUsPerItem: 0, upstreamRequests: 0, upstreamBytes: 0, ack: { p50Ms: 0, p99Ms: 0, p999Ms: 0 } },
    cpu: Object.fromEntries(perSecond),
    cpuMsPerSecond: perSecond.reduce((sum, [, ms]) => sum + ms, 0),
    memory: sampler.memorySince(fromMs),
  };
}
