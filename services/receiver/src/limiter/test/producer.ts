/** Producers of cumulative streams, and a slow exact model of what they have counted. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { type FlatPoint, type MetricData, type PointData, streamOf } from './otlp.ts';
import { type Rig, START_MS } from './rig.ts';

export const MS = 1_000_000n;
export const NAME = 'm';
export const STEP_MS = 10_000;

/** A producer's stream: what a slow exact model knows of it. */
export interface Source {
  labels: Record<string, string>;
  startMs: number;
  /** Observations since it began, one counter per bucket; a sum is their total. */
  counts: bigint[];
  /** What was last reported of the life at hand. */
  reported: bigint[];
  /** What was last reported of each life before. */
  past: bigint[][];
}

/** What happens to a source in one collection. */
export interface Step {
  add: number[];
  restart: boolean;
  away: boolean;
}

export type Form = 'int' | 'double' | 'histogram' | 'exponential';

export const BOUNDS = [1, 2, 3];
export const zeros = () => BOUNDS.map(() => 0n).concat(0n);
export const plus = (a: bigint[], b: bigint[]) => a.map((n, i) => n + b[i]!);
export const sumOf = (counts: bigint[]) => counts.reduce((a, b) => a + b, 0n);
/** The sum of observations: i for bucket i. */
const weighed = (counts: bigint[]) => counts.reduce((sum, n, i) => sum + Number(n) * i, 0);

export function pointOf(source: Source, form: Form, timeMs: number): PointData {
  const { labels, counts } = source;
  const dated = { labels, start: BigInt(source.startMs) * MS, time: BigInt(timeMs) * MS };
  const count = sumOf(counts);
  if (form === 'int') return { ...dated, int: count };
  if (form === 'double') return { ...dated, double: Number(count) / 8 };
  if (form === 'histogram') return { ...dated, count, sum: weighed(counts), buckets: counts, bounds: BOUNDS };
  // Bucket i at scale 3 is 40·i: far apart, so that the sum has to be scaled down at times.
  const buckets = Array.from({ length: 121 }, (_, i) => (i % 40 === 0 ? counts[i / 40]! : 0n));
  return {
    ...dated,
    count,
    sum: weighed(counts),
    scale: 3,
    zeroCount: 0n,
    positive: { offset: -7, counts: buckets },
  };
}

export function metricOf(form: Form, points: PointData[], change: Partial<MetricData> = {}): MetricData {
  const kind = form === 'int' || form === 'double' ? 'sum' : form;
  const monotonic = kind === 'sum' ? { monotonic: true } : {};
  return { name: NAME, unit: '1', kind, temporality: 2, ...monotonic, points, ...change };
}

export function countOf(point: PointData, form: Form): bigint[] {
  if (form === 'int') return [point.int ?? -1n];
  if (form === 'double') return [BigInt(point.double! * 8)];
  if (form === 'histogram') return point.buckets!;
  // Whatever the scale: observations lie in ascending buckets. Only the total is compared here.
  return [point.positive?.counts.reduce((a, b) => a + b, 0n) ?? 0n];
}

export const comparable = (counts: bigint[], form: Form) => (form === 'histogram' ? counts : [sumOf(counts)]);

/** Plays collections; returns what came out, in order. */
export function play(
  made: Rig,
  sources: Source[],
  form: Form,
  collections: Step[][],
  splits: number[],
): FlatPoint[] {
  const out: FlatPoint[] = [];
  for (const [round, steps] of collections.entries()) {
    made.now += STEP_MS;
    const points: PointData[] = [];
    sources.forEach((source, i) => {
      const step = steps[i % steps.length]!;
      if (step.restart) {
        source.past.push(source.reported);
        source.reported = zeros();
        source.counts = zeros();
        source.startMs = made.now - STEP_MS / 2;
      }
      source.counts = plus(source.counts, step.add.map(BigInt));
      if (step.away) return;
      source.reported = source.counts;
      points.push(pointOf(source, form, made.now));
    });
    // The producer splits its collection, and sends one part twice.
    const parts = splits[round % splits.length]!;
    const size = Math.max(1, Math.ceil(points.length / parts));
    for (let from = 0; from < points.length; from += size) {
      const metric = metricOf(form, points.slice(from, from + size));
      out.push(...made.send([metric]).out);
      if (from === 0) {
        const again = made.send([metric]);
        expect(again.droppedPoints).toBe(0);
        out.push(...again.out);
      }
    }
  }
  return out;
}

/**
 * What a stream shows at its end; on the way, time moves on, nothing falls and the start stays. A stream of the producer that
 * was let through as it came may begin anew, and be repeated.
 */
export function finals(out: FlatPoint[], form: Form): Map<string, bigint[]> {
  const last = new Map<string, FlatPoint>();
  for (const point of out) {
    const own = 'user' in point.labels;
    const key = own ? `${streamOf(point)} since ${point.start}` : streamOf(point);
    const before = last.get(key);
    if (before && !(own && point.time === before.time)) {
      expect(point.time! > before.time!).toBe(true);
      expect(point.start).toBe(before.start);
      for (const [i, n] of countOf(point, form).entries()) expect(n >= countOf(before, form)[i]!).toBe(true);
    }
    expect(point.start! <= point.time!).toBe(true);
    last.set(key, point);
  }
  return new Map([...last].map(([key, point]) => [key, countOf(point, form)]));
}

export const step: fc.Arbitrary<Step> = fc.record({
  add: fc.array(fc.nat(5), { minLength: 4, maxLength: 4 }),
  restart: fc.boolean().map((b) => b),
  away: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
});
export const calm: fc.Arbitrary<Step> = step.map((one) => ({ ...one, restart: false }));
export const played = fc.array(fc.array(fc.oneof(calm, calm, step), { minLength: 1, maxLength: 6 }), {
  maxLength: 8,
});
export const splits = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 });

export function newSources(made: Rig, count: number): Source[] {
  return Array.from({ length: count }, (_, i) => ({
    labels: { user: `u${i}`, route: `/${i % 3}` },
    startMs: made.now,
    counts: zeros(),
    reported: zeros(),
    past: [],
  }));
}

export function truth(sources: Source[], form: Form): Map<string, bigint[]> {
  const totals = new Map<string, bigint[]>();
  for (const { labels, reported, past } of sources) {
    const all = [...past, reported].reduce(plus, zeros());
    totals.set(labels.route!, plus(totals.get(labels.route!) ?? zeros(), all));
  }
  return new Map([...totals].map(([route, counts]) => [route, comparable(counts, form)]));
}

export const labelsOf = (user: string): Record<string, string> => (user ? { user } : {});
export const routeOf = (key: string) => /"route","([^"]*)"/.exec(key)![1]!;

export const at = (ms: number) => BigInt(START_MS + ms) * MS;
export const sum = (points: [string, bigint, number, number][], change: Partial<MetricData> = {}) =>
  metricOf(
    'int',
    points.map(([user, int, start, time]) => ({
      labels: labelsOf(user),
      int,
      start: at(start),
      time: at(time),
    })),
    change,
  );
