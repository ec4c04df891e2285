/**
 * What the limiter costs per request of 1,000 points, paced 20 ms apart as a busy receiver sees them, beside a decode and
 * encode of the same bodies with protobufjs. As time on the clock, and as CPU time of the thread, which other work on the
 * machine hardly moves. Run:
 *
 *   node services/receiver/bench/limiter.bench.ts [requests per mode] [part of a mode's name] [--base DIR]
 *
 * With `--base`, beside the limiter of another work tree instead: both get the same requests in turn, in random order, so that
 * what the machine does meanwhile is shared by both.
 */
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { walk } from '@nrdot/otlp';
import { CardinalityLimiter, type LimiterOptions } from '../src/limiter/index.ts';
import { limiterOptions } from '../src/limiter/test/options.ts';
import { encode, type MetricData, type PointData, Request } from '../src/limiter/test/otlp.ts';

const POINTS = 1000;
const METRICS = 10;
const PER_METRIC = POINTS / METRICS;
const PACE_MS = 20;
const STORM = 1_000_000;
const { positionals, values } = parseArgs({ allowPositionals: true, options: { base: { type: 'string' } } });
const requests = Number(positionals[0] ?? 250);
const wanted = positionals[1] ?? '';
const START = 1_700_000_000_000;

const ns = (ms: number) => BigInt(ms) * 1_000_000n;

/** Five labels per point, 10 metrics, 100 points each; ids beyond `series` begin again. */
function body(from: number, at: number, { series, kind, temporality, isShuffled }: Mode): Uint8Array {
  const metrics: MetricData[] = [];
  const bounds = [5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000];
  for (let m = 0; m < METRICS; m++) {
    const points: PointData[] = [];
    for (let k = 0; k < PER_METRIC; k++) {
      let place = (from / METRICS + k) % (series / METRICS); // among the series of this metric
      // A multiplier without a common divisor with their number, and another one every time they begin again.
      if (isShuffled) place = (place * (7919 + 10 * Math.floor(from / series))) % (series / METRICS);
      const i = place % PER_METRIC;
      const id = Math.floor(place / PER_METRIC) * POINTS + m * PER_METRIC + i;
      const data = {
        labels: {
          'http.request.method': 'GET',
          'http.route': `/api/v1/orders/${i % 6}`,
          'http.response.status_code': 200n,
          'server.address': 'orders.shop.svc.cluster.local',
          'user.id': `u-${id.toString(36).padStart(10, '0')}`,
        },
        start: ns(START),
        time: ns(at),
      };
      const counts = bounds.map((_, b) => BigInt((id + b) % 5));
      const buckets = [...counts, 1n];
      const count = buckets.reduce((a, b) => a + b);
      if (kind === 'sum') points.push({ ...data, int: BigInt(1 + (id % 100)) });
      else points.push({ ...data, count, sum: id / 7, buckets, bounds, min: 0.5, max: 900 });
    }
    metrics.push({
      name: `http.server.metric_${m}`,
      unit: '1',
      kind,
      temporality,
      monotonic: kind === 'sum' ? true : undefined,
      points,
    } as MetricData);
  }
  const resource = {
    'service.name': 'orders',
    'service.version': '1.2.3',
    'host.name': 'node-17',
    'k8s.namespace.name': 'shop',
  };
  return encode([{ labels: resource, scopes: [{ name: '@opentelemetry/instrumentation-http', metrics }] }]);
}

interface Mode {
  name: string;
  options: Partial<LimiterOptions>;
  kind: 'sum' | 'histogram';
  temporality: 1 | 2;
  series: number;
  /** They come in another order every time; otherwise always in the same, as from most producers. */
  isShuffled?: boolean;
  /** Requests before the measurement, as fast as they go. */
  before: number;
}

const drop = { aggregateScore: 0.88, criticalScore: 0.88, actAbove: 0.5 };
const overflow = { ...drop, criticalAction: 'overflow' as const };
const aggregate = { aggregateLabels: ['user.id'], actAbove: 0.05 };
const asDeltas = { temporality: 'delta' as const };
type Limiter = typeof CardinalityLimiter;
const MODES: Mode[] = [
  { name: 'all known', options: {}, kind: 'sum', temporality: 1, series: 20_000, before: 200 },
  {
    name: 'all known, shuffled',
    options: {},
    kind: 'sum',
    temporality: 1,
    series: 20_000,
    isShuffled: true,
    before: 200,
  },
  {
    name: 'all known, histograms',
    options: {},
    kind: 'histogram',
    temporality: 1,
    series: 20_000,
    before: 200,
  },
  { name: 'drop', options: drop, kind: 'sum', temporality: 1, series: STORM, before: 500 },
  { name: 'overflow', options: overflow, kind: 'sum', temporality: 1, series: STORM, before: 500 },
  {
    name: 'aggregate 1000 → 60 sums',
    options: aggregate,
    kind: 'sum',
    temporality: 1,
    series: STORM,
    before: 200,
  },
  {
    name: 'aggregate 1000 → 60 histograms',
    options: aggregate,
    kind: 'histogram',
    temporality: 1,
    series: STORM,
    before: 200,
  },
  {
    name: 'cumulative 1000 → 60 sums',
    options: aggregate,
    kind: 'sum',
    temporality: 2,
    series: 20_000,
    before: 200,
  },
  {
    name: 'cumulative 1000 → 60 histograms',
    options: aggregate,
    kind: 'histogram',
    temporality: 2,
    series: 6000,
    before: 200,
  },
  { name: 'as deltas, sums', options: asDeltas, kind: 'sum', temporality: 2, series: 20_000, before: 200 },
  {
    name: 'as deltas, histograms',
    options: asDeltas,
    kind: 'histogram',
    temporality: 2,
    series: 20_000,
    before: 200,
  },
];

/**
 * CPU time of this thread, ms. The kernel brings the books of a thread up to date only now and then (on Linux with every
 * tick, 4 ms), but always when it is asked for the whole process; so that is asked first.
 */
function cpuMs(): number {
  process.cpuUsage();
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** What the same work took, time after time. */
class Times {
  readonly #wall: number[] = [];
  readonly #cpu: number[] = [];

  measure<T>(work: () => T): T {
    cpuMs(); // the first call after a pause takes 15 µs, which are not those of the work
    const cpu = cpuMs();
    const wall = performance.now();
    const result = work();
    this.#wall.push(performance.now() - wall);
    this.#cpu.push(cpuMs() - cpu);
    return result;
  }

  get cpuMedian(): number {
    return at(this.#cpu, 0.5);
  }

  toString(): string {
    return `CPU ${quantiles(this.#cpu)}  wall ${quantiles(this.#wall)}`;
  }
}

/** p50/p95/p99 */
function quantiles(times: number[]): string {
  return [0.5, 0.95, 0.99].map((q) => at(times, q).toFixed(2)).join('/');
}

function at(times: number[], quantile: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(times.length - 1, Math.floor(times.length * quantile))]!;
}

/** Limiters and the bodies that they get. */
function begin<const L extends readonly Limiter[]>(mode: Mode, limiters: L) {
  let now = START;
  let from = 0;
  const options = limiterOptions({ keyTtlMs: 86_400_000, ...mode.options });
  const made = limiters.map((Limiter) => new Limiter(options, { now: () => now, seed: 4711 }));
  const next = () => {
    now += PACE_MS;
    const bytes = body(from, now, mode);
    from += POINTS;
    return bytes;
  };
  return { limiters: made as { [K in keyof L]: CardinalityLimiter }, next };
}

async function run(mode: Mode): Promise<void> {
  const { limiters, next } = begin(mode, [CardinalityLimiter]);
  const [limiter] = limiters;
  for (let i = 0; i < mode.before; i++) {
    limiter.process(next());
    limiter.keep();
  }
  const limiting = new Times();
  const decoding = new Times();
  let points = 0;
  let bytes = 0;
  const measured = Array.from({ length: requests }, next); // made before, so that their making is not in the way
  for (const request of measured) {
    await sleep(PACE_MS);
    walk('metrics', request); // as the receiver does just before
    const limited = limiting.measure(() => {
      const processed = limiter.process(request);
      limiter.keep();
      return processed;
    });
    points += limited.points;
    bytes += request.length;
  }
  // Afterwards, so that the limiter does not run in what is left of the caches and the heap after a decoding.
  for (let i = 0; i < measured.length; i += 5) {
    const request = measured[i]!;
    await sleep(PACE_MS);
    walk('metrics', request);
    decoding.measure(() => Request.encode(Request.decode(request)).finish());
  }
  console.log(
    `${mode.name.padEnd(32)} ${limiting}   protobufjs ${decoding}   ` +
      `${Math.round(bytes / requests / 1024)} KiB, ${Math.round(points / requests)} points out, ` +
      `${limiter.keysUsed} keys, ${(limiter.memoryBytes / 1e6).toFixed(1)} MB`,
  );
}

async function compare(mode: Mode, Base: Limiter): Promise<void> {
  const { limiters, next } = begin(mode, [CardinalityLimiter, Base]);
  const process = (limiter: CardinalityLimiter, request: Uint8Array) => {
    limiter.process(request);
    limiter.keep?.(); // earlier trees have nothing to keep
  };
  for (let i = 0; i < mode.before; i++) {
    const request = next();
    for (const limiter of limiters) process(limiter, request);
  }
  const times = limiters.map(() => new Times());
  for (const request of Array.from({ length: requests }, next)) {
    for (const i of Math.random() < 0.5 ? [0, 1] : [1, 0]) {
      await sleep(PACE_MS);
      walk('metrics', request);
      times[i]!.measure(() => process(limiters[i]!, request));
    }
  }
  const [here, base] = times as [Times, Times];
  const ratio = (here.cpuMedian / base.cpuMedian).toFixed(2);
  console.log(`${mode.name.padEnd(32)} ${ratio} times the CPU   here ${here}   base ${base}`);
}

console.log(
  `${requests} requests of ${POINTS} points per mode, ${PACE_MS} ms apart: p50/p95/p99 ms, Node ${process.version}`,
);
const { base } = values;
const Base =
  base && (await import(resolve(base, 'services/receiver/src/limiter/index.ts'))).CardinalityLimiter;
for (const mode of MODES.filter(({ name }) => name.includes(wanted)))
  await (Base ? compare(mode, Base) : run(mode));
