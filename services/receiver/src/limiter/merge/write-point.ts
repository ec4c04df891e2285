import { NO_RECORDED_VALUE } from '../wire/point.ts';
import type { ReverseWriter } from '../wire/writer.ts';
import type { Buckets, Exponential } from './accumulate-exponential.ts';
import { NumberValue } from './accumulate-number.ts';
import type { OutputStream } from './stream.ts';

/**
 * Write the recomputed fields of a merged point, last field first since the writer goes backwards. Each function returns the
 * numbers of the fields that must not be copied from the first point.
 */
const END_FIELDS = [3, 4, 5, 6, 8];
const NUMBER_FIELDS = [2, 3, 4, 5, 6, 8];
const HISTOGRAM_FIELDS = [2, 3, 4, 5, 6, 8, 10, 11, 12];
const EXPONENTIAL_FIELDS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

const cumulative = new NumberValue();

function writeTimes(writer: ReverseWriter, stream: OutputStream): void {
  writer.fixed64Field(3, stream.timeLo, stream.timeHi);
  if (stream.startLo !== 0 || stream.startHi !== 0) writer.fixed64Field(2, stream.startLo, stream.startHi);
}

export function writeNumberFields(writer: ReverseWriter, stream: OutputStream): readonly number[] {
  const value = stream.number?.value ?? stream.output!.readValue(cumulative);
  if (value.isInt) writer.fixed64Field(6, value.lo, value.hi);
  else writer.doubleField(4, value.double);
  writeTimes(writer, stream);
  return NUMBER_FIELDS;
}

/** Marks the end of a stream: no value from here on. */
export function writeEnd(writer: ReverseWriter, { timeLo, timeHi }: OutputStream): readonly number[] {
  writer.varint(NO_RECORDED_VALUE);
  writer.tag(8, 0);
  writer.fixed64Field(3, timeLo, timeHi);
  return END_FIELDS;
}

/** Keeps the first point's bounds. Min and max are optional, and cannot be known for a cumulative stream. */
export function writeHistogramFields(
  writer: ReverseWriter,
  stream: OutputStream,
  cells: Float64Array,
): readonly number[] {
  const total = stream.histogram;
  const { output } = stream;
  if (total) {
    const observed = total.count > 0;
    if (total.hasMax && observed) writer.doubleField(12, total.max);
    if (total.hasMin && observed) writer.doubleField(11, total.min);
  }
  const counts = total?.counts ?? cells.subarray(output!.block + 2, output!.block + output!.cells);
  const buckets = total?.buckets ?? counts.length;
  if (buckets > 0) {
    const mark = writer.length;
    for (let i = buckets - 1; i >= 0; i--) writer.fixed64(counts[i]!);
    writer.close(6, mark);
  }
  if (total ? total.hasSum : output!.hasSum)
    writer.doubleField(5, total ? total.sum : cells[output!.block + 1]!);
  writer.fixed64(total ? total.count : cells[output!.block]!);
  writer.tag(4, 1);
  writeTimes(writer, stream);
  return HISTOGRAM_FIELDS;
}

export function writeExponentialFields(
  writer: ReverseWriter,
  stream: OutputStream,
  value: Exponential,
): readonly number[] {
  const total = stream.exponential;
  if (value.zeroThreshold !== 0) writer.doubleField(14, value.zeroThreshold);
  if (total && value.count > 0) {
    if (total.hasMax) writer.doubleField(13, total.max);
    if (total.hasMin) writer.doubleField(12, total.min);
  }
  writeBuckets(writer, 9, value.negative);
  writeBuckets(writer, 8, value.positive);
  writer.fixed64(value.zeroCount);
  writer.tag(7, 1);
  writer.varint(zigzag(value.scale));
  writer.tag(6, 0);
  if (total ? value.hasSum : stream.output!.hasSum) writer.doubleField(5, value.sum);
  writer.fixed64(value.count);
  writer.tag(4, 1);
  writeTimes(writer, stream);
  return EXPONENTIAL_FIELDS;
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
