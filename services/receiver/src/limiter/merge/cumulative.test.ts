import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LimiterOptions } from '../index.ts';
import { limiterOptions } from '../test/options.ts';
import { decode, flat, type MetricData, type PointData, request } from '../test/otlp.ts';
import {
  at,
  comparable,
  countOf,
  finals,
  MS,
  metricOf,
  NAME,
  newSources,
  play,
  played,
  plus,
  pointOf,
  routeOf,
  STEP_MS,
  splits,
  sum,
  sumOf,
  truth,
  zeros,
} from '../test/producer.ts';
import { type Rig, rig, ruledRig, START_MS } from '../test/rig.ts';
import { sourceClaims } from './source-claims.ts';

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
          made.limiter.configure(limiterOptions({ maxKeys: 4096, actAbove: 0, aggregateLabels: ['user'] }));
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
