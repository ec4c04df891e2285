import type { Reduction } from '../admission/metric-table.ts';
import type { MetricBlock } from '../blocks.ts';
import type { GaugeReducer } from '../options.ts';
import { EXPONENTIAL, GAUGE, HISTOGRAM } from '../wire/metric-kind.ts';
import { Nanoseconds } from '../wire/nanoseconds.ts';
import { EXEMPLARS_MAX, type Point } from '../wire/point.ts';
import { lessThan } from '../wire/reader.ts';
import { Span } from '../wire/span.ts';
import { ExponentialTotal } from './accumulate-exponential.ts';
import { HistogramTotal } from './accumulate-histogram.ts';
import { NumberTotal } from './accumulate-number.ts';
import type { Output } from './output-table.ts';
import type { Total } from './total.ts';
import type { Tracker } from './tracker.ts';

const MS_NS = 1_000_000;
/** No label is stripped. */
export const NOTHING_REDUCED: Reduction = { resourceLabels: [], pointLabels: [], overflow: false };

/** A point that is merged into another stream. Hashes: of the stream with all its labels, and with the remaining ones. */
export interface Incoming {
  tagStart: number;
  start: number;
  end: number;
  fullLo: number;
  fullHi: number;
  /** Position of its source in the tracker, or -1. */
  sourceAt: number;
  reducedLo: number;
  reducedHi: number;
  /** The reduced hash, plus the writer's part for a cumulative stream: the stream that is sent. */
  writtenLo: number;
  writtenHi: number;
  reduction: Reduction;
  /** Its own stream was forwarded so far. */
  wasForwarded: boolean;
  /** For gauges: how many points of its source came before it in this request; -1 if not counted yet. */
  occurrence: number;
  /** Labels of the point or its resource are stripped, or it goes to the overflow stream. */
  relabelled: boolean;
  /** Labels of its resource are stripped: it moves to another resource, with this hash. */
  moves: boolean;
  resourceLo: number;
  resourceHi: number;
}

/** One point that replaces all points of a stream in a request. */
export class OutputStream {
  readonly kind: number;
  readonly isCumulative: boolean;
  readonly reduction: Reduction;
  readonly #reducer: GaugeReducer;
  /** Range of its first point, from which fields that are not recomputed are copied. */
  readonly start: number;
  readonly end: number;
  /** Attributes of that point are stripped. */
  readonly #relabelled: boolean;
  /** The stream's state across requests; cumulative streams always have one, gauges never. */
  readonly output: Output | undefined;
  #points = 0;
  /** (tag start, end) pairs of exemplars to keep. */
  readonly exemplars: number[] = [];
  /** What its points add up to; for a cumulative stream the output's total, after `settle`. */
  total: Total | undefined;
  /** Of the points of a cumulative stream. */
  readonly #span = new Span();
  /** Start and time to send, after `settle`. */
  startLo = 0;
  startHi = 0;
  timeLo = 0;
  timeHi = 0;
  /** False if the first point can stay byte for byte, after `settle`. */
  changed = true;
  /** False if only attributes are stripped and all other fields of the first point stay. */
  recomputed = true;
  /** Only ends the stream. */
  isEnd = false;
  /** The hash by which points of this request are matched. */
  keyLo = 0;
  keyHi = 0;

  constructor(block: MetricBlock, point: Incoming, output?: Output) {
    this.kind = block.kind;
    this.isCumulative = block.isCumulative;
    this.reduction = point.reduction;
    this.#reducer = block.metric.policy.gaugeReducer;
    this.start = point.start;
    this.end = point.end;
    this.#relabelled = point.relabelled;
    this.output = output;
  }

  /** It is cumulative at the source and sent as deltas. */
  get asDelta(): boolean {
    return this.isCumulative && this.output!.isDelta;
  }

  add(point: Point): void {
    this.#note(point);
    if (this.isCumulative) this.#span.include(point);
    else (this.total ??= this.#newTotal()).add(point);
  }

  #newTotal(): Total {
    if (this.kind === HISTOGRAM) return new HistogramTotal();
    if (this.kind === EXPONENTIAL) return new ExponentialTotal();
    return new NumberTotal(this.kind === GAUGE ? this.#reducer : 'add');
  }

  /**
   * The last point of a stream that was forwarded unmerged: no value any more. It is one millisecond later than the merged
   * point, which may have been forwarded already in a request whose answer was lost: one time must have one value.
   */
  static ended(block: MetricBlock, point: Incoming, { timeLo, timeHi }: Point): OutputStream {
    const stream = new OutputStream(block, { ...point, reduction: NOTHING_REDUCED });
    stream.isEnd = true;
    const time = new Nanoseconds().set(timeLo, timeHi).add(MS_NS);
    stream.timeLo = time.lo;
    stream.timeHi = time.hi;
    return stream;
  }

  /**
   * To be called after the last point: computes what to send, and whether it differs from the first point.
   * @param earlier the previous increment, which was not sent and is added
   */
  settle(tracker: Tracker, earlier?: Point): void {
    if (this.isCumulative) this.#settleOutput(tracker, earlier);
    else this.#settleTotal(tracker, earlier);
    if (!earlier) return;
    // From the earlier start to the later time.
    const { startLo, startHi, timeLo, timeHi } = earlier;
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

  #settleOutput(tracker: Tracker, earlier: Point | undefined): void {
    const output = this.output!;
    const span = this.#span;
    this.startLo = output.startLo;
    this.startHi = output.startHi;
    if (output.isDelta) {
      // An increment begins where the previous one ended; the first one where its sources began, or this writer.
      if (!output.fresh) {
        this.startLo = output.timeLo;
        this.startHi = output.timeHi;
      } else if (lessThan(output.startLo, output.startHi, span.startLo, span.startHi)) {
        this.startLo = span.startLo;
        this.startHi = span.startHi;
      }
    }
    tracker.advance(output, span.timeLo, span.timeHi);
    this.timeLo = output.timeLo;
    this.timeHi = output.timeHi;
    this.total = this.#newTotal();
    if (earlier) this.total.add(earlier);
    this.total.addOutput(output, tracker.arena.cells);
  }

  /** Adds an earlier point of the same gauge that was merged from `parts` points. Before `settle`. */
  joinGauge(earlier: Point, parts: number): void {
    this.#points++;
    this.total!.add(earlier, parts);
  }

  #settleTotal(tracker: Tracker, earlier: Point | undefined): void {
    const total = this.total!;
    total.finish();
    this.startLo = total.startLo;
    this.startHi = total.startHi;
    this.timeLo = total.timeLo;
    this.timeHi = total.timeHi;
    // Increments of one stream must not overlap in time: points in between belong to another request.
    const moved = this.output !== undefined && tracker.follow(this.output, this);
    this.recomputed = this.#points > 1 || moved;
    this.changed = this.recomputed || this.#relabelled;
    if (earlier) total.add(earlier);
  }

  #note(point: Point): void {
    this.#points++;
    const { exemplars } = point;
    for (let i = 0; i < exemplars.length && this.exemplars.length < 2 * EXEMPLARS_MAX; i++)
      this.exemplars.push(exemplars[i]!);
  }
}
