import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HistogramTotal } from '../merge/accumulate-histogram.ts';
import { HistogramPoint } from './point.ts';
import { POINT_WORDS, Scanner } from './scan.ts';

const double = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
};
const fixed64 = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};
const varint = (value: number): number[] =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
const delimited = (field: number, content: Uint8Array) =>
  Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(content.length)]), content]);
const fixedField = (field: number, content: Uint8Array) =>
  Buffer.concat([Buffer.from([(field << 3) | 1]), content]);

/** A list of numbers in one piece, or every number as a field of its own. */
const list = (field: number, one: fc.Arbitrary<Uint8Array>) =>
  fc
    .tuple(fc.array(one, { maxLength: 20 }), fc.boolean())
    .map(([numbers, packed]) =>
      packed
        ? delimited(field, Buffer.concat(numbers))
        : Buffer.concat(numbers.map((number) => fixedField(field, number))),
    );

const count = fc.oneof(
  { weight: 20, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 20n }) },
  fc.bigInt({ min: 2n ** 51n, max: 2n ** 54n }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const time = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(fixed64);
const usualBounds = fc.constant(delimited(7, Buffer.concat([5, 10, 25].map(double))));
const usualCounts = fc
  .array(fc.bigInt({ min: 0n, max: 100n }), { minLength: 4, maxLength: 4 })
  .map((counts) => delimited(6, Buffer.concat(counts.map(fixed64))));

const field: fc.Arbitrary<Uint8Array> = fc.oneof(
  time.map((bytes) => fixedField(2, bytes)),
  time.map((bytes) => fixedField(3, bytes)),
  count.map((value) => fixedField(4, fixed64(value))),
  fc.double().map((value) => fixedField(5, double(value))),
  list(6, count.map(fixed64)),
  usualCounts,
  list(7, fc.double().map(double)),
  usualBounds,
  usualBounds,
  fc.constant(delimited(8, fixedField(3, double(1)))),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => delimited(9, bytes)),
  fc.constantFrom([0], [1], [2], [3], [0x81, 0]).map((bytes) => Buffer.from([0x50, ...bytes])),
  fc.double().map((value) => fixedField(11, double(value))),
  fc.double().map((value) => fixedField(12, double(value))),
  fc.uint8Array({ maxLength: 20 }).map((bytes) => delimited(13, bytes)),
);

/** All that a point says, the bits of its doubles included. */
function contentOf(point: HistogramPoint): unknown {
  const { startLo, startHi, timeLo, timeHi, marker, buckets, bounds, boundsLo, boundsHi, sound } = point;
  const { hasSum, hasMin, hasMax, exemplars, finite } = point;
  const doubles = [point.count, point.sum, point.min, point.max, ...point.counts.subarray(0, buckets)];
  const numbers = [startLo, startHi, timeLo, timeHi, marker, buckets, bounds, boundsLo, boundsHi, sound];
  return [
    numbers,
    finite,
    hasSum,
    hasMin,
    hasMax,
    [...exemplars],
    doubles.map((value) => double(value).toString('hex')),
  ];
}

interface Parts {
  start: bigint;
  time: bigint;
  count: bigint;
  sum: number;
  counts: bigint[];
  bounds: number[];
  min: number;
  max: number;
}

const FAIR: Parts = {
  ...{ start: 1n, time: 2n, count: 6n, sum: 9, min: 0, max: 3 },
  ...{ counts: [1n, 2n, 3n], bounds: [1, 2] },
};

function encoded(parts: Partial<Parts>): Buffer {
  const { start, time, count: counted, sum, counts, bounds, min, max } = { ...FAIR, ...parts };
  return Buffer.concat([
    fixedField(2, fixed64(start)),
    fixedField(3, fixed64(time)),
    fixedField(4, fixed64(counted)),
    fixedField(5, double(sum)),
    delimited(6, Buffer.concat(counts.map(fixed64))),
    delimited(7, Buffer.concat(bounds.map(double))),
    fixedField(11, double(min)),
    fixedField(12, double(max)),
  ]);
}

const scanner = new Scanner();
const fast = new HistogramPoint(scanner);
const slow = new HistogramPoint(new Scanner()); // it has not seen the body

/** Decoded by the kernel, if it takes the point, and without it. */
const WAYS: [string, (parts: Partial<Parts>) => HistogramPoint][] = [
  [
    'by the kernel',
    (parts) => {
      const body = delimited(1, encoded(parts));
      scanner.scan(body, 0, body.length, 9, { lo: 1, hi: 2 });
      return fast.decode(body, scanner.points[1]! + scanner.base, scanner.points[2]! + scanner.base);
    },
  ],
  [
    'without it',
    (parts) => {
      const body = encoded(parts);
      return slow.decode(body, 0, body.length);
    },
  ],
];

describe('HistogramPoint', () => {
  it('is the same from the kernel and from the slow path, whatever the encoding', () => {
    let byKernel = 0;
    fc.assert(
      fc.property(fc.array(fc.array(field, { maxLength: 9 }), { minLength: 1, maxLength: 8 }), (points) => {
        const body = Buffer.concat(points.map((fields) => delimited(1, Buffer.concat(fields))));
        const scanner = new Scanner();
        expect(scanner.scan(body, 0, body.length, 9, { lo: 1, hi: 2 })).toBe(points.length);
        const fast = new HistogramPoint(scanner);
        const slow = new HistogramPoint(new Scanner()); // it has not seen the body
        for (let p = 0; p < points.length; p++) {
          const start = scanner.points[p * POINT_WORDS + 1]! + scanner.base;
          const end = scanner.points[p * POINT_WORDS + 2]! + scanner.base;
          if (scanner.decodeHistogram(body, start, end)) byKernel++;
          expect(contentOf(fast.decode(body, start, end))).toEqual(contentOf(slow.decode(body, start, end)));
        }
      }),
      { numRuns: 2000 },
    );
    expect(byKernel).toBeGreaterThan(1000);
  });

  it.each(WAYS)('is valid and finite as producers send it: %s', (_, decode) => {
    expect(decode({})).toMatchObject({ sound: true, finite: true });
    expect(decode({ counts: [7n], bounds: [], count: 7n })).toMatchObject({ sound: true, finite: true });
    expect(decode({ counts: [], bounds: [], count: 7n })).toMatchObject({ sound: true, finite: true });
    const none = { counts: [0n, 0n, 0n], count: 0n };
    // Without observations there is no least and no greatest, whatever is written there.
    const empty = decode({ ...none, min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY });
    expect(empty).toMatchObject({ sound: true, finite: true });
  });

  it.each(WAYS)('is invalid if it contradicts itself: %s', (_, decode) => {
    for (const wrong of [
      { count: 5n },
      { count: 7n },
      { count: 2n ** 64n - 1n },
      { count: 2n ** 53n },
      { counts: [2n ** 64n - 1n, 2n, 5n], count: 6n },
      { counts: [2n ** 53n - 1n, 1n, 0n], count: 2n ** 53n },
      { bounds: [1, 1] },
      { bounds: [2, 1] },
      { bounds: [1, Number.NaN] },
      { bounds: [Number.NaN, 1] },
      { bounds: [1] },
      { bounds: [1, 2, 3] },
      { bounds: [] },
      { counts: [], count: 6n },
    ]) {
      expect(decode(wrong).sound, String(Object.entries(wrong))).toBe(false);
    }
    expect(decode({ bounds: [-1, 1] }).sound, 'after bounds that are not in order').toBe(true);
  });

  it.each(WAYS)('reports numbers that are not finite: %s', (_, decode) => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const field of ['sum', 'min', 'max']) {
        expect(decode({ [field]: value }), `${field} ${value}`).toMatchObject({ sound: true, finite: false });
      }
    }
    expect(decode({ bounds: [1, Number.POSITIVE_INFINITY] }).finite).toBe(false);
    expect(decode({ bounds: [Number.NEGATIVE_INFINITY, 1] }).finite).toBe(false);
    expect(decode({ bounds: [1, Number.NaN] }).finite).toBe(false);
    expect(decode({}).finite, 'after others that were not').toBe(true);
  });

  it.each(WAYS)('keeps times of 0 and 2^64 − 1: %s', (_, decode) => {
    expect(decode({ start: 0n, time: 0n })).toMatchObject({ timeLo: 0, timeHi: 0 });
    const last = { startLo: -2, startHi: -1, timeLo: -1, timeHi: -1 };
    expect(decode({ start: 2n ** 64n - 2n, time: 2n ** 64n - 1n })).toMatchObject(last);
  });
});

describe('HistogramTotal', () => {
  it('has a sum that stays finite', () => {
    const total = new HistogramTotal();
    for (let i = 0; i < 3; i++) total.add(WAYS[0]![1]({ sum: 1e308 }));
    expect(total).toMatchObject({ count: 18, sum: Number.MAX_VALUE });
  });
});
