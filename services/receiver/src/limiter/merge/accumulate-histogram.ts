import { addDoubles } from '../wire/double.ts';
import type { HistogramPoint } from '../wire/point.ts';
import { Span } from '../wire/span.ts';

/**
 * Pooled bucket arrays: allocating an array of doubles takes longer than adding a point, and 60 of them took 5 % of a request.
 */
const COUNTS = 64;
const SPARE_MAX = 256;
const spare: Float64Array[] = [];
const NONE = new Float64Array(0);

/** Accumulates points of one delta histogram, all with the same bounds. */
export class HistogramTotal extends Span {
  count = 0;
  sum = 0;
  hasSum = true;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  hasMin = true;
  hasMax = true;
  /** Bucket counts; the first `buckets` are in use. */
  counts: Float64Array;
  readonly buckets: number;

  constructor(buckets: number) {
    super();
    this.buckets = buckets;
    this.counts = buckets > COUNTS ? new Float64Array(buckets) : (spare.pop() ?? new Float64Array(COUNTS));
    this.counts.fill(0, 0, buckets);
  }

  /** Returns its array to the pool, once its point has been written. */
  release(): void {
    if (this.counts.length === COUNTS && spare.length < SPARE_MAX) spare.push(this.counts);
    this.counts = NONE;
  }

  /** Sum, min and max are optional: the total has them only if every part has. */
  add(point: HistogramPoint): void {
    this.count += point.count;
    this.sum = addDoubles(this.sum, point.sum);
    this.hasSum &&= point.hasSum;
    // A part without observations has no min and max, and does not remove those of others.
    if (point.count > 0) {
      this.hasMin &&= point.hasMin;
      this.hasMax &&= point.hasMax;
      if (point.min < this.min) this.min = point.min;
      if (point.max > this.max) this.max = point.max;
    }
    const { counts, buckets } = this;
    for (let i = 0; i < buckets; i++) counts[i]! += point.counts[i]!;
    this.include(point);
  }

  /** Adds an increment from the tracker: count, sum, buckets. Its min and max are unknown. */
  addCells(cells: Float64Array, block: number, hasSum: boolean): void {
    this.count += cells[block]!;
    this.sum = addDoubles(this.sum, cells[block + 1]!);
    this.hasSum &&= hasSum;
    this.hasMin = this.hasMax = false;
    for (let i = 0; i < this.buckets; i++) this.counts[i]! += cells[block + 2 + i]!;
  }
}
