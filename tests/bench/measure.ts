/** One measurement: a load through a running system into the sink, with what the operating system says it took. */
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Process, type Workload, waitUntil } from '@nrdot/testbed';
import { monotonicMs } from './clock.ts';
import type { LoadReport } from './load.ts';
import { cpuMs, memoryOf, nameOf, treeOf } from './process-tree.ts';
import type { Arrivals } from './sink.ts';
import type { RunningSystem } from './systems.ts';

export interface Case {
  name: string;
  workload: Partial<Workload> & { batchSize: number };
  /** Answers of the upstream take this long. */
  delayMs?: number;
}

export interface Timing {
  warmUpMs: number;
  measureMs: number;
}

export interface Measurement {
  items: number;
  lostItems: number;
  twiceItems: number;
  /** What arrived per second while it was measured. */
  itemsPerSecond: number;
  /** By process, and in all: CPU ms per second. */
  cpu: Record<string, number>;
  cpuMsPerSecond: number;
  cpuUsPerItem: number;
  /** Resident and proportional memory, bytes: median and highest of the samples, by process and in all. */
  memory: Record<string, { rss: number; rssPeak: number; pss: number; pssPeak: number }>;
  /** From when a request was due to when the last of its items was at the upstream, ms. */
  latency: { p50Ms: number; p99Ms: number; p999Ms: number };
  ack: { p50Ms: number; p99Ms: number; p999Ms: number };
  upstreamRequests: number;
  upstreamBytes: number;
  loadAverage: number;
}

const SAMPLE_MS = 100;
/** Memory is sampled less often than CPU: the kernel walks the page tables for it. */
const MEMORY_EVERY = 5;
const ARRIVE_TIMEOUT_MS = 60_000;

/** The upstream as a process of its own. */
export class Sink {
  readonly process: Process;
  url = '';

  constructor() {
    this.process = new Process('sink', process.execPath, [
      fileURLToPath(new URL('sink.ts', import.meta.url)),
    ]);
  }

  async start(): Promise<this> {
    [, this.url = ''] = await this.process.line(/sink on (\S+)/);
    return this;
  }

  async ask(what: string, query: Record<string, number>): Promise<string> {
    const text = new URLSearchParams(Object.entries(query).map(([k, v]): [string, string] => [k, String(v)]));
    const answer = await fetch(`${this.url}/_bench/${what}?${text}`);
    if (!answer.ok) throw new Error(`sink: ${what} answered ${answer.status}: ${this.process.output(3)}`);
    return answer.text();
  }
}

/** Samples CPU and memory of a system's processes. */
class Sampler {
  readonly #roots: Record<string, number>;
  readonly #cpu: { atMs: number; byName: Record<string, number> }[] = [];
  readonly #memory: { atMs: number; byName: Record<string, { rss: number; pss: number }> }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;

  constructor(roots: Record<string, number>) {
    this.#roots = roots;
  }

  start(): void {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#sample();
  }

  #sample(): void {
    const atMs = monotonicMs();
    const pids = this.#pids();
    const cpu: Record<string, number> = {};
    for (const [pid, name] of pids) cpu[name] = (cpu[name] ?? 0) + cpuMs(pid);
    this.#cpu.push({ atMs, byName: cpu });
    if (this.#ticks++ % MEMORY_EVERY !== 0) return;
    const memory: Record<string, { rss: number; pss: number }> = {};
    for (const [pid, name] of pids) {
      const { rssBytes, pssBytes } = memoryOf(pid);
      const before = memory[name] ?? { rss: 0, pss: 0 };
      memory[name] = { rss: before.rss + rssBytes, pss: before.pss + pssBytes };
    }
    this.#memory.push({ atMs, byName: memory });
  }

  /** Process ids with their names: that of the root, or of its own program for what a root started. */
  #pids(): [number, string][] {
    return Object.entries(this.#roots).flatMap(([name, root]) =>
      treeOf([root]).map((pid): [number, string] => [pid, pid === root ? name : nameOf(pid)]),
    );
  }

  /** CPU ms by process between two times, between samples by proportion. */
  cpuBetween(fromMs: number, toMs: number): Record<string, number> {
    const at = (ms: number, name: string) => {
      const after = this.#cpu.findIndex((sample) => sample.atMs >= ms);
      const b = this.#cpu[after === -1 ? this.#cpu.length - 1 : after]!;
      const a = this.#cpu[Math.max(0, (after === -1 ? this.#cpu.length : after) - 1)]!;
      const share = b.atMs === a.atMs ? 0 : Math.min(1, Math.max(0, (ms - a.atMs) / (b.atMs - a.atMs)));
      return (a.byName[name] ?? 0) * (1 - share) + (b.byName[name] ?? 0) * share;
    };
    const names = Object.keys(this.#cpu.at(-1)?.byName ?? {});
    return Object.fromEntries(names.map((name) => [name, at(toMs, name) - at(fromMs, name)]));
  }

  /** Memory by process and in all (`total`). */
  memorySince(fromMs: number): Measurement['memory'] {
    const samples = this.#memory.filter(({ atMs }) => atMs >= fromMs).map(({ byName }) => withTotal(byName));
    const names = Object.keys(samples.at(-1) ?? {});
    return Object.fromEntries(
      names.map((name) => {
        const of = (kind: 'rss' | 'pss') => samples.map((sample) => sample[name]?.[kind] ?? 0);
        return [
          name,
          {
            rss: quantile(of('rss'), 0.5),
            rssPeak: Math.max(...of('rss')),
            pss: quantile(of('pss'), 0.5),
            pssPeak: Math.max(...of('pss')),
          },
        ];
      }),
    );
  }
}

function withTotal(
  byName: Record<string, { rss: number; pss: number }>,
): Record<string, { rss: number; pss: number }> {
  const all = Object.values(byName);
  const sum = (kind: 'rss' | 'pss') => all.reduce((total, memory) => total + memory[kind], 0);
  return { ...byName, total: { rss: sum('rss'), pss: sum('pss') } };
}

let runs = Math.floor(Math.random() * 0x7fffffff);

/**
 * Sends a load and measures what the system spent on it. At a rate, the schedule is open: requests are due when they
 * are due, and latency counts from then. Without a rate it is a closed loop of `connections` senders over `items`.
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
  const items = open
    ? Math.ceil(((timing.warmUpMs + timing.measureMs) * rate) / 1000 / batchSize) * batchSize
    : (what.workload.items ?? 0);
  const batches = Math.ceil(items / batchSize);
  const run = ++runs;
  await sink.ask('expect', { run, batchSize, batches, delayMs: what.delayMs ?? 0 });
  const sampler = new Sampler(system.roots);
  sampler.start();
  const workload = { ...what.workload, rate, items, run, endpoint: system.otlp, prepare: true, retry: true };
  const load = new Process('load', process.execPath, [
    fileURLToPath(new URL('load.ts', import.meta.url)),
    JSON.stringify(workload),
  ]);
  const [line] = await load.line(/^\{.*\}$/, 600_000);
  const sent = JSON.parse(line) as LoadReport;
  await waitUntil(async () => Number(await sink.ask('count', { run })) >= sent.acknowledgedItems, {
    what: 'everything acknowledged arrived',
    timeoutMs: ARRIVE_TIMEOUT_MS,
    everyMs: 100,
  }).catch(() => {}); // what is missing is told as lost
  sampler.stop();
  const arrived = JSON.parse(await sink.ask('arrivals', { run })) as Arrivals;

  const { completeAtMs } = arrived;
  const { startedAtMs } = sent;
  const fromMs = open
    ? startedAtMs + timing.warmUpMs
    : startedAtMs +
      (arrived.lastAtMs - startedAtMs) * (timing.warmUpMs / (timing.warmUpMs + timing.measureMs));
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
  const distinct = completeAtMs.filter((at) => at > 0).length * batchSize;
  return {
    items: sent.acknowledgedItems,
    lostItems: Math.max(0, sent.acknowledgedItems - distinct),
    twiceItems: Math.max(0, arrived.items - items),
    itemsPerSecond: inWindow / seconds,
    cpu: Object.fromEntries(Object.entries(cpu).map(([name, ms]) => [name, ms / seconds])),
    cpuMsPerSecond: cpuAllMs / seconds,
    cpuUsPerItem: (cpuAllMs * 1000) / inWindow,
    memory: sampler.memorySince(fromMs),
    latency: { p50Ms: quantile(late, 0.5), p99Ms: quantile(late, 0.99), p999Ms: quantile(late, 0.999) },
    ack: sent.ack,
    upstreamRequests: arrived.requests,
    upstreamBytes: arrived.wireBytes,
    loadAverage: loadavg()[0] ?? 0,
  };
}

/** The value below which the share `q` of the values lies; 0 of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
}
