/**
 * What a signal that the upstream does not take costs the others: a fixed open load of three signals, of which the logs are taken,
 * fail, hang or are throttled, in turns. It prints the table of docs/upstream.md.
 * Run: node tests/bench/one-signal.ts --seconds 20 --rounds 3
 */
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import {
  type Behaviour,
  generate,
  HEALTHY,
  type MockStats,
  type Process,
  startNrdot,
  temporaryDirectory,
} from '@nrdot/testbed';
import { startOne } from '../kit.ts';
import { machine } from './machine.ts';

/** Items per second of each signal. */
const RATE = 500;
const LOAD = { batchSize: 20, connections: 8, retryInitialMs: 100 };
const WARM_UP_MS = 5_000;
/** Of an upstream some way off. */
const UPSTREAM = { ...HEALTHY, latencyMs: 20 };

const SITUATIONS: Readonly<Record<string, Partial<Behaviour>>> = {
  'are taken': {},
  'fail (503)': { signalStatus: { logs: 503 } },
  hang: { signalLatencyMs: { logs: 60_000 } },
  'are throttled (429)': { signalStatus: { logs: 429 }, retryAfterSeconds: 2 },
};

interface Seen {
  /** Of the other signals, when the time is over: the share of what was due that had arrived. */
  share: number;
  /** From when an item was due until the upstream had it, ms; of the slower of the two. */
  p50Ms: number;
  p99Ms: number;
  logs: number;
}

async function ask<T>(mock: string, method: string, what: string, body?: object): Promise<T> {
  const init = { method, ...(body ? { body: JSON.stringify(body) } : {}) };
  const answer = await fetch(`${mock}/_mock/${what}`, init);
  if (!answer.ok) throw new Error(`the mock upstream answered ${answer.status} to ${method} ${what}`);
  return (await answer.json()) as T;
}

async function measure(behaviour: Partial<Behaviour>, seconds: number): Promise<Seen> {
  using dir = temporaryDirectory();
  await using upstream: Process = startNrdot(['mock-upstream', '--listen', '127.0.0.1:0'], {}, dir.path);
  const [, url = ''] = await upstream.line(/mock upstream on (\S+);/);
  await using running = await startOne(dir.path, { url }, CONFIG);
  const load = (signals: Record<string, number>, rate: number, durationMs: number) =>
    generate({ ...LOAD, endpoint: running.otlp, signals, rate, durationMs });
  const both = async (durationMs: number) => {
    const loads = [
      load({ logs: 1 }, RATE, durationMs),
      load({ traces: 1, metrics: 1 }, 2 * RATE, durationMs),
    ];
    await wait(durationMs);
    const stats = await ask<MockStats>(url, 'GET', 'stats');
    await Promise.all(loads);
    return stats;
  };
  await ask(url, 'PUT', 'behaviour', { ...UPSTREAM, ...behaviour });
  await both(WARM_UP_MS); // breakers and disk are in their state
  await ask(url, 'POST', 'reset');
  const { bySignal, latencyBySignal } = await both(seconds * 1_000);
  const { traces, metrics } = latencyBySignal;
  return {
    share: (bySignal.traces + bySignal.metrics) / (2 * RATE * seconds),
    p50Ms: Math.max(traces.p50Ms, metrics.p50Ms),
    p99Ms: Math.max(traces.p99Ms, metrics.p99Ms),
    logs: bySignal.logs,
  };
}

/** The times of the product, not those of its tests. */
const CONFIG = {
  exporter: { timeout: '10s', retry: { initial: '1s', max: '30s' } },
  breaker: { open_min: '1s', open_max: '60s' },
};

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

const { values: flags } = parseArgs({
  options: { seconds: { type: 'string', default: '20' }, rounds: { type: 'string', default: '3' } },
});
const rounds = Number(flags.rounds);
const { cores, loadAverage, commit } = machine();
const seen: Record<string, Seen[]> = {};
for (let round = 0; round < rounds; round++) {
  // In turns, so that a busy moment of the machine meets all of them.
  for (const [name, behaviour] of Object.entries(SITUATIONS)) {
    const result = await measure(behaviour, Number(flags.seconds));
    seen[name] = [...(seen[name] ?? []), result];
    process.stderr.write(`round ${round + 1}, the logs ${name}: ${JSON.stringify(result)}\n`);
  }
}
const healthy = seen['are taken']!;
const row = (name: string, of: readonly Seen[]) => {
  const at = (value: (one: Seen, ofTaken: Seen) => number) =>
    median(of.map((one, i) => value(one, healthy[i]!)));
  return `| ${name} | ${(100 * at(({ share }, { share: taken }) => share / taken)).toFixed(1)} % | ${at(({ p50Ms }) => p50Ms).toFixed(0)} ms | ${at(({ p99Ms }) => p99Ms).toFixed(0)} ms | ${at(({ p99Ms }, { p99Ms: taken }) => p99Ms / taken).toFixed(2)} |`;
};
process.stdout.write(`${commit}, ${cores} cores, load average ${loadAverage.toFixed(1)} before; ${rounds} rounds of ${flags.seconds} s, ${RATE} items/s of each signal

| the logs | traces and metrics that arrive, against healthy | p50 to the upstream | p99 | p99 against healthy |
| --- | ---: | ---: | ---: | ---: |
${Object.entries(seen)
  .map(([name, of]) => row(name, of))
  .join('\n')}
`);
