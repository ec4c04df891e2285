import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FlatPoint, type MetricData, type PointData, streamOf } from './test/otlp.ts';
import { type Rig, rig, ruledRig, START_MS } from './test/rig.ts';

const MS = 1_000_000n;
const NAME = 'm';
const STEP_MS = 10_000;

/** A producer's stream: what a slow exact model knows of it. */
interface Source {
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
interface Step {
  add: number[];
  restart: boolean;
  away: boolean;
}

type Form = 'int' | 'double' | 'histogram' | 'exponential';

const BOUNDS = [1, 2, 3];
const zeros = () => BOUNDS.map(() => 0n).concat(0n);
const plus = (a: bigint[], b: bigint[]) => a.map((n, i) => n + b[i]!);
const sumOf = (counts: bigint[]) => counts.reduce((a, b) => a + b, 0n);
/** The sum of observations: i for bucket i. */
const weighed = (counts: bigint[]) => counts.reduce((sum, n, i) => sum + Number(n) * i, 0);

function pointOf(source: Source, form: Form, timeMs: number): PointData {
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

function metricOf(form: Form, points: PointData[], change: Partial<MetricData> = {}): MetricData {
  const kind = form === 'int' || form === 'double' ? 'sum' : form;
  const monotonic = kind === 'sum' ? { monotonic: true } : {};
  return { name: NAME, unit: '1', kind, temporality: 2, ...monotonic, points, ...change };
}

function countOf(point: PointData, form: Form): bigint[] {
  if (form === 'int') return [point.int ?? -1n];
  if (form === 'double') return [BigInt(point.double! * 8)];
  if (form === 'histogram') return point.buckets!;
  // Whatever the scale: observations lie in ascending buckets. Only the total is compared here.
  return [point.positive?.counts.reduce((a, b) => a + b, 0n) ?? 0n];
}

const comparable = (counts: bigint[], form: Form) => (form === 'histogram' ? counts : [sumOf(counts)]);

/** Plays collections; returns what came out, in order. */
function play(
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
function finals(out: FlatPoint[], form: Form): Map<string, bigint[]> {
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

const step: fc.Arbitrary<Step> = fc.record({
  add: fc.array(fc.nat(5), { minLength: 4, maxLength: 4 }),
  restart: fc.boolean().map((b) => b),
  away: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
});
const calm: fc.Arbitrary<Step> = step.map((one) => ({ ...one, restart: false }));
const played = fc.array(fc.array(fc.oneof(calm, calm, step), { minLength: 1, maxLength: 6 }), {
  maxLength: 8,
});
const splits = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 });

function newSources(made: Rig, count: number): Source[] {
  return Array.from({ length: count }, (_, i) => ({
    labels: { user: `u${i}`, route: `/${i % 3}` },
    startMs: made.now,
    counts: zeros(),
    reported: zeros(),
    past: [],
  }));
}

function truth(sources: Source[], form: Form): Map<string, bigint[]> {
  const totals = new Map<string, bigint[]>();
  for (const { labels, reported, past } of sources) {
    const all = [...past, reported].reduce(plus, zeros());
    totals.set(labels.route!, plus(totals.get(labels.route!) ?? zeros(), all));
  }
  return new Map([...totals].map(([route, counts]) => [route, comparable(counts, form)]));
}

const labelsOf = (user: string): Record<string, string> => (user ? { user } : {});
const routeOf = (key: string) => /"route","([^"]*)"/.exec(key)![1]!;

describe('cumulative streams that lose a label', () => {
  for (const form of ['int', 'double', 'histogram', 'exponential'] as const) {
    it(`${form}: the output grows by what the inputs grow, through restarts, gaps, splits and repeats`, () => {
      fc.assert(
        fc.property(played, splits, fc.integer({ min: 1, max: 9 }), (collections, parts, count) => {
          const made = ruledRig([NAME], ['user']);
          const sources = newSources(made, count);
          const out = play(made, sources, form, collections, parts);
          const expected = truth(sources, form);
          const seen = finals(out, form);
          for (const [route, counts] of expected) {
            const found = [...seen].find(([key]) => routeOf(key) === route);
            expect(found?.[1] ?? comparable(zeros(), form)).toEqual(counts);
          }
          expect(seen.size).toBeLessThanOrEqual(3);
        }),
        { numRuns: 40 },
      );
    });

    it(`${form}: streams that were forwarded by themselves are taken over without loss or repetition`, () => {
      fc.assert(
        fc.property(played, played, splits, fc.integer({ min: 1, max: 9 }), (before, after, parts, count) => {
          // `actAbove` 1 keeps the label until the options change.
          const made = ruledRig([], [], { aggregateLabels: ['user'], actAbove: 1 });
          const sources = newSources(made, count);
          const own = play(
            made,
            sources,
            form,
            before.map((steps) => steps.map((s) => ({ ...s, restart: false }))),
            parts,
          );
          made.limiter.configure({ maxKeys: 4096, actAbove: 0, aggregateLabels: ['user'] });
          const points = Array.from({ length: 400 }, (_, i) => ({
            labels: { user: `warm-${i}` },
            double: 1,
            time: made.ns(),
          }));
          for (let i = 0; i < 400; i += 100) {
            made.send([{ name: NAME, unit: 'warm', kind: 'gauge', points: points.slice(i, i + 100) }]);
          }
          expect(made.decisions).toHaveLength(1);
          const merged = play(made, sources, form, after, parts);
          const seen = new Map<string, bigint[]>();
          for (const [key, counts] of finals([...own, ...merged], form)) {
            const route = routeOf(key);
            seen.set(route, seen.has(route) ? counts.map((n, i) => n + seen.get(route)![i]!) : counts);
          }
          for (const [route, counts] of truth(sources, form)) {
            expect(seen.get(route) ?? comparable(zeros(), form)).toEqual(counts);
          }
        }),
        { numRuns: 40 },
      );
    });
  }

  const at = (ms: number) => BigInt(START_MS + ms) * MS;
  const sum = (points: [string, bigint, number, number][], change: Partial<MetricData> = {}) =>
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

  it('take in a source that began before we watched without its past', () => {
    const made = ruledRig([NAME], ['user']);
    const send = (...points: [string, bigint, number, number][]) => made.send([sum(points)]).out[0];
    expect(send(['old', 1000n, -5000, 10_000])).toMatchObject({
      int: 0n,
      start: at(10_000),
      time: at(10_000),
    });
    expect(send(['old', 1007n, -5000, 20_000])).toMatchObject({
      int: 7n,
      start: at(10_000),
      time: at(20_000),
    });
    expect(send(['new', 5n, 15_000, 21_000])).toMatchObject({ int: 12n });
    expect(send(['old', 3n, -5000, 30_000])).toMatchObject({ int: 15n }); // fell: it began anew
  });

  it('go on with the stream that has the same labels already, value and start', () => {
    const made = ruledRig([], [], { aggregateLabels: ['user'], actAbove: 1 });
    made.send([sum([['', 1000n, -9000, 1000]])]);
    made.limiter.configure({ maxKeys: 4096, actAbove: 0, aggregateLabels: ['user'] });
    const points = Array.from({ length: 400 }, (_, i) => ({
      labels: { user: `w${i}` },
      double: 1,
      time: 1n,
    }));
    for (let i = 0; i < 400; i += 100) {
      made.send([{ name: NAME, unit: 'w', kind: 'gauge', points: points.slice(i, i + 100) }]);
    }
    const send = (...list: [string, bigint, number, number][]) => made.send([sum(list)]).out;
    expect(send(['', 1010n, -9000, 11_000], ['a', 5n, 2000, 11_000])).toMatchObject([
      { int: 1015n, start: at(-9000), time: at(11_000) },
    ]);
    expect(send(['a', 6n, 2000, 21_000])).toMatchObject([{ int: 1016n, start: at(-9000), time: at(21_000) }]);
  });

  it('treat sums that may fall as levels: the sum of the last values, less what is gone', () => {
    const made = ruledRig([NAME], ['user'], { keyTtlMs: 60_000 });
    const level = { monotonic: false };
    const send = (...points: [string, bigint, number, number][]) =>
      made.send([sum(points, level)]).out[0]!.int;
    expect(send(['a', 10n, -9000, 1000], ['b', 5n, -9000, 1000])).toBe(15n);
    expect(send(['a', 4n, -9000, 2000])).toBe(9n);
    expect(send(['a', 6n, 1500, 3000])).toBe(11n); // a restart replaces as well
    for (let i = 0; i < 100; i++) {
      made.now += 1000;
      for (let k = 0; k < 60; k++) made.send([]);
      send(['a', 6n, 1500, 4000 + i * 1000]);
    }
    expect(send(['a', 7n, 1500, 200_000])).toBe(7n);
    expect(made.limiter.report().evictions.sources).toBe(1);
  });

  it('do not count a source twice that was forgotten and comes back', () => {
    const made = ruledRig([NAME], ['user'], { keyTtlMs: 60_000 });
    const startMs = made.now - START_MS;
    const send = (user: string, value: bigint) =>
      made.send([sum([[user, value, startMs, made.now - START_MS + 1]])]).out[0]!.int;
    expect(send('a', 10n)).toBe(10n);
    for (let i = 0; i < 100; i++) {
      made.now += 1000;
      for (let k = 0; k < 60; k++) made.send([]);
      send('b', 0n);
    }
    expect(made.limiter.report().evictions.sources).toBe(1);
    expect(send('a', 15n)).toBe(10n); // the past is not known any more: what lies between is lost, nothing is repeated
    made.now += 1000;
    expect(send('a', 17n)).toBe(12n);
  });

  it('drop what the tracker has no room for, and say so', () => {
    const made = ruledRig([NAME], ['user'], { maxKeys: 256 });
    const startMs = made.now - START_MS;
    const points = Array.from(
      { length: 300 },
      (_, i) => [`u${i}`, 1n, startMs, startMs + 1000] as [string, bigint, number, number],
    );
    const limited = made.send([sum(points)]);
    expect(limited.out).toMatchObject([{ int: 128n }]);
    expect(limited.dropped).toEqual([{ metric: NAME, label: 'user', reason: 'tracker_full', count: 172 }]);
  });

  it('drop histograms with bounds other than those of the stream, until those have gone out of use', () => {
    const made = ruledRig([NAME], ['user']);
    const startMs = made.now - START_MS;
    const send = (user: string, bounds: number[], n: bigint) => {
      made.now += 1000;
      const buckets = [n, ...bounds.map(() => 0n)];
      const time = made.ns();
      const point = { labels: { user }, count: n, sum: 1, buckets, bounds, start: at(startMs), time };
      return made.send([metricOf('histogram', [point])]);
    };
    expect(send('a', [1, 2], 3n).out).toMatchObject([{ count: 3n, bounds: [1, 2] }]);
    expect(send('b', [1, 9], 3n).dropped).toMatchObject([{ reason: 'histogram_bounds', count: 1 }]);
    made.now += 301_000;
    expect(send('b', [1, 9], 5n).out).toMatchObject([{ count: 5n, bounds: [1, 9] }]);
  });

  it('stay in the overflow stream once they went there, and add up with those that did not', () => {
    const made = rig({
      maxKeys: 1024,
      aggregateScore: 0.8,
      criticalScore: 0.8,
      criticalAction: 'overflow',
      keyTtlMs: 30_000,
    });
    const values = new Map<string, bigint>();
    const forwarded = new Map<string, bigint>();
    let overflow = 0n;
    const collect = (from: number, to: number) => {
      made.now += 1000;
      const points: PointData[] = [];
      for (let i = from; i < to; i++) {
        const user = `u${i}`;
        values.set(user, (values.get(user) ?? 0n) + BigInt(1 + (i % 3)));
        points.push({
          labels: { user },
          int: values.get(user)!,
          start: made.ns() - 500n * MS,
          time: made.ns(),
        });
      }
      for (const point of points) point.start = at(10);
      for (const point of made.send([metricOf('int', points)]).out) {
        if (point.labels['otel.metric.overflow']) overflow = point.int!;
        else forwarded.set(String(point.labels.user), point.int!);
      }
    };
    for (let i = 0; i < 10; i++) collect(i * 100, i * 100 + 100);
    expect(overflow).toBeGreaterThan(0n);
    const own = forwarded.size;
    // The forwarded ones go away and the table gets room; the others go on.
    for (let i = 0; i < 40; i++) {
      collect(800, 1000);
      for (let k = 0; k < 20; k++) made.send([]);
    }
    expect(made.limiter.keysUsed).toBeLessThan(512);
    expect(forwarded.size).toBe(own);
    const all = (map: Map<string, bigint>) => [...map.values()].reduce((a, b) => a + b, 0n);
    expect(all(forwarded) + overflow).toBe(all(values));
  });
});
