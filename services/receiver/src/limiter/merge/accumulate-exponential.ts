import { addDoubles } from '../wire/double.ts';
import { Point } from '../wire/point.ts';
import { doubleAt, int32At, Reader, unsigned } from '../wire/reader.ts';
import { Span } from '../wire/span.ts';

/*
 * Exponential histograms. Bucket i at scale s holds (base^i, base^(i+1)], base = 2^(2^-s). Lowering the scale by one halves
 * the index: buckets 2i and 2i+1 become i. So two histograms merge exactly at the lower of their scales.
 * https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
 */

/** Buckets per side that are kept; the default of the SDKs. A wider range is scaled down until it fits. */
export const EXPONENTIAL_BUCKETS_MAX = 160;
/** More buckets in a point than this are not taken in. */
const DECODED_MAX = 4096;
/** One scale lower a single bucket has everything above 1; one scale higher the indices leave int32. */
const SCALE_MIN = -11;
const SCALE_MAX = 20;

/** Indices of the buckets with the smallest and with the largest double. */
const lowestIndex = (scale: number) => Math.ceil(-1074 * 2 ** scale) - 1;
const highestIndex = (scale: number) => Math.ceil(1024 * 2 ** scale) - 1;

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
  const result = new Array<number>(((offset + counts.length - 1) >> shift) - first + 1).fill(0);
  for (let i = 0; i < counts.length; i++) result[((offset + i) >> shift) - first]! += counts[i]!;
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

/** The upper bound of a bucket; that of the last one is the largest double, so that it can be a threshold. */
const upperBound = (index: number, scale: number) =>
  Math.min(Number.MAX_VALUE, 2 ** ((index + 1) * 2 ** -scale));

/** The first bucket whose upper bound is not below the threshold: the one that the threshold lies in. */
function bucketOf(threshold: number, scale: number): number {
  let low = lowestIndex(scale);
  let high = highestIndex(scale);
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2);
    if (upperBound(middle, scale) >= threshold) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A threshold is a number from 0 on. Anything else would be a point that is not sound, and counts as none. */
const thresholdOf = (value: number) => (value > 0 ? Math.min(value, Number.MAX_VALUE) : 0);

const hasCounts = ({ offset, counts }: Buckets, index: number) => (counts[index - offset] ?? 0) > 0;

/** Without the counts up to bucket `last`, which are added up. */
function cutOff({ offset, counts }: Buckets, last: number): { rest: Buckets; cut: number } {
  const length = Math.max(0, Math.min(counts.length, last - offset + 1));
  let cut = 0;
  for (let i = 0; i < length; i++) cut += counts[i]!;
  return { rest: trimmed({ offset: offset + length, counts: counts.slice(length) }), cut };
}

/** Widens the zero bucket over all buckets up to `last`. */
function widened(histogram: Exponential, zeroThreshold: number, last: number): Exponential {
  const positive = cutOff(histogram.positive, last);
  const negative = cutOff(histogram.negative, last);
  return {
    ...histogram,
    zeroThreshold,
    zeroCount: histogram.zeroCount + positive.cut + negative.cut,
    positive: positive.rest,
    negative: negative.rest,
  };
}

/**
 * Widens the zero buckets of histograms at one scale to one threshold, not below `least` and any of theirs: counts at or
 * below it go into the zero bucket. If it cuts through a bucket that has counts in one of them, it is raised to the upper
 * bound of that bucket, as the data model asks. Which buckets go is decided by their indices alone, so that widening again
 * changes nothing.
 */
function withOneThreshold(histograms: readonly Exponential[], least: number): Exponential[] {
  const threshold = Math.max(least, ...histograms.map(({ zeroThreshold }) => thresholdOf(zeroThreshold)));
  if (threshold === 0) return histograms.map((histogram) => ({ ...histogram, zeroThreshold: 0 }));
  const { scale } = histograms[0]!;
  const bucket = bucketOf(threshold, scale);
  const isCut = histograms.some(
    ({ positive, negative }) => hasCounts(positive, bucket) || hasCounts(negative, bucket),
  );
  const common = isCut ? upperBound(bucket, scale) : threshold;
  return histograms.map((histogram) => widened(histogram, common, bucket));
}

/** Widens the zero bucket to a threshold, or as far beyond as its buckets ask for. */
export function withZeroThreshold(histogram: Exponential, threshold: number): Exponential {
  return withOneThreshold([histogram], thresholdOf(threshold))[0]!;
}

/**
 * Both at one scale (the lower one, lowered until the sum fits) and one zero threshold. At a lower scale the buckets are
 * wider, and one more of them may be cut by the threshold: it is looked at again after the last change of scale, and what
 * fitted still fits, since buckets only go.
 */
function aligned(a: Exponential, b: Exponential): [Exponential, Exponential] {
  const lower = Math.min(a.scale, b.scale);
  const [left, right] = withOneThreshold([atScale(a, lower), atScale(b, lower)], 0);
  const scale = Math.min(
    fittingScale(lower, left!.positive, right!.positive),
    fittingScale(lower, left!.negative, right!.negative),
  );
  if (scale === lower) return [left!, right!];
  const [coarse, other] = withOneThreshold([atScale(left!, scale), atScale(right!, scale)], 0);
  return [coarse!, other!];
}

/** The histogram of all observations of both. */
export function addExponential(a: Exponential, b: Exponential): Exponential {
  const [left, right] = aligned(a, b);
  return {
    scale: left.scale,
    count: left.count + right.count,
    sum: addDoubles(left.sum, right.sum),
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
    sum: addDoubles(now.sum, -before.sum),
    hasSum: now.hasSum && before.hasSum,
    zeroCount,
    zeroThreshold: now.zeroThreshold,
    positive: trimmed(positive),
    negative: trimmed(negative),
  };
}

/** Whether the buckets are some that doubles fall into. */
function isWithin({ offset, counts }: Buckets, scale: number): boolean {
  if (counts.length === 0) return true;
  return offset >= lowestIndex(scale) && offset + counts.length - 1 <= highestIndex(scale);
}

function observations({ zeroCount, positive, negative }: Exponential): number {
  let sum = zeroCount;
  for (const count of positive.counts) sum += count;
  for (const count of negative.counts) sum += count;
  return sum;
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
  /**
   * It can be merged: its counts can be added exactly and add up to `count`, its buckets are where doubles are, and its
   * threshold is a number from 0 on. Otherwise `value` is empty: nothing is ever computed with what it said.
   */
  sound = true;
  /** Its sum, its threshold, and the least and greatest of what was observed are numbers. */
  finite = true;

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
    value.positive = trimmed(value.positive);
    value.negative = trimmed(value.negative);
    this.finite =
      Number.isFinite(value.sum) &&
      Number.isFinite(value.zeroThreshold) &&
      (value.count === 0 || (Number.isFinite(this.min) && Number.isFinite(this.max)));
    this.sound &&=
      value.scale >= SCALE_MIN &&
      value.scale <= SCALE_MAX &&
      isWithin(value.positive, value.scale) &&
      isWithin(value.negative, value.scale) &&
      value.zeroThreshold >= 0 &&
      Number.isFinite(value.zeroThreshold) &&
      value.count === observations(value);
    value.zeroThreshold = thresholdOf(value.zeroThreshold);
    if (!this.sound) this.value = emptyExponential(0);
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
export class ExponentialTotal extends Span {
  value: Exponential | undefined;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  hasMin = true;
  hasMax = true;

  add(point: ExponentialPoint): void {
    this.value = this.value ? addExponential(this.value, point.value) : point.value;
    if (point.value.count > 0) {
      this.hasMin &&= point.hasMin;
      this.hasMax &&= point.hasMax;
      if (point.min < this.min) this.min = point.min;
      if (point.max > this.max) this.max = point.max;
    }
    this.include(point);
  }

  /** Adds an increment as the tracker keeps it. Its least and greatest are not known. */
  addValue(value: Exponential, hasSum: boolean): void {
    this.value = addExponential(this.value!, value);
    this.value.hasSum &&= hasSum;
    this.hasMin = this.hasMax = false;
  }
}
