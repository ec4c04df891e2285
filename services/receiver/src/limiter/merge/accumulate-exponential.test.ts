import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PointData, request } from '../test/otlp.ts';
import { Reader } from '../wire/reader.ts';
import {
  addExponential,
  type Buckets,
  EXPONENTIAL_BUCKETS_MAX,
  type Exponential,
  ExponentialPoint,
  ExponentialTotal,
  emptyExponential,
  subtractExponential,
} from './accumulate-exponential.ts';
import { exponentialCells, readExponential, writeExponential } from './exponential-block.ts';

/** Widens the zero bucket. */
const withZeroThreshold = (histogram: Exponential, zeroThreshold: number) =>
  addExponential(histogram, { ...emptyExponential(histogram.scale), zeroThreshold });

/** An observation is its bucket at scale 10, and its sign; so the exact histogram at any lower scale is known. */
const FINE = 10;
interface Observation {
  index: number;
  sign: number;
}

function exact(observations: Observation[], scale: number): Exponential {
  const side = (sign: number): Buckets => {
    const indices = observations.filter((o) => o.sign === sign).map((o) => o.index >> (FINE - scale));
    if (indices.length === 0) return { offset: 0, counts: [] };
    const offset = Math.min(...indices);
    const counts = new Array<number>(Math.max(...indices) - offset + 1).fill(0);
    for (const index of indices) counts[index - offset]!++;
    return { offset, counts };
  };
  return {
    ...emptyExponential(scale),
    count: observations.length,
    sum: observations.reduce((sum, { index }) => sum + index, 0),
    zeroCount: observations.filter((o) => o.sign === 0).length,
    positive: side(1),
    negative: side(-1),
  };
}

const observation = fc.record({
  index: fc.oneof(fc.integer({ min: -500, max: 500 }), fc.integer({ min: -20_000, max: 20_000 })),
  sign: fc.constantFrom(1, 1, -1, 0),
});
const observations = fc.array(observation, { maxLength: 40 });
const scale = fc.integer({ min: -5, max: FINE });

describe('exponential histograms', () => {
  it('add up to the histogram of all observations, at a scale that fits', () => {
    fc.assert(
      fc.property(observations, observations, scale, scale, (a, b, scaleA, scaleB) => {
        const sum = addExponential(exact(a, scaleA), exact(b, scaleB));
        expect(sum).toEqual(exact([...a, ...b], sum.scale));
        expect(sum.scale).toBeLessThanOrEqual(Math.min(scaleA, scaleB));
        expect(sum.positive.counts.length).toBeLessThanOrEqual(EXPONENTIAL_BUCKETS_MAX);
        expect(sum.negative.counts.length).toBeLessThanOrEqual(EXPONENTIAL_BUCKETS_MAX);
        // Not lower than it has to be.
        if (sum.scale < Math.min(scaleA, scaleB)) {
          const finer = exact([...a, ...b], sum.scale + 1);
          const widest = Math.max(finer.positive.counts.length, finer.negative.counts.length);
          expect(widest).toBeGreaterThan(EXPONENTIAL_BUCKETS_MAX);
        }
      }),
    );
  });

  it('yield the increment between two states, at any scales', () => {
    fc.assert(
      fc.property(observations, observations, scale, scale, (before, between, scaleBefore, scaleNow) => {
        const previous = addExponential(exact(before, scaleBefore), emptyExponential(scaleBefore));
        const difference = subtractExponential(exact([...before, ...between], scaleNow), previous)!;
        expect(difference).toEqual(exact(between, difference.scale));
      }),
    );
  });

  it('detect a reset: the new state does not contain the old one', () => {
    const before = exact([{ index: 3, sign: 1 }], 5);
    expect(subtractExponential(exact([{ index: 900, sign: 1 }], 5), before)).toBeUndefined();
    expect(subtractExponential(exact([], 5), before)).toBeUndefined();
    const zero = exact([{ index: 0, sign: 0 }], 5);
    expect(
      subtractExponential(
        exact(
          [
            { index: 900, sign: 1 },
            { index: 900, sign: 1 },
          ],
          5,
        ),
        zero,
      ),
    ).toBeUndefined();
  });

  it('widen the zero bucket to the larger threshold, and past any bucket that it would cut', () => {
    // Scale 0: bucket i is (2^i, 2^(i+1)].
    const histogram: Exponential = {
      ...emptyExponential(0),
      count: 10,
      zeroCount: 1,
      positive: { offset: 0, counts: [2, 3, 4] }, // (1,2] (2,4] (4,8]
      negative: { offset: -2, counts: [0, 0] },
    };
    expect(withZeroThreshold(histogram, 1)).toMatchObject({ zeroThreshold: 1, zeroCount: 1 });
    expect(withZeroThreshold(histogram, 2)).toMatchObject({ zeroThreshold: 2, zeroCount: 3 });
    expect(withZeroThreshold(histogram, 3)).toMatchObject({
      zeroThreshold: 4,
      zeroCount: 6,
      positive: { offset: 2, counts: [4] },
    });
    const other = { ...emptyExponential(0), zeroThreshold: 3, zeroCount: 5, count: 5 };
    expect(addExponential(histogram, other)).toMatchObject({ zeroThreshold: 4, zeroCount: 11, count: 15 });
  });

  it('survive a round trip through storage', () => {
    fc.assert(
      fc.property(observations, scale, (list, at) => {
        const value = addExponential(exact(list, at), emptyExponential(at));
        const cells = new Float64Array(1024);
        writeExponential(cells, 7, value);
        expect(readExponential(cells, 7)).toEqual(value);
      }),
    );
  });
});

/** Every double, and those at which something ends more often than the others. */
const EXTREMES = [0, -0, 5e-324, 2.2e-308, 1e-300, 1, 1.5, 1e300, Number.MAX_VALUE];
const NOT_FINITE = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const anyDouble = fc.oneof(fc.double(), fc.constantFrom(...EXTREMES, ...NOT_FINITE, -1, -5e-324));
const threshold = fc.oneof(
  fc.constant(0),
  fc.constantFrom(...EXTREMES),
  fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
  fc.integer({ min: -1074, max: 1023 }).map((exponent) => 2 ** exponent),
  fc.double({ min: -40, max: 40, noNaN: true }).map((exponent) => 2 ** exponent),
);

/** Indices of the buckets between the smallest and the largest double. */
const lowest = (at: number) => Math.ceil(-1074 * 2 ** at) - 1;
const highest = (at: number) => Math.ceil(1024 * 2 ** at) - 1;

/** A histogram that is sound: its buckets lie where doubles do, and its counts add up. */
const sound: fc.Arbitrary<Exponential> = fc.integer({ min: -11, max: 20 }).chain((at) => {
  const side = fc
    .tuple(
      fc.oneof(
        fc.integer({ min: lowest(at), max: highest(at) }),
        fc.constantFrom(lowest(at), highest(at), -1, 0),
      ),
      fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 9 })), { maxLength: 12 }),
    )
    .map(([offset, counts]): Buckets => {
      const room = highest(at) - offset + 1;
      const list = counts.slice(0, room);
      while (list.length > 0 && list[0] === 0) list.shift();
      while (list.length > 0 && list.at(-1) === 0) list.pop();
      return { offset: list.length === 0 ? 0 : offset, counts: list };
    });
  return fc
    .record({ positive: side, negative: side, zeroCount: fc.nat(5), zeroThreshold: threshold })
    .map((parts) => ({ ...emptyExponential(at), ...parts, count: observed(parts) }));
});

const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);
function observed({
  positive,
  negative,
  zeroCount,
}: Pick<Exponential, 'positive' | 'negative' | 'zeroCount'>) {
  return zeroCount + sumOf(positive.counts) + sumOf(negative.counts);
}

/** Lower edges of the buckets that have counts. */
function populatedEdges({ scale: at, positive, negative }: Exponential): number[] {
  return [positive, negative].flatMap(({ offset, counts }) =>
    counts.flatMap((count, i) => (count === 0 ? [] : [2 ** ((offset + i) * 2 ** -at)])),
  );
}

/** An ExponentialHistogramDataPoint as a producer sends it. */
function decoded(data: Partial<PointData>): ExponentialPoint {
  const body = request([
    { name: 'm', kind: 'exponential', temporality: 2, points: [{ labels: {}, ...data }] },
  ]);
  let from = 0;
  let to = body.length;
  for (const field of [1, 2, 2, 10, 1]) {
    const reader = new Reader().open(body, from, to);
    while (reader.next() && reader.field !== field);
    from = reader.start;
    to = reader.end;
  }
  return new ExponentialPoint().decode(body, from, to);
}

const FAIR: Partial<PointData> = {
  count: 6n,
  sum: 9,
  scale: 3,
  zeroCount: 1n,
  positive: { offset: 2, counts: [1n, 2n] },
  negative: { offset: -4, counts: [2n] },
  min: -1,
  max: 3,
};

describe('exponential histograms with any numbers', () => {
  it('have no populated bucket below the zero threshold once merged, and keep every count', () => {
    fc.assert(
      fc.property(fc.array(sound, { minLength: 1, maxLength: 5 }), (parts) => {
        let whole = emptyExponential(parts[0]!.scale);
        for (const part of parts) {
          whole = addExponential(whole, part);
          expect(populatedEdges(whole).filter((edge) => edge < whole.zeroThreshold)).toEqual([]);
        }
        expect(whole.zeroThreshold).toBeGreaterThanOrEqual(
          Math.max(...parts.map((part) => part.zeroThreshold)),
        );
        expect(Number.isFinite(whole.zeroThreshold)).toBe(true);
        expect(observed(whole)).toBe(sumOf(parts.map((part) => part.count)));
        expect(whole.count).toBe(observed(whole));
        expect(whole.positive.counts.length).toBeLessThanOrEqual(EXPONENTIAL_BUCKETS_MAX);
        expect(whole.negative.counts.length).toBeLessThanOrEqual(EXPONENTIAL_BUCKETS_MAX);
      }),
      { numRuns: 5_000 },
    );
  });

  it('do not change when merged with nothing, or widened to their own threshold', () => {
    fc.assert(
      fc.property(sound, sound, threshold, (a, b, wider) => {
        const whole = addExponential(a, b);
        expect(addExponential(whole, emptyExponential(whole.scale))).toEqual(whole);
        const widened = withZeroThreshold(a, wider);
        expect(withZeroThreshold(widened, wider)).toEqual(widened);
        expect(withZeroThreshold(widened, widened.zeroThreshold)).toEqual(widened);
        expect(observed(widened)).toBe(a.count);
      }),
      { numRuns: 3_000 },
    );
  });

  it('yield the whole increment, whatever the thresholds', () => {
    fc.assert(
      fc.property(sound, sound, (before, between) => {
        const now = addExponential(before, between);
        const stored = addExponential(before, emptyExponential(before.scale));
        const difference = subtractExponential(now, stored)!;
        expect(difference.count).toBe(between.count);
        expect(observed(difference)).toBe(between.count);
      }),
      { numRuns: 3_000 },
    );
  });

  it('terminate and stay intact for any threshold', () => {
    fc.assert(
      fc.property(sound, sound, anyDouble, anyDouble, (a, b, thresholdA, thresholdB) => {
        const left = { ...a, zeroThreshold: thresholdA };
        const right = { ...b, zeroThreshold: thresholdB };
        const whole = addExponential(left, right);
        expect(observed(whole)).toBe(a.count + b.count);
        expect(whole.zeroThreshold).toBeGreaterThanOrEqual(0);
        expect(subtractExponential(whole, left)!.count).toBe(b.count);
        expect(observed(withZeroThreshold(left, thresholdB))).toBe(a.count);
      }),
      { numRuns: 3_000 },
    );
  });

  it('keep the sum of finite parts finite', () => {
    const large = { ...emptyExponential(0), count: 1, zeroCount: 1, sum: Number.MAX_VALUE };
    expect(addExponential(large, large).sum).toBe(Number.MAX_VALUE);
    expect(subtractExponential(large, { ...large, sum: -Number.MAX_VALUE })!.sum).toBe(Number.MAX_VALUE);
  });

  it('fit into the calculated number of cells', () => {
    fc.assert(
      fc.property(sound, sound, (a, b) => {
        const whole = addExponential(a, b);
        const cells = new Float64Array(exponentialCells(whole) + 3);
        writeExponential(cells, 3, whole);
        expect(readExponential(cells, 3)).toEqual(whole);
      }),
    );
  });
});

describe('ExponentialPoint', () => {
  it('is valid and finite as producers send it', () => {
    expect(decoded(FAIR)).toMatchObject({ sound: true, finite: true });
    expect(decoded({})).toMatchObject({ sound: true, finite: true });
    expect(decoded({ ...FAIR, zeroThreshold: -0 }).value.zeroThreshold).toBe(0);
    // The smallest and the largest double at the highest scale.
    for (const offset of [-1074 * 2 ** 20 - 1, 2 ** 30 - 1]) {
      const point = { count: 1n, scale: 20, positive: { offset, counts: [1n] } };
      expect(decoded(point)).toMatchObject({ sound: true, finite: true });
    }
  });

  it.each([
    ['a negative threshold', { zeroThreshold: -1 }],
    ['a count that is less than its buckets have', { count: 5n }],
    ['a count that is more than its buckets have', { count: 7n }],
    ['a count of 2^64 − 1', { count: 2n ** 64n - 1n }],
    ['a bucket of 2^64 − 1', { positive: { offset: 0, counts: [2n ** 64n - 1n] } }],
    ['a zero count of 2^64 − 1', { zeroCount: 2n ** 64n - 1n }],
    [
      'counts that add up only when they wrap',
      { count: 2n, positive: { offset: 0, counts: [2n ** 64n - 1n] } },
    ],
    ['a scale beyond what doubles need', { scale: 21 }],
    ['a scale at which one bucket holds everything', { scale: -12 }],
    ['buckets above every double', { scale: 0, positive: { offset: 1023, counts: [1n, 2n] } }],
    ['buckets below every double', { scale: 0, negative: { offset: -1077, counts: [2n] } }],
    [
      'more buckets than are taken in',
      { positive: { offset: 2, counts: [3n, ...new Array(4_096).fill(0n)] } },
    ],
  ])('is invalid with %s', (_, wrong) => {
    expect(decoded({ ...FAIR, ...wrong })).toMatchObject({ sound: false, value: emptyExponential(0) });
  });

  it('reports numbers that are not finite', () => {
    for (const value of NOT_FINITE) {
      for (const field of ['sum', 'min', 'max', 'zeroThreshold']) {
        expect(decoded({ ...FAIR, [field]: value }), `${field} ${value}`).toMatchObject({ finite: false });
      }
      expect(decoded({ ...FAIR, zeroThreshold: value }).sound, `threshold ${value}`).toBe(false);
    }
    // Without observations there is no least and no greatest, whatever is written there.
    const none = { min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY };
    expect(decoded({ ...none, count: 0n })).toMatchObject({ sound: true, finite: true });
  });

  it('keeps times of 0 and 2^64 − 1', () => {
    expect(decoded({ ...FAIR, start: 0n, time: 0n })).toMatchObject({ timeLo: 0, timeHi: 0 });
    const last = { timeLo: -1, timeHi: -1, startLo: -2, startHi: -1 };
    expect(decoded({ ...FAIR, start: 2n ** 64n - 2n, time: 2n ** 64n - 1n })).toMatchObject(last);
  });

  it('is merged into a total whose sum stays finite', () => {
    const total = new ExponentialTotal();
    for (let i = 0; i < 3; i++) total.add(decoded({ ...FAIR, sum: 1e308 }));
    expect(total.value).toMatchObject({ count: 18, sum: Number.MAX_VALUE });
  });
});
