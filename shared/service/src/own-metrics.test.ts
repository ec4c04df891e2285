import { type MetricFamily, MetricsRegistry } from '@nrdot/telemetry';
import { describe, expect, it } from 'vitest';
import { readPoints } from '../../otlp/test/own-metrics.ts';
import { OwnMetrics, type Temporality } from './own-metrics.ts';

const STARTED = 1_700_000_000_000;
const MINUTE = 60_000;

function metrics(temporality: Temporality): OwnMetrics {
  return new OwnMetrics({
    resource: { 'service.name': 'nrdot', 'process.pid': 70_000 },
    scope: { name: 'nrdot', version: '1.2.3' },
    temporality,
    startedAtMs: STARTED,
  });
}

const counter = (name: string, value: number): MetricFamily => ({
  ...{ type: 'counter', name, help: 'Counts.', whole: false },
  series: [{ labels: { signal: 'logs' }, value }],
});

function histogram(value: number, counts: number[]): MetricFamily {
  const series = [{ labels: {}, value, buckets: { bounds: [0.5, 2], counts } }];
  return { type: 'histogram', name: 'x_seconds', help: 'Takes.', whole: false, series };
}

const gauge = (value: number): MetricFamily => ({
  ...{ type: 'gauge', name: 'x_ratio', help: 'Is.', whole: false },
  series: [{ labels: {}, value }],
});

/** What one request has of each metric. */
function values(body: Buffer): Record<string, number | number[]> {
  return Object.fromEntries(
    readPoints(body).map(({ name, kind, value, bucketCounts }) => [
      name,
      kind === 'histogram' ? bucketCounts : value,
    ]),
  );
}

it('writes each kind so that another parser reads it', () => {
  const families = [counter('x_bytes_total', 5), gauge(0.25), histogram(7.5, [3, 0, 4])];
  const { body, points } = metrics('cumulative').request(families, STARTED + MINUTE);
  const resource = { 'service.name': 'nrdot', 'process.pid': '70000' };
  const both = { resource, timeMs: STARTED + MINUTE, isMonotonic: false, attributes: {}, count: 0 };
  const none = { bucketCounts: [], bounds: [] };
  expect(points).toBe(3);
  expect(readPoints(body)).toEqual([
    {
      ...{ ...both, ...none, name: 'x_bytes_total', unit: 'By', kind: 'sum', temporality: 2, value: 5 },
      ...{ isMonotonic: true, startMs: STARTED, attributes: { signal: 'logs' } },
    },
    { ...both, ...none, name: 'x_ratio', unit: '1', kind: 'gauge', temporality: 0, startMs: 0, value: 0.25 },
    {
      ...{ ...both, name: 'x_seconds', unit: 's', kind: 'histogram', temporality: 2, startMs: STARTED },
      ...{ value: 7.5, count: 7, bucketCounts: [3, 0, 4], bounds: [0.5, 2] },
    },
  ]);
});

it('omits values that are not numbers', () => {
  expect(values(metrics('delta').request([gauge(Number.NaN), counter('a_total', 1)], STARTED).body)).toEqual({
    a_total: 1,
  });
});

describe('deltas', () => {
  it('start where the last accepted request ended, not the last one sent', () => {
    const own = metrics('delta');
    own.request([counter('a_total', 3), histogram(1, [1, 0, 0])], STARTED + MINUTE).delivered();
    const lost = own.request([counter('a_total', 5), histogram(4, [1, 1, 1])], STARTED + 2 * MINUTE);
    expect(values(lost.body)).toEqual({ a_total: 2, x_seconds: [0, 1, 1] });
    const next = own.request([counter('a_total', 9), histogram(5, [1, 2, 1])], STARTED + 3 * MINUTE);
    expect(values(next.body)).toEqual({ a_total: 6, x_seconds: [0, 2, 1] });
    const [first] = readPoints(next.body);
    expect(first).toMatchObject({ startMs: STARTED + MINUTE, timeMs: STARTED + 3 * MINUTE, temporality: 1 });
    next.delivered();
    expect(values(own.request([counter('a_total', 9)], STARTED + 4 * MINUTE).body)).toEqual({ a_total: 0 });
  });

  it('end after they begin, even if the clock was set back', () => {
    const own = metrics('delta');
    own.request([counter('a_total', 3)], STARTED + MINUTE).delivered();
    const [point] = readPoints(own.request([counter('a_total', 5)], STARTED - MINUTE).body);
    expect(point).toMatchObject({ startMs: STARTED + MINUTE, timeMs: STARTED + MINUTE + 1, value: 2 });
  });

  it('have no series before its first count', () => {
    const own = metrics('delta');
    const none = own.request([counter('a_total', 0), histogram(0, [0, 0, 0])], STARTED + MINUTE);
    expect([none.points, readPoints(none.body)]).toEqual([0, []]);
    none.delivered();
    expect(values(own.request([counter('a_total', 2)], STARTED + 2 * MINUTE).body)).toEqual({ a_total: 2 });
  });

  it('of a count in Redis cover what was added since this process read it, and all of a count that was reset', () => {
    const own = metrics('delta');
    const state = (...series: [string, number][]): MetricFamily => ({
      ...{ type: 'counter', name: 'a_total', help: 'Counts.', whole: true },
      series: series.map(([reason, value]) => ({ labels: { reason }, value })),
    });
    const minutes = [
      state(), // not read yet
      state(['old', 100]),
      state(['old', 104], ['new', 7]),
      state(['old', 6], ['new', 7]),
    ].map((family, minute) => {
      const request = own.request([family], STARTED + minute * MINUTE);
      // The first one that has something to tell is lost.
      if (minute !== 1) request.delivered();
      return Object.fromEntries(
        readPoints(request.body).map(({ attributes, value }) => [attributes.reason, value]),
      );
    });
    expect(minutes).toEqual([{}, { old: 0 }, { old: 4, new: 7 }, { old: 6, new: 0 }]);
  });
});

it('contains every metric of a process, with the sums of its histograms and no placeholders', async () => {
  const registry = new MetricsRegistry(['receiver', 'scheduler', 'exporter', 'dlq']);
  registry.metrics.receiverItems.inc({ signal: 'logs' }, 12);
  registry.metrics.receiverRequestSeconds.observe({ signal: 'logs' }, 0.003);
  registry.metrics.receiverRequestSeconds.observe({ signal: 'logs' }, 99);
  registry.metrics.dlqReplayPaused.set(1);
  const { body } = metrics('cumulative').request(await registry.families(), STARTED + MINUTE);
  const points = readPoints(body);
  const of = (name: string, signal?: string) =>
    points.find((point) => point.name === name && point.attributes.signal === signal);
  expect(of('receiver_items_total', 'logs')?.value).toBe(12);
  expect(of('receiver_items_total', 'traces')?.value).toBe(0);
  expect(of('dlq_replay_paused')?.value).toBe(1);
  expect(of('process_cpu_seconds_total')).toMatchObject({ kind: 'sum', unit: 's' });
  expect(of('process_cpu_seconds_total')!.value).toBeGreaterThan(0);
  const seconds = of('receiver_request_seconds', 'logs')!;
  expect(seconds).toMatchObject({ count: 2, value: 99.003 });
  expect(seconds.bucketCounts.length).toBe(seconds.bounds.length + 1);
  expect(seconds.bucketCounts.flatMap((count, i) => (count > 0 ? [[i, count]] : []))).toEqual([
    [3, 1],
    [seconds.bounds.length, 1],
  ]);
});
