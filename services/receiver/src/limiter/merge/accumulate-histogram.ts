import { addDoubles } from '../wire/double.ts';
import type { HistogramPoint } from '../wire/point.ts';
import type { ReverseWriter } from '../wire/writer.ts';
import type { Output } from './output-table.ts';
import { DistributionTotal } from './total.ts';

/** Cells that totals share, since an array for each takes longer than adding a point. Full, it is replaced by a new one. */
const SHARED_CELLS = 16_384;
let shared = new Float64Array(SHARED_CELLS);
let used = 0;

const FIELDS = [2, 3, 4, 5, 6, 8, 10, 11, 12];

/** Accumulates points of one histogram, all with the same bounds. */
export class HistogramTotal extends DistributionTotal {
  readonly fields = FIELDS;
  count = 0;
  sum = 0;
  /** Its bucket counts are `#buckets` cells from `#at`; none before the first part. */
  #cells: Float64Array | undefined;
  #at = 0;
  #buckets = 0;

  add(point: HistogramPoint): void {
    this.#add(point.count, point.sum, point.buckets, point.counts, 0);
    this.hasSum &&= point.hasSum;
    this.includeRange(point, point.count);
  }

  addOutput(output: Output, cells: Float64Array): void {
    const { block } = output;
    this.#add(cells[block]!, cells[block + 1]!, output.cells - 2, cells, block + 2);
    this.includeOutput(output);
  }

  /** @param from where the bucket counts begin in `counts` */
  #add(count: number, sum: number, buckets: number, counts: Float64Array, from: number): void {
    const cells = (this.#cells ??= this.#reserve(buckets));
    const at = this.#at;
    for (let i = 0; i < buckets; i++) cells[at + i]! += counts[from + i]!;
    this.count += count;
    this.sum = addDoubles(this.sum, sum);
  }

  #reserve(buckets: number): Float64Array {
    if (used + buckets > shared.length) {
      shared = new Float64Array(Math.max(SHARED_CELLS, buckets));
      used = 0;
    }
    this.#at = used;
    this.#buckets = buckets;
    used += buckets;
    return shared;
  }

  write(writer: ReverseWriter): void {
    this.writeRange(writer, 11, this.count);
    if (this.#buckets > 0) {
      const mark = writer.length;
      for (let i = this.#buckets - 1; i >= 0; i--) writer.fixed64(this.#cells![this.#at + i]!);
      writer.close(6, mark);
    }
    if (this.hasSum) writer.doubleField(5, this.sum);
    writer.fixed64(this.count);
    writer.tag(4, 1);
  }
}
