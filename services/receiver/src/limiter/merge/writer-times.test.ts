/** Start and time of what a writer sends. */
import { describe, expect, it } from 'vitest';
import { at, type Form, MS, metricOf, NAME, pointOf, STEP_MS, sum } from '../test/producer.ts';
import { ruledRig, START_MS } from '../test/rig.ts';

describe('cumulative streams that lose a label', () => {
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
});
