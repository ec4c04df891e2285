import type { HistogramPoint } from './point.ts';
import { lessThan } from './reader.ts';

/** Points of one delta histogram, all with the same bounds, that become one. */
export class HistogramTotal {
  count = 0;
  sum = 0;
  hasSum = true;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  hasMin = true;
  hasMax = true;
  counts: Float64Array;
  startLo = 0;
  startHi = 0;
  timeLo = 0;
  timeHi = 0;
  #points = 0;

  constructor(buckets: number) {
    this.counts = new Float64Array(buckets);
  }

  /** Sum, min and max are optional: they are known of the whole only if they are of every part. */
  add(point: HistogramPoint): void {
    this.count += point.count;
    this.sum += point.sum;
    this.hasSum &&= point.hasSum;
    // A part without observations has no least and no greatest, and takes none from the others.
    if (point.count > 0) {
      this.hasMin &&= point.hasMin;
      this.hasMax &&= point.hasMax;
      if (point.min < this.min) this.min = point.min;
      if (point.max > this.max) this.max = point.max;
    }
    const { counts } = this;
    for (let i = 0; i < counts.length; i++) counts[i]! += point.counts[i]!;
    const first = this.#points++ === 0;
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
