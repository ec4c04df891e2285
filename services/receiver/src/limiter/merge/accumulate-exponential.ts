import { addDoubles } from '../wire/double.ts';
import { DistributionPoint } from '../wire/point.ts';
import { doubleAt, int32At, Reader, unsigned } from '../wire/reader.ts';
import type { ReverseWriter } from '../wire/writer.ts';
import { readExponential } from './exponential-block.ts';
import type { Output } from './output-table.ts';
import { DistributionTotal } from './total.ts';

/*
 * Exponential histograms. Bucket i at scale s holds (base^i, base^(i+1)], base = 2^(2^-s). Lowering the scale by one halves
 * the index: buckets 2i and 2i+1 become i. So two histograms merge exactly at the lower of their scales.
 * https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
 */

/** Maximum number of buckets per side; the SDKs' default. Wider ranges are scaled down to fit. */
export const EXPONENTIAL_BUCKETS_MAX = 160;
/** Points with more buckets are not decoded. */
const DECODED_MAX = 4096;
/**
 * At one scale lower, a single bucket would hold everything above 1; at one scale higher than the maximum, indices exceed
 * int32.
 */
const SCALE_MIN = -11;
const SCALE_MAX = 20;
const FIELDS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/** Indices of the buckets of the smallest and the largest double. */
const lowestIndex = (scale: number) => Math.ceil(-1074 * 2 ** scale) - 1;
const highestIndex = (scale: number) => Math.ceil(1024 * 2 ** scale) - 1;

/** Counts of consecutive buckets starting at index `offset`. */
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
function trimmed({ offset, counts }: Buckets): Buckets {
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

/** The same histogram at an equal or lower scale. */
function atScale(histogram: Exponential, scale: number): Exponential {
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

/** The highest scale at which both index ranges together fit into `EXPONENTIAL_BUCKETS_MAX` buckets. */
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

/** Upper bound of a bucket; of the last one it is the largest double, so that it can be a threshold. */
const upperBound = (index: number, scale: number) =>
  Math.min(Number.MAX_VALUE, 2 ** ((index + 1) * 2 ** -scale));

/** The bucket that contains the threshold: the first whose upper bound is not below it. */
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

/** A valid threshold is a number from 0 on; anything else belongs to an invalid point and counts as 0. */
const thresholdOf = (value: number) => (value > 0 ? Math.min(value, Number.MAX_VALUE) : 0);

const hasCounts = ({ offset, counts }: Buckets, index: number) => (counts[index - offset] ?? 0) > 0;

/** Removes the counts up to bucket `last` and adds them up. */
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
 * Widens the zero buckets of histograms at one scale to the largest of their thresholds: counts at or below it move to the zero
 * bucket. If it cuts a bucket that has counts, it is raised to that bucket's upper bound, as the data model requires. Buckets
 * are selected by their indices alone, so that widening again changes nothing.
 */
function withOneThreshold(histograms: readonly Exponential[]): Exponential[] {
  const threshold = Math.max(...histograms.map(({ zeroThreshold }) => thresholdOf(zeroThreshold)));
  if (threshold === 0) return histograms.map((histogram) => ({ ...histogram, zeroThreshold: 0 }));
  const { scale } = histograms[0]!;
  const bucket = bucketOf(threshold, scale);
  const isCut = histograms.some(
    ({ positive, negative }) => hasCounts(positive, bucket) || hasCounts(negative, bucket),
  );
  const common = isCut ? upperBound(bucket, scale) : threshold;
  return histograms.map((histogram) => widened(histogram, common, bucket));
}

/**
 * Brings both to one scale (the lower one, lowered until the sum fits) and one zero threshold. Buckets are wider at a lower
 * scale, so the threshold may cut another one: it is checked again after the last change of scale. The sum still fits then,
 * since buckets are only removed.
 */
function aligned(a: Exponential, b: Exponential): [Exponential, Exponential] {
  const lower = Math.min(a.scale, b.scale);
  const [left, right] = withOneThreshold([atScale(a, lower), atScale(b, lower)]);
  const scale = Math.min(
    fittingScale(lower, left!.positive, right!.positive),
    fittingScale(lower, left!.negative, right!.negative),
  );
  if (scale === lower) return [left!, right!];
  const [coarse, other] = withOneThreshold([atScale(left!, scale), atScale(right!, scale)]);
  return [coarse!, other!];
}

/** a + sign · b */
function merged(a: Exponential, b: Exponential, sign: 1 | -1): Exponential {
  const [left, right] = aligned(a, b);
  return {
    scale: left.scale,
    count: left.count + sign * right.count,
    sum: addDoubles(left.sum, sign * right.sum),
    hasSum: left.hasSum && right.hasSum,
    zeroCount: left.zeroCount + sign * right.zeroCount,
    zeroThreshold: left.zeroThreshold,
    positive: trimmed(combined(left.positive, right.positive, sign)),
    negative: trimmed(combined(left.negative, right.negative, sign)),
  };
}

/** The histogram of all observations of both. */
export function addExponential(a: Exponential, b: Exponential): Exponential {
  return merged(a, b, 1);
}

/**
 * The observations between two cumulative points of one stream.
 * @returns undefined if `current` does not contain `previous`: the stream was reset
 */
export function subtractExponential(current: Exponential, previous: Exponential): Exponential | undefined {
  if (current.count < previous.count) return undefined;
  const difference = merged(current, previous, -1);
  const { zeroCount, positive, negative } = difference;
  const isContained = [zeroCount, ...positive.counts, ...negative.counts].every((count) => count >= 0);
  return isContained ? difference : undefined;
}

/** Whether doubles can fall into all of these buckets. */
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
export class ExponentialPoint extends DistributionPoint {
  value = emptyExponential(0);

  /**
   * It is sound if its counts are exact integers that add up to `count`, its buckets are within the range of doubles, and its
   * threshold is a number from 0 on. Otherwise `value` is empty, so that nothing is computed with it.
   */
  decode(bytes: Uint8Array, from: number, to: number): this {
    this.clear();
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

  /** Merges buckets that are encoded in several pieces: the last offset, all counts. */
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

/** Accumulates points of one stream. */
export class ExponentialTotal extends DistributionTotal {
  readonly fields = FIELDS;
  value: Exponential | undefined;

  add(point: ExponentialPoint): void {
    this.#addValue(point.value);
    this.hasSum &&= this.value!.hasSum;
    this.includeRange(point, point.value.count);
  }

  addOutput(output: Output, cells: Float64Array): void {
    this.#addValue(readExponential(cells, output.block));
    this.includeOutput(output);
  }

  #addValue(value: Exponential): void {
    this.value = this.value ? addExponential(this.value, value) : value;
  }

  write(writer: ReverseWriter): void {
    const value = this.value!;
    if (value.zeroThreshold !== 0) writer.doubleField(14, value.zeroThreshold);
    this.writeRange(writer, 12, value.count);
    writeBuckets(writer, 9, value.negative);
    writeBuckets(writer, 8, value.positive);
    writer.fixed64(value.zeroCount);
    writer.tag(7, 1);
    writer.varint(zigzag(value.scale));
    writer.tag(6, 0);
    if (this.hasSum) writer.doubleField(5, value.sum);
    writer.fixed64(value.count);
    writer.tag(4, 1);
  }
}

function writeBuckets(writer: ReverseWriter, field: number, { offset, counts }: Buckets): void {
  if (counts.length === 0) return;
  const mark = writer.length;
  for (let i = counts.length - 1; i >= 0; i--) writer.varint(counts[i]!);
  writer.close(2, mark);
  writer.varint(zigzag(offset));
  writer.tag(1, 0);
  writer.close(field, mark);
}

const zigzag = (value: number) => ((value << 1) ^ (value >> 31)) >>> 0;
