/** When merged points that wait go out before their interval is over. */
import { describe, expect, it } from 'vitest';
import type { MetricData, PointData } from '../test/otlp.ts';
import { type Rig, ruledRig } from '../test/rig.ts';
import { HeldPoints } from './held-points.ts';

const NAME = 'm';
const HOUR_MS = 3_600_000;
const MIB = 1024 * 1024;

/** A point of a stream of its own, which takes a MiB. */
function large(made: Rig, n: number): MetricData[] {
  const labels = { user: 'u', host: `${n}`.padEnd(MIB, 'x') };
  const point: PointData = { labels, int: 1n, start: made.ns() - 1n, time: made.ns() };
  return [{ name: NAME, unit: '1', kind: 'sum', temporality: 1, monotonic: true, points: [point] }];
}

it('a request carries the deferred points once they reach 4 MiB, before the interval is over', () => {
  const made = ruledRig([NAME], ['user'], { mergeIntervalMs: HOUR_MS });
  made.limiter.held.hurry();
  made.send([]); // takes along what showed the label to be bad
  for (let n = 0; n < 4; n++) {
    expect(made.limiter.isHeldDue).toBe(false);
    expect(made.send(large(made, n)).out).toEqual([]);
  }
  expect(made.limiter.isHeldDue).toBe(true);
  expect(made.send(large(made, 4)).out).toHaveLength(5);
  expect(made.limiter.held.size).toBe(0);
  expect(made.limiter.isHeldDue).toBe(false);
});

it('a histogram without buckets is not joined with a deferred one of a single bucket: neither has bounds', () => {
  const made = ruledRig([NAME], ['user'], { mergeIntervalMs: HOUR_MS, mergedTemporality: 'delta' });
  made.limiter.held.hurry();
  made.send([]);
  const start = made.ns();
  const send = (point: Partial<PointData>) => {
    made.now += 400_000; // time for other buckets to become those of the stream
    const points = [{ labels: { user: 'u' }, start, time: made.ns(), bounds: [], ...point }];
    return made.send([{ name: NAME, unit: '1', kind: 'histogram', temporality: 2, points }]);
  };
  send({ count: 3n, buckets: [3n] });
  send({ count: 5n, buckets: [] });
  made.limiter.held.hurry();
  const { out } = send({ count: 5n, buckets: [] });
  expect(out.map(({ count, buckets }) => [count, buckets])).toEqual([
    [3n, [3n]],
    [5n, undefined],
  ]);
});

describe('deferred points are due', () => {
  const pointOf = (bytes: number) => ({ bytes: Buffer.alloc(bytes), start: 0, end: bytes, parts: 1 });
  const begun = () => {
    const held = new HeldPoints();
    held.begin();
    held.set('a', pointOf(4 * MIB - 1), 0);
    return { held, isDue: () => held.isDue(HOUR_MS - 1, HOUR_MS) };
  };

  it('at 4 MiB, not counting undone requests', () => {
    const { held, isDue } = begun();
    expect(isDue()).toBe(false);
    const changes = held.begin();
    held.set('b', pointOf(1), 0);
    expect(isDue()).toBe(true);
    held.undo(changes);
    expect(isDue()).toBe(false);
  });

  it('when 65,536 gauge sources have been counted', () => {
    const { held, isDue } = begun();
    for (let n = 1; n < 65_536; n++) held.countGauge(n, 7);
    held.countGauge(1, 7);
    expect(isDue()).toBe(false);
    held.countGauge(65_536, 7);
    expect(isDue()).toBe(true);
  });
});
