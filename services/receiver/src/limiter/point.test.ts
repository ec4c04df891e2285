import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
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
  const { hasSum, hasMin, hasMax, exemplars } = point;
  const doubles = [point.count, point.sum, point.min, point.max, ...point.counts.subarray(0, buckets)];
  const numbers = [startLo, startHi, timeLo, timeHi, marker, buckets, bounds, boundsLo, boundsHi, sound];
  return [
    numbers,
    hasSum,
    hasMin,
    hasMax,
    [...exemplars],
    doubles.map((value) => double(value).toString('hex')),
  ];
}

describe('HistogramPoint', () => {
  it('is the same whether the kernel decodes it or the slow way, whatever the encoding', () => {
    let byKernel = 0;
    fc.assert(
      fc.property(fc.array(fc.array(field, { maxLength: 9 }), { minLength: 1, maxLength: 8 }), (points) => {
        const body = Buffer.concat(points.map((fields) => delimited(1, Buffer.concat(fields))));
        const scanner = new Scanner();
        expect(scanner.scan(body, 0, body.length, 9, 1, 2)).toBe(points.length);
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
});
