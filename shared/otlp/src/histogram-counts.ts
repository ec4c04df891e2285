import { FieldCursor } from './fields.ts';

/**
 * Whether a histogram point contradicts itself: the number of buckets is not one more than that of bounds, or the bucket counts
 * do not add up to `count` (metrics.proto, HistogramDataPoint). The bytes are well-formed.
 */

const COUNT = 4;
const BUCKET_COUNTS = 6;
const EXPLICIT_BOUNDS = 7;
const ZERO_COUNT = 7;
const POSITIVE = 8;
const NEGATIVE = 9;
const BUCKETS_COUNTS = 2;
const TWO32 = 2 ** 32;

const point = new FieldCursor();
const buckets = new FieldCursor();

export function histogramContradicts(bytes: Uint8Array, start: number, end: number): boolean {
  let count = 0;
  let sum = 0;
  let counts = 0;
  let bounds = 0;
  point.reset(bytes, start, end);
  while (point.next()) {
    switch (point.number) {
      case COUNT:
        count = fixed64(bytes, point.start);
        break;
      case EXPLICIT_BOUNDS:
        bounds += (point.end - point.start) / 8;
        break;
      case BUCKET_COUNTS:
        for (let at = point.start; at < point.end; at += 8) sum += fixed64(bytes, at);
        counts += (point.end - point.start) / 8;
    }
  }
  if (counts === 0) return bounds > 0;
  return counts !== bounds + 1 || differ(sum, count);
}

export function exponentialContradicts(bytes: Uint8Array, start: number, end: number): boolean {
  let count = 0;
  let zeros = 0;
  let sum = 0;
  point.reset(bytes, start, end);
  while (point.next()) {
    switch (point.number) {
      case COUNT:
        count = fixed64(bytes, point.start);
        break;
      case ZERO_COUNT:
        zeros = fixed64(bytes, point.start);
        break;
      case POSITIVE:
      case NEGATIVE:
        buckets.reset(bytes, point.start, point.end);
        while (buckets.next())
          if (buckets.number === BUCKETS_COUNTS) sum += sumOfVarints(bytes, buckets.start, buckets.end);
    }
  }
  return sum > 0 && differ(sum + zeros, count);
}

/** Sums beyond 2^53 are not exact and not compared. */
function differ(sum: number, count: number): boolean {
  return sum !== count && sum <= Number.MAX_SAFE_INTEGER && count <= Number.MAX_SAFE_INTEGER;
}

function fixed64(bytes: Uint8Array, at: number): number {
  const low = bytes[at]! + bytes[at + 1]! * 0x100 + bytes[at + 2]! * 0x10000 + bytes[at + 3]! * 0x1000000;
  const high =
    bytes[at + 4]! + bytes[at + 5]! * 0x100 + bytes[at + 6]! * 0x10000 + bytes[at + 7]! * 0x1000000;
  return low + high * TWO32;
}

function sumOfVarints(bytes: Uint8Array, start: number, end: number): number {
  let sum = 0;
  let factor = 1;
  for (let at = start; at < end; at++) {
    sum += (bytes[at]! & 0x7f) * factor;
    factor = bytes[at]! >= 0x80 ? factor * 128 : 1;
  }
  return sum;
}
