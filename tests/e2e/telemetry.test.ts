/** The pipeline's own metrics as OTLP, held against what is scraped from the same processes. */

import { CATALOGUE, type MetricSpec } from '@nrdot/telemetry';
import {
  generate,
  type MockUpstream,
  startMockUpstream,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ReadPoint, readPoints } from '../../shared/otlp/test/own-metrics.ts';
import { type Running, type Sample, scrape, startOne, startServices, untilQuiet } from '../kit.ts';

const EVERY_SECOND = { interval: '1s' };
const LOAD = {
  rate: 0,
  batchSize: 100,
  items: 2_000,
  encoding: 'gzip',
  signals: { traces: 1, metrics: 1, logs: 1 },
} as const;
/** What a scrape, a request of its own or the clock moves. */
const NEVER_STILL = /^(process|nodejs|pipeline_redis_round_trip|pipeline_telemetry)_|^apq_slot$/;
/** Too few to compare would say nothing. */
const COMPARED_MIN = 60;

/** Takes in points and adds up what is a delta. */
class Backend {
  readonly points: ReadPoint[] = [];
  readonly #sums = new Map<string, number>();
  readonly #last = new Map<string, number>();

  take(body: Buffer): void {
    for (const point of readPoints(body)) {
      this.points.push(point);
      const parts = point.kind === 'histogram' ? partsOf(point) : [[point.name, {}, point.value] as const];
      for (const [name, labels, value] of parts) {
        const key = keyOf({ name, labels: { ...point.attributes, ...labels } });
        const into = point.temporality === 1 ? this.#sums : this.#last;
        into.set(key, (point.temporality === 1 ? (into.get(key) ?? 0) : 0) + value);
      }
    }
  }

  value(sample: Pick<Sample, 'name' | 'labels'>): number | undefined {
    return this.#sums.get(keyOf(sample)) ?? this.#last.get(keyOf(sample));
  }
}

/** A histogram as a scrape has it: each bucket has those below it in it. */
function partsOf({ name, value, count, bucketCounts, bounds }: ReadPoint) {
  let below = 0;
  return [
    [`${name}_sum`, {}, value],
    [`${name}_count`, {}, count],
    ...bucketCounts.map((of, i) => {
      below += of;
      return [`${name}_bucket`, { le: String(bounds[i] ?? '+Inf') }, below];
    }),
  ] as [string, Record<string, string>, number][];
}

function keyOf({ name, labels }: Pick<Sample, 'name' | 'labels'>): string {
  return [name, ...Object.entries(labels).map(([label, value]) => `${label}=${value}`)].sort().join(' ');
}

const WHOLE_COUNTERS = new Set(
  Object.values<MetricSpec>(CATALOGUE).flatMap(({ name, type, whole }) =>
    whole && type === 'counter' ? [name] : [],
  ),
);

/** Of a moment at which nothing moves: what was scraped and what the backend has that is not the same. */
async function differences(
  running: Running,
  backend: Backend,
): Promise<{ compared: number; wrong: string[] } | undefined> {
  const before = new Map((await scrape(running.admin)).map((sample) => [keyOf(sample), sample.value]));
  // Two requests later what was counted before is in one that was taken.
  const arrived = backend.points.length;
  const requests = () => new Set(backend.points.slice(arrived).map(({ timeMs }) => timeMs)).size;
  await waitUntil(() => requests() >= 2, { what: 'two more requests have arrived' });
  const still = (await scrape(running.admin)).filter(
    (sample) =>
      before.get(keyOf(sample)) === sample.value &&
      !NEVER_STILL.test(sample.name) &&
      !WHOLE_COUNTERS.has(sample.name),
  );
  const wrong = still.flatMap((sample) => {
    const got = backend.value(sample) ?? 0;
    const isSame = Math.abs(got - sample.value) <= 1e-9 * Math.max(1, Math.abs(sample.value));
    return isSame ? [] : [`${keyOf(sample)}: ${got}, scraped ${sample.value}`];
  });
  return { compared: still.length, wrong };
}

let dir: ReturnType<typeof temporaryDirectory>;
/** Takes the own metrics, and in the first test everything. */
let upstream: MockUpstream;
/** Takes what clients send in the others. */
let sink: MockUpstream;
let backend: Backend;
beforeEach(async () => {
  dir = temporaryDirectory();
  backend = new Backend();
  sink = await startMockUpstream({ listen: '127.0.0.1:0' });
  upstream = await startMockUpstream({
    listen: '127.0.0.1:0',
    taken: (signal, body) => {
      if (signal !== 'metrics' || !body.includes('nrdot.priority')) return;
      backend.take(body);
    },
  });
});
afterEach(async () => {
  await Promise.all([sink.close(), upstream.close()]);
  dir[Symbol.dispose]();
});

it.each([
  ['cumulative', {}],
  ['delta', { tokens: ['one-of-two', 'two-of-two'], path_prefix: '/otlp' }],
])('through the pipeline, as class high: %s', async (temporality, receiver) => {
  await using pipeline = await startOne(dir.path, upstream, {
    receiver,
    telemetry: { otlp: { endpoint: 'pipeline', temporality, ...EVERY_SECOND } },
  });
  await waitUntil(() => backend.points.length > 0, { what: 'own metrics have arrived' });
  expect(backend.points[0]!.resource).toMatchObject({
    'service.namespace': 'nrdot',
    'service.name': 'nrdot',
    'service.version': expect.stringMatching(/^\d+\.\d+\.\d+/),
    'process.pid': String(pipeline.processes.up!.child.pid),
    'telemetry.sdk.name': 'nrdot',
    'nrdot.priority': 'high',
  });
  const moved = await scrape(pipeline.admin);
  const high = moved.find(({ name, labels }) => name === 'apq_moved_items_total' && labels.class === 'high');
  expect(high?.value).toBeGreaterThan(0);
  const of = (name: string) => backend.points.filter((point) => point.name === name);
  await waitUntil(() => of('receiver_items_total').length > 0, { what: 'its own points were counted' });
  expect(new Set(of('receiver_items_total').map((point) => point.temporality))).toEqual(
    new Set([temporality === 'delta' ? 1 : 2]),
  );
  // Nothing of it feeds on itself: a request has as many points as the one before, and is told in one.
  const sizes = () => {
    const byTime = new Map<number, number>();
    for (const { timeMs } of backend.points) byTime.set(timeMs, (byTime.get(timeMs) ?? 0) + 1);
    return [...byTime.values()];
  };
  await waitUntil(() => sizes().length >= 6, { what: 'six requests have arrived' });
  expect(Math.max(...sizes())).toBeLessThan(700);
});

it('data that was not accepted is in the next request: no delta is lost, and each change is logged once', async () => {
  await using pipeline = await startOne(dir.path, sink, {
    telemetry: { otlp: { endpoint: upstream.url, temporality: 'delta', ...EVERY_SECOND } },
  });
  await generate({ ...LOAD, endpoint: pipeline.otlp });
  await untilQuiet(pipeline.admin);
  await waitUntil(() => backend.points.length > 0, { what: 'own metrics have arrived' });

  upstream.set({ status: 503 });
  const failed = async () => {
    const samples = await scrape(pipeline.admin);
    return samples
      .filter(
        ({ name, labels }) => name === 'pipeline_telemetry_requests_total' && labels.outcome === 'retry',
      )
      .reduce((sum, { value }) => sum + value, 0);
  };
  await generate({ ...LOAD, endpoint: pipeline.otlp });
  await untilQuiet(pipeline.admin);
  await waitUntil(async () => (await failed()) >= 3, { what: 'three requests have failed' });
  upstream.set({ status: 0 });

  const { compared, wrong } = (await differences(pipeline, backend))!;
  expect(wrong).toEqual([]);
  expect(compared).toBeGreaterThan(COMPARED_MIN);
  const items = backend.value({ name: 'receiver_items_total', labels: { signal: 'traces' } });
  expect(items).toBeGreaterThan(1_000);
  const told = pipeline.processes.up!.output(500).split('\n');
  expect(told.filter((line) => line.includes('does not accept the metrics'))).toHaveLength(1);
  expect(told.filter((line) => /accepts the metrics of this process again after/.test(line))).toHaveLength(1);
});

it('sends once more when it stops, at any interval', async () => {
  await using pipeline = await startOne(dir.path, sink, {
    telemetry: { otlp: { endpoint: upstream.url, temporality: 'delta', interval: '1h' } },
  });
  await generate({ ...LOAD, endpoint: pipeline.otlp });
  await untilQuiet(pipeline.admin);
  expect(backend.points).toEqual([]);
  await pipeline.processes.up!.end('SIGTERM');
  const items = ['traces', 'metrics', 'logs'].map((signal) =>
    backend.value({ name: 'receiver_items_total', labels: { signal } }),
  );
  expect(items.reduce((sum, of) => (sum ?? 0) + (of ?? 0), 0)).toBe(2_000);
});

it('each of four processes sends its own; if nothing listens, only a failure is counted', async () => {
  await using redis = await TestRedis.start({ dir: dir.path });
  await using services = await startServices(
    dir.path,
    redis,
    sink,
    { telemetry: { otlp: { endpoint: upstream.url, ...EVERY_SECOND } } },
    { exporters: 2 },
  );
  const instances = () => new Set(backend.points.map(({ resource }) => resource['service.instance.id']));
  await waitUntil(() => instances().size === 5, { what: 'five processes have sent' });
  const names = backend.points.map(({ resource }) => resource['service.name']);
  expect([...new Set(names)].sort()).toEqual(
    ['dlq', 'exporter', 'receiver', 'scheduler'].map((name) => `nrdot-${name}`),
  );
  await generate({ ...LOAD, endpoint: services.otlp });
  await untilQuiet(services.admin);
  const delivered = () =>
    [...instances()]
      .map((id) =>
        backend.points.filter(
          ({ name, resource }) =>
            name === 'exporter_delivered_items_total' && resource['service.instance.id'] === id,
        ),
      )
      .map((points) => {
        const last = Math.max(...points.map(({ timeMs }) => timeMs));
        return points.filter(({ timeMs }) => timeMs === last).reduce((sum, { value }) => sum + value, 0);
      })
      .reduce((sum, items) => sum + items, 0);
  await waitUntil(() => delivered() === 2_000, { what: 'both exporters together report all items' });

  await upstream.close();
  const failing = async () => {
    const samples = await scrape(services.admin);
    return samples.some(
      ({ name, labels, value }) =>
        name === 'pipeline_telemetry_requests_total' && labels.outcome === 'retry' && value >= 2,
    );
  };
  await waitUntil(failing, { what: 'failures are counted' });
  const told = services.processes.scheduler1!.output(500).split('\n');
  expect(told.filter((line) => line.includes('does not accept the metrics'))).toHaveLength(1);
  const report = await generate({ ...LOAD, endpoint: services.otlp });
  await untilQuiet(services.admin);
  expect(sink.received(report.run).count).toBe(2_000);
});
