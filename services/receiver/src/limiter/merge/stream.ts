import type { Reduction } from '../admission/metric-table.ts';
import type { GaugeReducer } from '../options.ts';
import { CUMULATIVE, GAUGE, SUM } from '../wire/metric-kind.ts';
import { Nanoseconds } from '../wire/nanoseconds.ts';
import { EXEMPLARS_MAX, type HistogramPoint, type NumberPoint, type Point } from '../wire/point.ts';
import { lessThan } from '../wire/reader.ts';
import { type ExponentialPoint, ExponentialTotal } from './accumulate-exponential.ts';
import { HistogramTotal } from './accumulate-histogram.ts';
import { NumberTotal, NumberValue } from './accumulate-number.ts';
import { readExponential } from './exponential-block.ts';
import type { Output } from './output-table.ts';
import type { Tracker } from './tracker.ts';

const MS_NS = 1_000_000;
/** No label is stripped. */
export const NOTHING_REDUCED: Reduction = { resourceLabels: [], pointLabels: [], overflow: false };

/** Range of a stream's first point in the request. */
interface FirstPoint {
  tagStart: number;
  start: number;
  end: number;
}

/** One point that replaces all points of a stream in a request. */
export class OutputStream {
  readonly kind: number;
  readonly temporality: number;
  readonly reduction: Reduction;
  readonly reducer: GaugeReducer;
  /** Its first point, from which fields that are not recomputed are copied. */
  readonly tagStart: number;
  readonly start: number;
  readonly end: number;
  /** Attributes of that point are stripped. */
  readonly relabelled: boolean;
  /** The stream's state across requests; cumulative streams always have one, gauges never. */
  readonly output: Output | undefined;
  points = 0;
  /** (tag start, end) pairs of exemplars to keep. */
  readonly exemplars: number[] = [];
  /** For delta streams and gauges. */
  number: NumberTotal | undefined;
  histogram: HistogramTotal | undefined;
  exponential: ExponentialTotal | undefined;
  /** Latest time of the points. */
  timeLo = 0;
  timeHi = 0;
  /** Earliest start of a cumulative stream's points, 0 if none has one. */
  #begunLo = 0;
  #begunHi = 0;
  /** Start and time to send, after `settle`. */
  startLo = 0;
  startHi = 0;
  /** False if the first point can stay byte for byte, after `settle`. */
  changed = true;
  /** False if only attributes are stripped and all other fields of the first point stay. */
  recomputed = true;
  /** Only ends the stream. */
  isEnd = false;
  /** The hash by which points of this request are matched. */
  keyLo = 0;
  keyHi = 0;

  constructor(
    kind: number,
    temporality: number,
    reduction: Reduction,
    reducer: GaugeReducer,
    tagStart: number,
    start: number,
    end: number,
    relabelled: boolean,
    output: Output | undefined,
  ) {
    this.kind = kind;
    this.temporality = temporality;
    this.reduction = reduction;
    this.reducer = reducer;
    this.tagStart = tagStart;
    this.start = start;
    this.end = end;
    this.relabelled = relabelled;
    this.output = output;
  }

  get isCumulative(): boolean {
    return this.temporality === CUMULATIVE && this.kind !== GAUGE;
  }

  addNumber(point: NumberPoint): void {
    this.#note(point);
    if (this.isCumulative) return;
    this.number ??= new NumberTotal();
    if (this.kind === SUM) this.number.add(point);
    else this.number.reduce(point, this.reducer);
  }

  addHistogram(point: HistogramPoint): void {
    this.#note(point);
    if (this.isCumulative) return;
    this.histogram ??= new HistogramTotal(point.buckets);
    this.histogram.add(point);
  }

  addExponential(point: ExponentialPoint): void {
    this.#note(point);
    if (this.isCumulative) return;
    this.exponential ??= new ExponentialTotal();
    this.exponential.add(point);
  }

  /**
   * The last point of a stream that was forwarded unmerged: no value any more. It is one millisecond later than the merged
   * point, which may have been forwarded already in a request whose answer was lost: one time must have one value.
   */
  static ended(
    kind: number,
    temporality: number,
    point: FirstPoint,
    { timeLo, timeHi }: { timeLo: number; timeHi: number },
  ): OutputStream {
    const { tagStart, start, end } = point;
    const stream = new OutputStream(
      kind,
      temporality,
      NOTHING_REDUCED,
      'last',
      tagStart,
      start,
      end,
      false,
      undefined,
    );
    stream.isEnd = true;
    const time = new Nanoseconds().set(timeLo, timeHi).add(MS_NS);
    stream.timeLo = time.lo;
    stream.timeHi = time.hi;
    return stream;
  }

  /** To be called after the last point: computes what to send, and whether it differs from the first point. */
  settle(tracker: Pick<Tracker, 'advance' | 'follow'>): void {
    if (this.isEnd) return;
    if (!this.isCumulative) {
      this.#settleTotal(tracker);
      return;
    }
    const output = this.output!;
    this.startLo = output.startLo;
    this.startHi = output.startHi;
    if (output.isDelta) {
      // An increment begins where the previous one ended; the first one where its sources began, or this writer.
      if (!output.fresh) {
        this.startLo = output.timeLo;
        this.startHi = output.timeHi;
      } else if (lessThan(output.startLo, output.startHi, this.#begunLo, this.#begunHi)) {
        this.startLo = this.#begunLo;
        this.startHi = this.#begunHi;
      }
    }
    tracker.advance(output, this.timeLo, this.timeHi);
    this.timeLo = output.timeLo;
    this.timeHi = output.timeHi;
  }

  /** Adds an earlier point of the same gauge that was merged from `parts` points. Before `settle`. */
  joinGauge(earlier: NumberPoint, parts: number): void {
    this.points++;
    this.number!.reduce(earlier, this.reducer, parts);
  }

  /** Adds the previous increment, which was not sent. After `settle`. */
  joinNumber(earlier: NumberPoint): void {
    if (this.number) this.number.add(earlier);
    else {
      this.number = new NumberTotal();
      this.number.add(earlier);
      this.number.value.add(this.output!.readValue(new NumberValue()));
    }
    this.#joined(earlier);
  }

  joinHistogram(earlier: HistogramPoint, cells: Float64Array): void {
    if (this.histogram) this.histogram.add(earlier);
    else {
      this.histogram = new HistogramTotal(earlier.buckets);
      this.histogram.add(earlier);
      this.histogram.addCells(cells, this.output!.block, this.output!.hasSum);
    }
    this.#joined(earlier);
  }

  joinExponential(earlier: ExponentialPoint, cells: Float64Array): void {
    if (this.exponential) this.exponential.add(earlier);
    else {
      this.exponential = new ExponentialTotal();
      this.exponential.add(earlier);
      const { block, hasSum } = this.output!;
      this.exponential.addValue(readExponential(cells, block), hasSum);
    }
    this.#joined(earlier);
  }

  /** Extends it over the previous increment: from the earlier start to the later time. */
  #joined({ startLo, startHi, timeLo, timeHi }: Point): void {
    const isDated = startLo !== 0 || startHi !== 0;
    if (isDated && lessThan(startLo, startHi, this.startLo, this.startHi)) {
      this.startLo = startLo;
      this.startHi = startHi;
    }
    if (lessThan(this.timeLo, this.timeHi, timeLo, timeHi)) {
      this.timeLo = timeLo;
      this.timeHi = timeHi;
    }
    this.recomputed = this.changed = true;
  }

  #settleTotal(tracker: Pick<Tracker, 'follow'>): void {
    const total = this.number ?? this.histogram ?? this.exponential!;
    this.number?.finish(this.kind === GAUGE ? this.reducer : undefined);
    this.startLo = total.startLo;
    this.startHi = total.startHi;
    this.timeLo = total.timeLo;
    this.timeHi = total.timeHi;
    // Increments of one stream must not overlap in time: points in between belong to another request.
    const moved = this.output !== undefined && tracker.follow(this.output, this);
    this.recomputed = this.points > 1 || moved;
    this.changed = this.recomputed || this.relabelled;
  }

  #note(point: Point): void {
    this.points++;
    const { startLo, startHi } = point;
    const isFirst = this.#begunLo === 0 && this.#begunHi === 0;
    if (isFirst || lessThan(startLo, startHi, this.#begunLo, this.#begunHi)) {
      this.#begunLo = startLo;
      this.#begunHi = startHi;
    }
    if (lessThan(this.timeLo, this.timeHi, point.timeLo, point.timeHi)) {
      this.timeLo = point.timeLo;
      this.timeHi = point.timeHi;
    }
    for (const position of point.exemplars) {
      if (this.exemplars.length >= 2 * EXEMPLARS_MAX) break;
      this.exemplars.push(position);
    }
  }
}
