/** Sums that may fall: the sum of the last values of their sources. */
import { describe, expect, it } from 'vitest';
import { limiterOptions } from '../test/options.ts';
import { decode, flat, type MetricData, type PointData, request } from '../test/otlp.ts';
import { at, metricOf, NAME, sum } from '../test/producer.ts';
import { rig, ruledRig } from '../test/rig.ts';
import { sourceClaims } from './source-claims.ts';

describe('cumulative streams that lose a label', () => {
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
    made.limiter.configure(limiterOptions({ maxKeys: 4096, actAbove: 0, aggregateLabels: [name] }));
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
});
