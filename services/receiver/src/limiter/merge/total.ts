import type { DistributionPoint, Point } from '../wire/point.ts';
import { Span } from '../wire/span.ts';
import type { ReverseWriter } from '../wire/writer.ts';
import type { Output } from './output-table.ts';

/** What points of one stream add up to. */
export abstract class Total extends Span {
  /** Fields of a point that `write` writes, or that a merged one lacks; besides start and time. */
  abstract readonly fields: readonly number[];
  /** For gauges: number of points that were reduced to it. */
  parts = 0;

  /** @param parts for gauges: number of points that the point was reduced from */
  abstract add(point: Point, parts?: number): void;

  /** Adds what the tracker has for a stream: its total, or its increment. */
  abstract addOutput(output: Output, cells: Float64Array): void;

  /** Writes the value's fields, the last one first since the writer goes backwards. */
  abstract write(writer: ReverseWriter): void;

  /** To be called after the last point. */
  finish(): void {}
}

/** Sum, min and max are optional: the total has them only if every part has. */
export abstract class DistributionTotal extends Total {
  hasSum = true;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  hasMin = true;
  hasMax = true;

  protected includeRange(point: DistributionPoint, count: number): void {
    // A part without observations has no min and max, and does not remove those of others.
    if (count > 0) {
      this.hasMin &&= point.hasMin;
      this.hasMax &&= point.hasMax;
      if (point.min < this.min) this.min = point.min;
      if (point.max > this.max) this.max = point.max;
    }
    this.include(point);
  }

  /** The tracker does not know min and max. */
  protected includeOutput({ hasSum }: Output): void {
    this.hasSum &&= hasSum;
    this.hasMin = this.hasMax = false;
  }

  /** @param field number of the field of min; that of max follows */
  protected writeRange(writer: ReverseWriter, field: number, count: number): void {
    if (this.hasMax && count > 0) writer.doubleField(field + 1, this.max);
    if (this.hasMin && count > 0) writer.doubleField(field, this.min);
  }
}
