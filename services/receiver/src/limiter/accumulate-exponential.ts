import { Point } from './point.ts';
import { doubleAt, int32At, lessThan, Reader, unsigned } from './reader.ts';

/*
 * Exponential histograms. Bucket i at scale s holds (base^i, base^(i+1)], base = 2^(2^-s). Lowering the scale by one halves
 * the index: buckets 2i and 2i+1 become i. So two histograms merge exactly at the lower of their scales.
 * https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
 */

/** Buckets per side that are kept; the default of the SDKs. A wider range is scaled down until it fits. */
export const EXPONENTIAL_BUCKETS_MAX = 160;
/** More buckets in a point than this are not taken in. */
const DECODED_MAX = 4096;
const SCALE_MIN = -10;
/** No double lies further out at the highest scale. */
const OFFSET_MAX = 2 ** 30;

/** Counts of consecutive buckets from index `offset` on. */
export interface Buckets {
  offset: number;
  counts: number[];
}

export interface Exponential {
  scale: number;
  count: number;
  sum: number;
  hasSum: boolean;
  zeroCount: number;
  zeroThreshold: number;
  positive: Buckets;
  negative: Buckets;
}

export function emptyExponential(scale: number): Exponential {
  return {
    scale,
    count: 0,
    sum: 0,
    hasSum: true,
    zeroCount: 0,
    zeroThreshold: 0,
    positive: { offset: 0, counts: [] },
    negative: { offset: 0, counts: [] },
  };
}

/** Without empty buckets at either end. */
export function trimmed({ offset, counts }: Buckets): Buckets {
  let from = 0;
  let to = counts.length;
  while (from < to && counts[from] === 0) from++;
  while (to > from && counts[to - 1] === 0) to--;
  return from === to ? { offset: 0, counts: [] } : { offset: offset + from, counts: counts.slice(from, to) };
}

function scaledDown({ offset, counts }: Buckets, by: number): Buckets {
  if (by === 0 || counts.length === 0) return { offset, counts: counts.slice() };
  const shift = Math.min(31, by);
  const first = offset >> shift;
  const result: number[] = [];
  for (let i = 0; i < counts.length; i++) {
    const at = ((offset + i) >> shift) - first;
    while (result.length <= at) result.push(0);
    result[at]! += counts[i]!;
  }
  return { offset: first, counts: result };
}

/** The same histogram at a scale that is not higher. */
export function atScale(histogram: Exponential, scale: number): Exponential {
  const by = histogram.scale - scale;
  return {
    ...histogram,
    scale,
    positive: scaledDown(histogram.positive, by),
    negative: scaledDown(histogram.negative, by),
  };
}

/** a + sign · b, at the same scale. */
function combined(a: Buckets, b: Buckets, sign: 1 | -1): Buckets {
  if (b.counts.length === 0) return { offset: a.offset, counts: a.counts.slice() };
  if (a.counts.length === 0) return { offset: b.offset, counts: b.counts.map((count) => sign * count) };
  const from = Math.min(a.offset, b.offset);
  const to = Math.max(a.offset + a.counts.length, b.offset + b.counts.length);
  const counts = new Array<number>(to - from).fill(0);
  a.counts.forEach((count, i) => {
    counts[a.offset - from + i] = count;
  });
  b.counts.forEach((count, i) => {
    counts[b.offset - from + i]! += sign * count;
  });
  return { offset: from, counts };
}

/** The scale at which both ranges of indices together fit into `EXPONENTIAL_BUCKETS_MAX` buckets. */
function fittingScale(scale: number, a: Buckets, b: Buckets): number {
  const sides = [a, b].filter((side) => side.counts.length > 0);
  if (sides.length === 0) return scale;
  let low = Math.min(...sides.map((side) => side.offset));
  let high = Math.max(...sides.map((side) => side.offset + side.counts.length - 1));
  let fitting = scale;
  while (high - low + 1 > EXPONENTIAL_BUCKETS_MAX && fitting > -31) {
    low >>= 1;
    high >>= 1;
    fitting--;
  }
  return fitting;
}

const upperBound = (index: number, scale: number) => 2 ** ((index + 1) * 2 ** -scale);
const lowerBound = (index: number, scale: number) => 2 ** (index * 2 ** -scale);

/**
 * Widens the zero bucket: counts at or below the threshold go into it. A threshold that would cut through a bucket with
 * counts is raised to that bucket's upper bound, as the data model asks.
 */
export function withZeroThreshold(histogram: Exponential, threshold: number): Exponential {
  if (threshold <= histogram.zeroThreshold) return histogram;
  let widened = threshold;
  let moved = 0;
  const fold = ({ offset, counts }: Buckets): Buckets => {
    const rest = counts.slice();
    for (let i = 0; i < rest.length; i++) {
      const index = offset + i;
      if (lowerBound(index, histogram.scale) >= widened) break;
      if (rest[i] === 0) continue;
      moved += rest[i]!;
      rest[i] = 0;
      widened = Math.max(widened, upperBound(index, histogram.scale));
    }
    return trimmed({ offset, counts: rest });
  };
  let positive = fold(histogram.positive);
  const negative = fold(histogram.negative);
  positive = fold(positive); // the other side may have raised the threshold
  return {
    ...histogram,
    zeroThreshold: widened,
    zeroCount: histogram.zeroCount + moved,
    positive,
    negative,
  };
}

/** Both at one scale (the lower one, lowered until the sum fits) and one zero threshold. */
function aligned(a: Exponential, b: Exponential): [Exponential, Exponential] {
  const lower = Math.min(a.scale, b.scale);
  let left = atScale(a, lower);
  let right = atScale(b, lower);
  for (;;) {
    const threshold = Math.max(left.zeroThreshold, right.zeroThreshold);
    left = withZeroThreshold(left, threshold);
    right = withZeroThreshold(right, threshold);
    if (left.zeroThreshold === right.zeroThreshold) break;
  }
  const scale = Math.min(
    fittingScale(lower, left.positive, right.positive),
    fittingScale(lower, left.negative, right.negative),
  );
  return scale === lower ? [left, right] : [atScale(left, scale), atScale(right, scale)];
}

/** The histogram of all observations of both. */
export function addExponential(a: Exponential, b: Exponential): Exponential {
  const [left, right] = aligned(a, b);
  return {
    scale: left.scale,
    count: left.count + right.count,
    sum: left.sum + right.sum,
    hasSum: left.hasSum && right.hasSum,
    zeroCount: left.zeroCount + right.zeroCount,
    zeroThreshold: left.zeroThreshold,
    positive: trimmed(combined(left.positive, right.positive, 1)),
    negative: trimmed(combined(left.negative, right.negative, 1)),
  };
}

/**
 * The observations that came between two cumulative points of one stream.
 * @returns undefined when `current` does not contain `previous`: the stream began anew
 */
export function subtractExponential(current: Exponential, previous: Exponential): Exponential | undefined {
  if (current.count < previous.count) return undefined;
  const [now, before] = aligned(current, previous);
  const positive = combined(now.positive, before.positive, -1);
  const negative = combined(now.negative, before.negative, -1);
  const zeroCount = now.zeroCount - before.zeroCount;
  if (
    zeroCount < 0 ||
    positive.counts.some((count) => count < 0) ||
    negative.counts.some((count) => count < 0)
  ) {
    return undefined;
  }
  return {
    scale: now.scale,
    count: now.count - before.count,
    sum: now.sum - before.sum,
    hasSum: now.hasSum && before.hasSum,
    zeroCount,
    zeroThreshold: now.zeroThreshold,
    positive: trimmed(positive),
    negative: trimmed(negative),
  };
}

const reader = new Reader();
const inner = new Reader();

/** An ExponentialHistogramDataPoint. */
export class ExponentialPoint extends Point {
  value = emptyExponential(0);
  min = 0;
  hasMin = false;
  max = 0;
  hasMax = false;
  /** Its numbers are within what can be added exactly, and its scale and buckets within reason. */
  sound = true;

  decode(bytes: Uint8Array, from: number, to: number): this {
    this.clear();
    this.hasMin = this.hasMax = false;
    this.min = this.max = 0;
    this.sound = true;
    const value = emptyExponential(0);
    value.hasSum = false;
    this.value = value;
    reader.open(bytes, from, to);
    while (reader.next()) {
      const at = reader.start;
      const lo = reader.wire === 1 ? int32At(bytes, at) : reader.lo;
      const hi = reader.wire === 1 ? int32At(bytes, at + 4) : reader.hi;
      switch (reader.field) {
        case 2:
          this.startLo = lo;
          this.startHi = hi;
          break;
        case 3:
          this.timeLo = lo;
          this.timeHi = hi;
          break;
        case 4:
          value.count = this.#exact(lo, hi);
          break;
        case 5:
          value.sum = doubleAt(bytes, at);
          value.hasSum = true;
          break;
        case 6:
          value.scale = (lo >>> 1) ^ -(lo & 1);
          break;
        case 7:
          value.zeroCount = this.#exact(lo, hi);
          break;
        case 8:
          this.#buckets(bytes, reader.start, reader.end, value.positive);
          break;
        case 9:
          this.#buckets(bytes, reader.start, reader.end, value.negative);
          break;
        case 10:
          this.marker = (lo & 1) !== 0;
          break;
        case 11:
          this.exemplar(reader.tagStart, reader.end);
          break;
        case 12:
          this.min = doubleAt(bytes, at);
          this.hasMin = true;
          break;
        case 13:
          this.max = doubleAt(bytes, at);
          this.hasMax = true;
          break;
        case 14:
          value.zeroThreshold = doubleAt(bytes, at);
          break;
      }
    }
    if (value.scale < SCALE_MIN - 1 || value.scale > 20) this.sound = false;
    value.positive = trimmed(value.positive);
    value.negative = trimmed(value.negative);
    return this;
  }

  #exact(lo: number, hi: number): number {
    if (hi >>> 0 > 0x1fffff) this.sound = false;
    return unsigned(lo, hi);
  }

  /** Buckets that come in several pieces merge: the last offset, all counts. */
  #buckets(bytes: Uint8Array, from: number, to: number, out: Buckets): void {
    inner.open(bytes, from, to);
    while (inner.next()) {
      if (inner.field === 1) {
        out.offset = (inner.lo >>> 1) ^ -(inner.lo & 1);
        if (Math.abs(out.offset) > OFFSET_MAX) this.sound = false;
      } else if (inner.field === 2 && inner.wire === 0) this.#push(out, inner.lo, inner.hi);
      else if (inner.field === 2 && inner.wire === 2) {
        inner.pos = inner.start;
        const end = inner.end;
        while (inner.pos < end) {
          inner.varint();
          this.#push(out, inner.lo, inner.hi);
        }
      }
    }
  }

  #push(out: Buckets, lo: number, hi: number): void {
    if (out.counts.length >= DECODED_MAX) this.sound = false;
    else out.counts.push(this.#exact(lo, hi));
  }
}

/** Points of one delta stream that become one. */
export class ExponentialTotal {
  value: Exponential | undefined;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  hasMin = true;
  hasMax = true;
  startLo = 0;
  startHi = 0;
  timeLo = 0;
  timeHi = 0;

  add(point: ExponentialPoint): void {
    const first = this.value === undefined;
    this.value = this.value ? addExponential(this.value, point.value) : point.value;
    if (point.value.count > 0) {
      this.hasMin &&= point.hasMin;
      this.hasMax &&= point.hasMax;
      if (point.min < this.min) this.min = point.min;
      if (point.max > this.max) this.max = point.max;
    }
    if (first || lessThan(point.startLo, point.startHi, this.startLo, this.startHi)) {
      this.startLo = point.startLo;
      this.startHi = point.startHi;
    }
    if (first || lessThan(this.timeLo, this.timeHi, point.timeLo, point.timeHi)) {
      this.timeLo = point.timeLo;
      this.timeHi = point.timeHi;
    }
  }
}
