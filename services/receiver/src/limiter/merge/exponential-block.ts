import type { Buckets, Exponential } from './accumulate-exponential.ts';

/*
 * An exponential histogram in cells of the arena:
 *
 *   0 scale   1 count   2 sum   3 has a sum   4 zero count   5 zero threshold
 *   6 positive offset   7 positive length   8 negative offset   9 negative length   10… positive counts, negative counts
 */
const HEAD = 10;

export function exponentialCells(value: Exponential): number {
  return HEAD + value.positive.counts.length + value.negative.counts.length;
}

export function writeExponential(cells: Float64Array, at: number, value: Exponential): void {
  const { positive, negative } = value;
  cells[at] = value.scale;
  cells[at + 1] = value.count;
  cells[at + 2] = value.sum;
  cells[at + 3] = value.hasSum ? 1 : 0;
  cells[at + 4] = value.zeroCount;
  cells[at + 5] = value.zeroThreshold;
  cells[at + 6] = positive.offset;
  cells[at + 7] = positive.counts.length;
  cells[at + 8] = negative.offset;
  cells[at + 9] = negative.counts.length;
  cells.set(positive.counts, at + HEAD);
  cells.set(negative.counts, at + HEAD + positive.counts.length);
}

export function readExponential(cells: Float64Array, at: number): Exponential {
  const side = (offset: number, from: number, length: number): Buckets => ({
    offset,
    counts: Array.from(cells.subarray(from, from + length)),
  });
  const positives = cells[at + 7]!;
  return {
    scale: cells[at]!,
    count: cells[at + 1]!,
    sum: cells[at + 2]!,
    hasSum: cells[at + 3] === 1,
    zeroCount: cells[at + 4]!,
    zeroThreshold: cells[at + 5]!,
    positive: side(cells[at + 6]!, at + HEAD, positives),
    negative: side(cells[at + 8]!, at + HEAD + positives, cells[at + 9]!),
  };
}
