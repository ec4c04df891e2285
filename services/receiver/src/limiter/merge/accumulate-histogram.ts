import { addDoubles } from '../wire/double.ts';
import type { HistogramPoint } from '../wire/point.ts';
import type { ReverseWriter } from '../wire/writer.ts';
import type { Output } from './output-table.ts';
import { DistributionTotal } from './total.ts';

/**
 * Pooled bucket arrays: allocating an array of doubles takes longer than adding a point, and 60 of them took 5 % of a request.
 */
const COUNTS = 64;
const SPARE_MAX = 256;
const spare: Float64Array[] = [];
const NONE = new Float64Array(0);
const FIELDS = [2, 3, 4, 5, 6, 8, 10, 11, 12];

/** Accumulates points of one histogram, all with the same bounds. */
export class HistogramTotal extends DistributionTotal {
  readonly fields = FIELDS;
  count = 0;
  sum = 0;
  /** Bucket counts; the first `buckets` are in use. */
  counts: Float64Array = NONE;
  buckets = 0;

  override release(): void {
    if (this.counts.length === COUNTS && spare.length < SPARE_MAX) spare.push(this.counts);
    this.counts = NONE;
  }

  add(point: HistogramPoint): void {
    this.#addSum(point.count, point.sum, point.buckets);
    this.hasSum &&= point.hasSum;
    const { counts, buckets } = this;
    for (let i = 0; i < buckets; i++) counts[i]! += point.counts[i]!;
    this.includeRange(point, point.count);
  }

  addOutput(output: Output, cells: Float64Array): void {
    const { block } = output;
    this.#addSum(cells[block]!, cells[block + 1]!, output.cells - 2);
    const { counts, buckets } = this;
    for (let i = 0; i < buckets; i++) counts[i]! += cells[block + 2 + i]!;
    this.includeOutput(output);
  }

  #addSum(count: number, sum: number, buckets: number): void {
    if (this.counts === NONE) {
      this.buckets = buckets;
      this.counts = buckets > COUNTS ? new Float64Array(buckets) : (spare.pop() ?? new Float64Array(COUNTS));
      this.counts.fill(0, 0, buckets);
    }
    this.count += count;
    this.sum = addDoubles(this.sum, sum);
  }

  write(writer: ReverseWriter): void {
    this.writeRange(writer, 11, this.count);
    if (this.buckets > 0) {
      const mark = writer.length;
      for (let i = this.buckets - 1; i >= 0; i--) writer.fixed64(this.counts[i]!);
      writer.close(6, mark);
    }
    if (this.hasSum) writer.doubleField(5, this.sum);
    writer.fixed64(this.count);
    writer.tag(4, 1);
  }
}
