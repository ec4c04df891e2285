import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addExponential,
  type Buckets,
  EXPONENTIAL_BUCKETS_MAX,
  type Exponential,
  emptyExponential,
  subtractExponential,
  withZeroThreshold,
} from './accumulate-exponential.ts';
import { readExponential, writeExponential } from './exponential-block.ts';

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

  it('give back what came in between, at whatever scales', () => {
    fc.assert(
      fc.property(observations, observations, scale, scale, (before, between, scaleBefore, scaleNow) => {
        const previous = addExponential(exact(before, scaleBefore), emptyExponential(scaleBefore));
        const difference = subtractExponential(exact([...before, ...between], scaleNow), previous)!;
        expect(difference).toEqual(exact(between, difference.scale));
      }),
    );
  });

  it('tell a stream that began anew: it does not contain what was before', () => {
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

  it('widen the zero bucket to the larger threshold, and over any bucket it would cut through', () => {
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

  it('survive being stored', () => {
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
