import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LimiterOptions } from '../index.ts';
import {
  decode,
  type FlatPoint,
  flat,
  type MetricData,
  type PointData,
  request,
  streamOf,
} from '../test/otlp.ts';
import { type Rig, rig, ruledRig, START_MS } from '../test/rig.ts';
import { sourceClaims } from './source-claims.ts';

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
    it(`${form}: the output grows as the inputs do, through restarts, gaps, splits and repeats`, () => {
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

    it(`${form}: streams that were forwarded separately are handed over without loss or repetition`, () => {
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

  it('accept a source that is older than the pipeline without its past, and count this', () => {
    const made = ruledRig([NAME], ['user']);
    const send = (...points: [string, bigint, number, number][]) => made.send([sum(points)], { pod: 'p' });
    const first = send(['old', 1000n, -5000, 10_000]);
    expect(first).toMatchObject({ unknownPoints: 1, out: [{ int: 0n }] });
    made.now += 20_000;
    expect(send(['old', 1007n, -5000, 20_000]).out).toMatchObject([{ int: 7n, start: first.out[0]!.start }]);
    // Its producer reported before, and not with this one: it came after that.
    expect(send(['new', 5n, -5000, 21_000])).toMatchObject({ unknownPoints: 0, out: [{ int: 12n }] });
    expect(send(['old', 3n, -5000, 30_000]).out).toMatchObject([{ int: 15n }]); // fell: it was reset
    expect(send(['old', 9n, 22_000, 31_000]).out).toMatchObject([{ int: 24n }]); // another start: it was reset
  });

  it.each(['int', 'double', 'histogram', 'exponential'] as const)(
    '%s: take a point without a start for one of the life at hand, unless its value fell',
    (form) => {
      const made = ruledRig([NAME], ['user']);
      const [source] = newSources(made, 1);
      const totalAfter = (more: bigint, startMs?: number) => {
        made.now += STEP_MS;
        source!.counts = plus(source!.counts, [more, 0n, 0n, 0n]);
        const point = pointOf({ ...source!, startMs: startMs ?? 0 }, form, made.now);
        return sumOf(countOf(made.send([metricOf(form, [point])]).out[0]!, form));
      };
      const restart = () => {
        source!.counts = zeros();
      };
      const first = made.now;
      expect(totalAfter(3n, first)).toBe(3n);
      expect(totalAfter(2n)).toBe(5n);
      expect(totalAfter(1n, first)).toBe(6n);
      expect(totalAfter(4n)).toBe(10n);
      expect(totalAfter(0n, first)).toBe(10n);
      restart();
      const second = made.now + 1;
      expect(totalAfter(2n)).toBe(12n);
      expect(totalAfter(1n, second)).toBe(13n); // the start of the life that began without one
      restart();
      expect(totalAfter(7n, made.now + 1)).toBe(20n); // it began after the last point
      restart();
      expect(totalAfter(1n)).toBe(21n);
      restart();
      expect(totalAfter(5n, made.now + 1)).toBe(26n);
    },
  );

  it('take in a source without a start whose past is not known, and what it says of its start later', () => {
    const made = ruledRig([NAME], ['user']);
    const send = (int: bigint, time: number, start?: number) => {
      const point = { labels: { user: 'a' }, int, time: at(time), ...(start ? { start: at(start) } : {}) };
      return made.send([metricOf('int', [point])], { pod: 'p' });
    };
    expect(send(5n, 10_000)).toMatchObject({ unknownPoints: 1, out: [{ int: 0n }] });
    made.now += 60_000;
    expect(send(8n, 20_000).out).toMatchObject([{ int: 3n }]);
    expect(send(9n, 30_000, -5000).out).toMatchObject([{ int: 4n }]);
    expect(send(10n, 40_000).out).toMatchObject([{ int: 5n }]);
    expect(send(12n, 50_000, -5000).out).toMatchObject([{ int: 7n }]);
  });

  it('do not touch a stream that already has the same labels: the merged one has its own writer', () => {
    const made = ruledRig([NAME], ['user']);
    const send = (...list: [string, bigint, number, number][]) => made.send([sum(list)]).out;
    expect(send(['', 1010n, -9000, 11_000], ['a', 5n, 2000, 11_000])).toMatchObject([
      { labels: {}, int: 1010n, start: at(-9000), time: at(11_000) },
      { labels: { 'nrdot.writer': '0' }, int: 5n },
    ]);
    expect(send(['a', 6n, 2000, 21_000])).toMatchObject([{ int: 6n }]);
  });

  it('merge streams that other gateways have merged', () => {
    const made = ruledRig([NAME], ['user']);
    const of = (writer: string, int: bigint): PointData => ({
      labels: { user: 'u', 'nrdot.writer': writer },
      int,
      start: made.ns(),
      time: made.ns() + 1n,
    });
    const { out } = made.send([metricOf('int', [of('0', 3n), of('1', 4n)])]);
    expect(out).toMatchObject([{ labels: { 'nrdot.writer': '0' }, int: 7n }]);
  });

  it('are restored completely when their request is undone', () => {
    fc.assert(
      fc.property(
        played,
        fc.constantFrom('int', 'double', 'histogram', 'exponential'),
        (collections, form) => {
          const [made, plain] = [ruledRig([NAME], ['user']), ruledRig([NAME], ['user'])];
          const [sources, same] = [newSources(made, 5), newSources(plain, 5)];
          const undone = { ...made, send: (metrics: MetricData[]) => sendTwice(made, metrics) } as Rig;
          Object.defineProperty(undone, 'now', { get: () => made.now, set: (ms: number) => (made.now = ms) });
          expect(play(undone, sources, form, collections, [1])).toEqual(
            play(plain, same, form, collections, [1]),
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  /** Refused twice, alone and behind another request, and kept at the third try. */
  function sendTwice(made: Rig, metrics: MetricData[]): ReturnType<Rig['send']> {
    const body = request(metrics);
    const first = made.limiter.process(body).body;
    made.limiter.undo();
    made.limiter.process(body);
    made.limiter.process(body);
    made.limiter.undo();
    const sent = made.send(metrics);
    expect(sent.out).toEqual(flat(decode(first)));
    return sent;
  }

  it('treat sums that may fall as levels: the sum of the last values of live sources', () => {
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
    expect(made.limiter.report().tracker.sources).toBe(1);
  });

  it('claim the shared rules while labels may be stripped', () => {
    const relies = (options: Partial<LimiterOptions>, metrics: (made: Rig) => MetricData[]) => {
      const made = rig({ aggregateLabels: ['user'], ...options });
      return metrics(made).map((metric) => made.send([metric]).claim.reliesOnRules);
    };
    const points = [{ labels: { user: 'a' }, start: at(0), time: at(1), int: 1n }];
    const twice = () => [metricOf('int', points), metricOf('int', points)];
    expect(relies({ actAbove: 0 }, twice)).toEqual([true, true]);
    expect(relies({ actAbove: 0, mode: 'observe' }, twice)).toEqual([false, false]);
    expect(relies({ actAbove: 0.5 }, twice)).toEqual([false, false]);
    const others: Partial<MetricData>[] = [{ temporality: 1 }, { kind: 'gauge' }];
    expect(relies({ actAbove: 0 }, () => others.map((other) => metricOf('int', points, other)))).toEqual([
      false,
      false,
    ]);
  });

  it('undo the end of a level while the request before it is kept', () => {
    const made = ruledRig([NAME], ['user']);
    const of = (user: string, time: number, value: Partial<PointData>) =>
      metricOf('int', [{ labels: { user }, start: at(0), time: at(time), ...value }], { monotonic: false });
    made.send([of('b', 500, { int: 1n })]);
    made.limiter.process(request([of('a', 1000, { int: 10n })]));
    made.limiter.process(request([of('a', 2000, { flags: 1 })]));
    made.limiter.keep();
    made.limiter.undo();
    expect(made.limiter.report().tracker.sources).toBe(2);
    expect(made.send([of('c', 3000, { int: 100n })]).out).toMatchObject([{ int: 111n }]);
    expect(made.send([of('a', 4000, { int: 20n })]).out).toMatchObject([{ int: 121n }]);
    expect(made.send([of('a', 5000, { flags: 1 })]).out).toMatchObject([{ int: 101n }]);
    expect(made.limiter.report().tracker.sources).toBe(2);
  });

  it('undo the end of a level while the request before it, which ended another, is kept', () => {
    const made = ruledRig([NAME], ['user']);
    const of = (user: string, time: number, value: Partial<PointData>) =>
      metricOf('int', [{ labels: { user }, start: at(0), time: at(time), ...value }], { monotonic: false });
    made.send([of('b', 500, { int: 1n }), of('c', 500, { int: 2n })]);
    made.limiter.process(request([of('a', 1000, { int: 10n }), of('b', 1000, { flags: 1 })]));
    made.limiter.process(request([of('a', 2000, { flags: 1 })]));
    made.limiter.keep();
    made.limiter.undo();
    expect(made.limiter.report().tracker.sources).toBe(2);
    expect(made.send([of('a', 3000, { int: 20n })]).out).toMatchObject([{ int: 22n }]);
    expect(made.send([of('a', 4000, { flags: 1 })]).out).toMatchObject([{ int: 2n }]);
    expect(made.limiter.report().tracker.sources).toBe(1);
  });

  it('keep a level whose stream was forgotten for lack of points, until its sources are subtracted', () => {
    const made = ruledRig([NAME], ['user'], { keyTtlMs: 60_000 });
    const send = (user: string, int: bigint) => {
      const point = { labels: { user }, start: at(0), time: made.ns(), int };
      return made.send([metricOf('int', [point], { monotonic: false })]).out;
    };
    send('a', 5n);
    // Nothing comes for long; then other metrics do, while time passes.
    for (let i = 0; i < 60; i++) {
      made.now += 10_000;
      made.send([metricOf('int', [{ labels: {}, time: made.ns(), int: 1n }], { name: 'other' })]);
    }
    expect(send('b', 3n).at(-1)).toMatchObject({ int: 3n });
  });

  it('give points of a restarted writer times later than any it wrote before', () => {
    for (const monotonic of [false, true]) {
      const made = ruledRig([NAME], ['user']);
      const time = made.ns();
      const send = (int: bigint) =>
        made.send([
          metricOf('int', [{ labels: { user: `u${int}` }, start: made.ns() - 5n, time, int }], { monotonic }),
        ]).out[0]!;
      const before = send(1n);
      const levels = new Map(
        made.limiter.levels().map(([field, value]) => [field.toString('latin1'), value]),
      );
      made.limiter.beginWriter(0, made.now + 1, made.now - 1_000, levels);
      expect(send(2n).time).toBeGreaterThan(before.time!);
    }
  });

  it('end a source of a level at once if it sends a staleness marker', () => {
    const made = ruledRig([NAME], ['user']);
    const level = { monotonic: false };
    const send = (points: PointData[]) => made.send([metricOf('int', points, level)]).out;
    const of = (user: string, time: number, value: Partial<PointData>): PointData => ({
      labels: { user },
      start: at(0),
      time: at(time),
      ...value,
    });
    expect(send([of('a', 1000, { int: 10n }), of('b', 1000, { int: 5n })])).toMatchObject([{ int: 15n }]);
    expect(send([of('a', 2000, { flags: 1 })])).toMatchObject([{ int: 5n }]);
    expect(send([of('a', 2000, { flags: 1 })])).toEqual([]);
    expect(send([of('a', 3000, { int: 2n })])).toMatchObject([{ int: 7n }]);
  });

  /** A level of user `a`, forwarded by itself, whose label is given up after that. */
  function forwardedLevel(label: 'user' | 'resource:host' = 'user') {
    const isOfResource = label !== 'user';
    const name = label.replace('resource:', '');
    const made = rig({ aggregateLabels: [name], actAbove: 1 });
    const of = (who: string, value: Partial<PointData>, time: number): PointData => ({
      labels: isOfResource ? {} : { user: who },
      start: at(0),
      time: at(time),
      ...value,
    });
    const metric = (points: PointData[]) => metricOf('int', points, { monotonic: false });
    const resource = isOfResource ? { host: 'a' } : undefined;
    const send = (points: PointData[]) =>
      made.send([metric(points)], resource).out.map(({ labels, resource: { host }, int, double, flags }) => {
        const who = labels.user ?? host;
        return [who ?? 'merged', flags === 1 ? 'stale' : (int ?? double)];
      });
    expect(send([of('a', { int: 4n }, 1000)])).toEqual([['a', 4n]]);
    made.limiter.configure({ maxKeys: 4096, actAbove: 0, aggregateLabels: [name] });
    for (let i = 0; i < 400; i++) {
      const gauge = (labels: Record<string, string>): MetricData => {
        const points = [{ labels, double: 1, time: 1n }];
        return { name: NAME, unit: 'w', kind: 'gauge', points };
      };
      if (isOfResource) made.send([gauge({})], { host: `w${i}` });
      else made.send([gauge({ user: `w${i}` })]);
    }
    return { made, of, metric, send };
  }

  it('hand over a level: its own stream ends, and the merged one takes over its value', () => {
    const { of, send } = forwardedLevel();
    expect(send([of('a', { int: 6n }, 2000), of('b', { int: 1n }, 2000)])).toEqual([
      ['merged', 7n],
      ['a', 'stale'],
    ]);
    expect(send([of('a', { int: 5n }, 3000)])).toEqual([['merged', 6n]]);
  });

  it('hand over a level forwarded in a request whose answer was lost: its end has another time than its value', () => {
    const { made, of, metric } = forwardedLevel();
    const again = of('a', { int: 4n }, 1000);
    const ends = made.send([metric([again])]).out.filter(({ flags }) => flags === 1);
    expect(ends.map(({ time }) => time)).toEqual([again.time! + 1_000_000n]);
  });

  it('hand over a level whose resource loses a label: only its end is left under the old resource', () => {
    const { of, send } = forwardedLevel('resource:host');
    const handedOver = send([of('a', { int: 6n }, 2000)]);
    expect(handedOver).toHaveLength(2);
    expect(handedOver).toEqual(
      expect.arrayContaining([
        ['merged', 6n],
        ['a', 'stale'],
      ]),
    );
    expect(send([of('a', { int: 5n }, 3000)])).toEqual([['merged', 5n]]);
  });

  it('let the end of a forwarded level pass, even if it was refused before', () => {
    const { made, of, metric, send } = forwardedLevel();
    const end = [of('a', { flags: 1 }, 2000)];
    made.limiter.process(request([metric(end)]));
    made.limiter.undo();
    expect(send(end)).toEqual([['a', 'stale']]);
    expect(send(end)).toEqual([]);
    expect(send([of('a', { int: 5n }, 3000)])).toEqual([['merged', 5n]]);
  });

  it('forward a level separately if its value cannot be merged', () => {
    const { of, send } = forwardedLevel();
    expect(send([of('a', { double: Number.NaN }, 2000)])).toEqual([['a', Number.NaN]]);
    expect(send([of('a', { int: 6n }, 3000)])).toEqual([
      ['merged', 6n],
      ['a', 'stale'],
    ]);
  });

  it('subtract a level that only the ledger knows', () => {
    const [one, two] = [ruledRig([NAME], ['user']), ruledRig([NAME], ['user'])];
    const level = (points: PointData[]) => [metricOf('int', points, { monotonic: false })];
    const a = (time: number, value: Partial<PointData>): PointData => ({
      labels: { user: 'a' },
      start: at(0),
      time: at(time),
      ...value,
    });
    const [held] = sourceClaims(one.send(level([a(1000, { int: 10n })])).claim.sources);
    const end = request(level([a(2000, { flags: 1 })]));
    const asked = sourceClaims(two.limiter.process(end).claim.sources);
    expect(asked).toEqual([{ field: held!.field, expected: Buffer.alloc(0), value: Buffer.alloc(0) }]);
    two.limiter.undo();
    two.limiter.learnSource(held!.field, held!.value);
    const taken = two.limiter.process(end);
    two.limiter.keep();
    expect(flat(decode(taken.body))).toMatchObject([{ int: -10n }]);
    expect(sourceClaims(taken.claim.sources)).toMatchObject([{ value: { length: 0 } }]);
  });

  it('use the state in the ledger for a source that is not cached', () => {
    const [one, two] = [ruledRig([NAME], ['user']), ruledRig([NAME], ['user'])];
    const start = one.now - START_MS;
    const moved = sourceClaims(one.send([sum([['a', 10n, start, start + 1000]])]).claim.sources);
    expect(moved).toMatchObject([{ expected: { length: 0 } }]);
    // The other one takes it for new, is told that it is not, and computes again.
    const body = request([sum([['a', 15n, start, start + 2000]])]);
    const refused = two.limiter.process(body);
    expect(flat(decode(refused.body))).toMatchObject([{ int: 15n }]);
    two.limiter.undo();
    two.limiter.learnSource(moved[0]!.field, moved[0]!.value);
    const again = two.limiter.process(body);
    two.limiter.keep();
    expect(flat(decode(again.body))).toMatchObject([{ int: 5n }]);
    const next = sourceClaims(again.claim.sources);
    expect(next).toMatchObject([{ expected: moved[0]!.value.subarray(5, 21) }]);
    // And back: what is here is older than what the ledger has.
    one.limiter.learnSource(next[0]!.field, next[0]!.value);
    expect(one.send([sum([['a', 16n, start, start + 3000]])]).out).toMatchObject([{ int: 11n }]);
  });

  it('hand over streams that another receiver has forwarded until now', () => {
    const made = ruledRig([NAME], ['user']);
    const body = request([sum([['a', 10n, made.now - START_MS, made.now - START_MS + 1]])]);
    const { claim } = made.limiter.process(body);
    made.limiter.undo();
    made.limiter.learnForwarded([sourceClaims(claim.sources)[0]!.field]);
    const again = made.limiter.process(body);
    made.limiter.keep();
    expect(flat(decode(again.body))).toMatchObject([{ labels: { user: 'a' }, int: 10n }]);
    expect(sourceClaims(again.claim.sources)[0]!.expected.toString()).toBe('F');
    const next = made.send([sum([['a', 12n, made.now - START_MS, made.now - START_MS + 9]])]);
    expect(next.out).toMatchObject([{ labels: { 'nrdot.writer': '0' }, int: 2n }]);
  });

  it.each(['int', 'double', 'histogram', 'exponential', 'level'] as const)(
    'hand over a stream of which one request has several points: %s',
    (form) => {
      const made = ruledRig([NAME], ['user']);
      const isLevel = form === 'level';
      const points = [1, 2, 3].map((n) => {
        const source = { labels: { user: 'a' }, startMs: made.now, counts: [0n, BigInt(n), 0n, 0n] };
        return pointOf({ ...source, reported: [], past: [] }, isLevel ? 'int' : form, made.now + n);
      });
      const metrics = points.map((point) =>
        metricOf(isLevel ? 'int' : form, [point], isLevel ? { monotonic: false } : {}),
      );
      const body = request(metrics);
      const { claim } = made.limiter.process(body);
      made.limiter.undo();
      made.limiter.learnForwarded([sourceClaims(claim.sources)[0]!.field]);
      const again = made.limiter.process(body);
      made.limiter.keep();
      expect(sourceClaims(again.claim.sources).map(({ expected }) => expected.toString())).toEqual(['F']);
      const next = made.send([metrics.at(-1)!]).claim.sources;
      expect(sourceClaims(next)).toMatchObject([{ expected: { length: 16 } }]);
    },
  );

  it('start again as another writer, later than anything written before', () => {
    const made = ruledRig([NAME], ['user']);
    const start = made.now - START_MS;
    const send = (value: bigint, time: number) =>
      made.send([sum([['a', value, start, start + time]])]).out[0]!;
    made.now += 60_000;
    const before = send(10n, 30_000);
    made.limiter.beginWriter(3, made.now - 45_000, made.now, new Map());
    const after = send(12n, 31_000);
    expect(after).toMatchObject({ labels: { 'nrdot.writer': '3' }, int: 2n });
    expect(after.start! > before.time!).toBe(true);
    expect(after.time! > after.start!).toBe(true);
  });

  it.each(['int', 'double', 'histogram', 'exponential'] as const)(
    '%s: are sent as deltas if configured, which add up to the growth of the inputs',
    (form) => {
      fc.assert(
        fc.property(played, splits, fc.integer({ min: 1, max: 9 }), (collections, parts, count) => {
          const made = ruledRig([NAME], ['user'], { mergedTemporality: 'delta' });
          const sources = newSources(made, count);
          const seen = new Map<string, bigint[]>();
          const last = new Map<string, bigint>();
          for (const point of play(made, sources, form, collections, parts)) {
            expect(point.metric.temporality).toBe(1);
            expect(point.labels['nrdot.writer']).toBeUndefined();
            const route = String(point.labels.route);
            if (last.has(route)) expect(point.start).toBe(last.get(route));
            expect(point.time! > point.start!).toBe(true);
            last.set(route, point.time!);
            const counts = countOf(point, form);
            seen.set(route, seen.has(route) ? counts.map((n, i) => n + seen.get(route)![i]!) : counts);
          }
          for (const [route, counts] of truth(sources, form))
            expect(seen.get(route) ?? comparable(zeros(), form)).toEqual(counts);
        }),
        { numRuns: 40 },
      );
    },
  );

  it("use the receiver's time if a producer's clock is ahead or stands still", () => {
    const made = ruledRig([NAME], ['user']);
    const start = made.now - START_MS;
    const day = 86_400_000;
    const send = (user: string, value: bigint, time: bigint) =>
      made.send([metricOf('int', [{ labels: { user }, int: value, start: at(start), time }])]);
    made.now += 10_000;
    const ahead = send('a', 1n, made.ns() + BigInt(day) * MS);
    expect(ahead).toMatchObject({ skewedPoints: 1, out: [{ int: 1n }] });
    expect(ahead.out[0]!.time! <= made.ns()).toBe(true);
    made.now += 10_000;
    expect(send('a', 3n, made.ns()).out).toMatchObject([{ int: 3n, time: made.ns() }]);
    made.now += 1000;
    expect(send('a', 4n, 2n ** 64n - 1n)).toMatchObject({ skewedPoints: 1 });
    for (const value of [1n, 2n, 3n]) {
      made.now += 1000;
      send('undated', value, 0n);
    }
    made.now += 1000;
    expect(send('b', 1n, made.ns()).out).toMatchObject([{ int: 8n, time: made.ns() }]);
  });

  it.each(['histogram', 'exponential'] as const)(
    'a sum that is missing at times is in the increment of the next: %s',
    (form) => {
      const made = ruledRig([NAME], ['user'], { mergedTemporality: 'delta' });
      const startMs = made.now;
      const send = (count: number, sum: number | undefined) => {
        made.now += STEP_MS;
        const source = {
          labels: { user: 'a' },
          startMs,
          counts: [0n, BigInt(count), 0n, 0n],
          reported: [],
          past: [],
        };
        const { sum: _, ...point } = pointOf(source, form, made.now);
        const { count: counted, sum: given } = made.send([
          metricOf(form, [{ ...point, ...(sum === undefined ? {} : { sum }) }]),
        ]).out[0]!;
        return [Number(counted), given];
      };
      expect(send(1, 10)).toEqual([1, 10]);
      expect(send(2, undefined)).toEqual([1, undefined]);
      expect(send(3, 30)).toEqual([1, 20]);
      expect(send(5, 35)).toEqual([2, 5]);
    },
  );

  it('a start that is missing at times does not move that of an increment', () => {
    const made = ruledRig([NAME], ['user'], { mergedTemporality: 'delta' });
    const startMs = made.now;
    made.now += STEP_MS;
    const points = [5, undefined, 7].map((start, i) => ({
      ...{ labels: { user: `u${i}` }, int: 1n, time: made.ns() },
      ...(start === undefined ? {} : { start: BigInt(startMs + start) * MS }),
    }));
    expect(made.send([metricOf('int', points)]).out).toMatchObject([{ start: BigInt(startMs + 5) * MS }]);
  });

  it('move the start of an increment with its time', () => {
    const made = ruledRig([NAME], ['user']);
    const day = 86_400_000n * MS;
    const interval = 10_000n * MS;
    const send = (kind: Form, ns: bigint) => {
      const source = { labels: { user: 'a' }, startMs: 0, counts: [0n, 1n, 0n, 0n], reported: [], past: [] };
      const point = { ...pointOf(source, kind, 0), start: ns - interval, time: ns };
      return made.send([metricOf(kind, [point], { temporality: 1 })]).out[0]!;
    };
    for (const form of ['int', 'histogram', 'exponential'] as const) {
      made.now += 60_000;
      expect(send(form, made.ns() + day), form).toMatchObject({
        start: made.ns() - interval,
        time: made.ns(),
      });
      made.now += 5_000; // less than an interval later: it begins where the last one ended
      expect(send(form, made.ns() + day), form).toMatchObject({
        start: made.ns() - 5_000n * MS,
        time: made.ns(),
      });
    }
  });

  it('date points by the wall clock', () => {
    const made = ruledRig([NAME], ['user']);
    const wallMs = made.now + 7_200_000;
    made.wallNow = () => wallMs;
    const time = BigInt(wallMs) * MS;
    const [point] = made.send([
      metricOf('int', [{ labels: { user: 'a' }, int: 3n, start: time - 1_000n * MS, time }]),
    ]).out;
    expect(point).toMatchObject({ int: 3n, time });
  });

  it('drop and count non-finite values, and continue', () => {
    const made = ruledRig([NAME], ['user']);
    const start = at(made.now - START_MS);
    const send = (double: number) => {
      made.now += 1000;
      return made.send([metricOf('double', [{ labels: { user: 'a' }, double, start, time: made.ns() }])]);
    };
    expect(send(2).out).toMatchObject([{ double: 2 }]);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      expect(send(bad)).toMatchObject({ dropped: [{ reason: 'not_finite', count: 1 }], out: [] });
    expect(send(5).out).toMatchObject([{ double: 5 }]);
  });

  it('advance in time however many requests one collection has', () => {
    const made = ruledRig([NAME], ['user']);
    const start = made.now - START_MS;
    made.now += 10_000;
    const times = Array.from(
      { length: 2000 },
      (_, i) => made.send([sum([[`u${i % 10}-${i}`, 1n, start, start + 10_000]])]).out[0]!,
    );
    for (let i = 1; i < times.length; i++) expect(times[i]!.time! / MS > times[i - 1]!.time! / MS).toBe(true);
    expect(times.at(-1)).toMatchObject({ int: 2000n });
  });

  it('drop and report sources that do not fit into the tracker', () => {
    const made = ruledRig([NAME], ['user'], { maxKeys: 256 });
    made.limiter.learnTotals(0, 65_536 - 128);
    const startMs = made.now - START_MS;
    const points = Array.from(
      { length: 300 },
      (_, i) => [`u${i}`, 1n, startMs, startMs + 1000] as [string, bigint, number, number],
    );
    const limited = made.send([sum(points)]);
    expect(limited.out).toMatchObject([{ int: 128n }]);
    expect(limited.dropped).toEqual([{ metric: NAME, label: 'user', reason: 'tracker_full', count: 172 }]);
  });

  it('drop histograms with other bounds than their stream, until those are no longer in use', () => {
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

  it('stay in the overflow stream, and add up with those that never entered it', () => {
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
