import { ExponentialPoint } from './accumulate-exponential.ts';
import type { MetricBlock, ResourceBlock, ScopeBlock } from './blocks.ts';
import type { DropReason } from './drops.ts';
import { CUMULATIVE, DELTA, EXPONENTIAL, GAUGE, HISTOGRAM, SUM } from './metric-kind.ts';
import type { Reduction } from './metric-table.ts';
import type { Output } from './output-table.ts';
import { CUT, KEEP, Plan } from './plan.ts';
import { HistogramPoint, NumberPoint } from './point.ts';
import { rewriteBody } from './rewrite.ts';
import type { Scanner } from './scan.ts';
import { OutputStream } from './stream.ts';
import { StreamIndex } from './stream-index.ts';
import type { Contribution, Outcome, Tracker } from './tracker.ts';

/** One point on its way into another stream. Hashes: of the stream with all its labels, and with those that remain. */
export interface Incoming {
  tagStart: number;
  start: number;
  end: number;
  fullLo: number;
  fullHi: number;
  /** Where the tracker has found it as a source, or -1. */
  sourceAt: number;
  reducedLo: number;
  reducedHi: number;
  reduction: Reduction;
  /** Labels of the point or its resource go, or it goes into the overflow stream. */
  relabelled: boolean;
  /** Labels of its resource go: it moves under another resource, with this hash. */
  moves: boolean;
  resourceLo: number;
  resourceHi: number;
  /** Unix milliseconds when a stream of the reduced hash was last seen; 0 when it is not known. */
  reducedSeenMs: number;
}

/** The messages around the point. */
export interface Around {
  resource: ResourceBlock;
  scope: ScopeBlock;
  metric: MetricBlock;
}

/** Whether points of this kind can be made one. */
export function isMergeable(kind: number, temporality: number): boolean {
  if (kind === GAUGE) return true;
  if (kind !== SUM && kind !== HISTOGRAM && kind !== EXPONENTIAL) return false;
  return temporality === DELTA || temporality === CUMULATIVE;
}

/** Merges the points of one request that belong to the same stream, and writes the request with what came of them. */
export class Reaggregation {
  readonly #tracker: Tracker;
  readonly #index = new StreamIndex();
  readonly #number = new NumberPoint();
  readonly #histogram: HistogramPoint;
  readonly #exponential = new ExponentialPoint();
  readonly #contribution: Contribution = {
    sourceLo: 0,
    sourceHi: 0,
    sourceAt: -1,
    output: undefined as unknown as Output,
    isMonotonic: true,
    past: 'unknown',
    watchMs: 0,
  };
  #streams: OutputStream[] = [];
  readonly plan = new Plan();
  /** Points that went into others: those that came, less those that go out. */
  merged = 0;

  constructor(tracker: Tracker, scanner: Scanner) {
    this.#tracker = tracker;
    this.#histogram = new HistogramPoint(scanner);
  }

  begin(): void {
    if (this.#streams.length > 0) {
      for (const { histogram } of this.#streams) histogram?.release();
      this.#streams = [];
    }
    this.plan.clear();
    this.#index.clear();
    this.merged = 0;
  }

  cut({ resource, scope, metric }: Around, tagStart: number, end: number): void {
    this.plan.edit(resource, scope, metric, tagStart, end, CUT);
  }

  /**
   * Takes a cumulative stream over that was forwarded by itself until now: its point goes out once more as it is, and what
   * comes after that goes into the merged stream. So no increment is lost, and none is counted twice.
   * @returns false when there is no room: then it had better stay on its own
   */
  handOver(body: Uint8Array, around: Around, point: Incoming, watchMs: number): boolean {
    if (!this.#decode(body, around.metric.kind, point)) return false; // no base line in it
    const output = this.#output(point);
    if (!output) return false;
    return this.#track(around.metric, point, output, 'forwarded', watchMs) === 'added';
  }

  /**
   * Adds a point to a stream of this request that is not cumulative.
   * @returns false when it is the first one of its stream
   */
  join(body: Uint8Array, around: Around, point: Incoming): boolean {
    const { kind } = around.metric;
    if (kind === SUM || kind === GAUGE) {
      const known = this.#index.get(point.reducedLo, point.reducedHi);
      if (known < 0) return false;
      if (this.#decode(body, kind, point)) this.#streams[known]!.addNumber(this.#number);
      this.#mergeAway(around, point);
      return true;
    }
    if (kind !== HISTOGRAM || !this.#decode(body, kind, point) || !this.#histogram.sound) return false;
    const [lo, hi] = this.#histogramKey(point);
    const known = this.#index.get(lo, hi);
    if (known < 0) return false;
    this.#streams[known]!.addHistogram(this.#histogram);
    this.#mergeAway(around, point);
    return true;
  }

  /** Delta histograms with other bounds are other points of the same stream. */
  #histogramKey({ reducedLo, reducedHi }: Incoming): [number, number] {
    const { boundsLo, boundsHi, buckets } = this.#histogram;
    return [reducedLo ^ boundsLo, reducedHi ^ (boundsHi + buckets)];
  }

  /** Whether a point of the stream that this one goes into has come in this request already. */
  has({ reducedLo, reducedHi }: Incoming): boolean {
    return this.#index.get(reducedLo, reducedHi) >= 0;
  }

  /**
   * @param tracked the output that the point goes into, when it is known
   * @returns why the point has to be dropped, if it has to
   */
  contribute(
    body: Uint8Array,
    around: Around,
    point: Incoming,
    watchMs: number,
    tracked?: Output,
  ): DropReason | undefined {
    const { metric } = around;
    const { kind } = metric;
    if (!this.#decode(body, kind, point)) {
      // Says that its stream is stale. The stream that it is merged into lives on.
      this.#mergeAway(around, point);
      return undefined;
    }
    if (!this.#isSound(kind)) return 'unmergeable';
    const isCumulative = kind !== GAUGE && metric.temporality === CUMULATIVE;
    let output = tracked;
    if (!output && kind !== GAUGE) output = this.#output(point);
    if (isCumulative) {
      if (!output) return 'tracker_full';
      const outcome = this.#track(metric, point, output, this.#past(point, output), watchMs);
      if (outcome === 'full') return 'tracker_full';
      if (outcome === 'bounds') return 'histogram_bounds';
      if (outcome === 'stale') {
        this.#mergeAway(around, point);
        return undefined;
      }
    }
    const stream = this.#stream(around, point, isCumulative, output);
    if (kind === HISTOGRAM) stream.addHistogram(this.#histogram);
    else if (kind === EXPONENTIAL) stream.addExponential(this.#exponential);
    else stream.addNumber(this.#number);
    return undefined;
  }

  /** @returns the request as it goes out: `body` itself when nothing changes */
  finish(body: Uint8Array): Uint8Array {
    const { plan } = this;
    const streams = this.#streams;
    for (const stream of streams) stream.settle();
    let changes = plan.groups.size > 0;
    const { edits } = plan;
    for (let i = 2; i < plan.editWords; i += 3) {
      const action = edits[i]!;
      if (action >= 0 && !streams[action]!.changed) edits[i] = KEEP;
      else changes = true;
    }
    return changes ? rewriteBody(body, plan, streams, this.#tracker.arena.cells) : body;
  }

  /** @returns false for a point that has no value */
  #decode(body: Uint8Array, kind: number, { start, end }: Incoming): boolean {
    if (kind === HISTOGRAM) return !this.#histogram.decode(body, start, end).marker;
    if (kind === EXPONENTIAL) return !this.#exponential.decode(body, start, end).marker;
    return !this.#number.decode(body, start, end).marker;
  }

  #isSound(kind: number): boolean {
    if (kind === HISTOGRAM) return this.#histogram.sound;
    return kind !== EXPONENTIAL || this.#exponential.sound;
  }

  #output(point: Incoming): Output | undefined {
    return this.#tracker.output(point.reducedLo, point.reducedHi, (output) => {
      output.preexisting = point.reducedSeenMs > 0;
      output.earliestMs = point.reducedSeenMs;
      output.overflow = point.reduction.overflow;
    });
  }

  /** What became of this very stream before it was merged. */
  #past(point: Incoming, output: Output): Contribution['past'] {
    if (point.relabelled || !output.preexisting) return 'unknown';
    return output.fresh ? 'adopted' : 'forwarded';
  }

  #track(
    metric: MetricBlock,
    point: Incoming,
    output: Output,
    past: Contribution['past'],
    watchMs: number,
  ): Outcome {
    const contribution = this.#contribution;
    contribution.sourceLo = point.fullLo;
    contribution.sourceHi = point.fullHi;
    contribution.sourceAt = point.sourceAt;
    contribution.output = output;
    contribution.isMonotonic = metric.kind !== SUM || metric.isMonotonic;
    contribution.past = past;
    contribution.watchMs = watchMs;
    if (metric.kind === HISTOGRAM) return this.#tracker.addHistogram(contribution, this.#histogram);
    if (metric.kind === EXPONENTIAL) return this.#tracker.addExponential(contribution, this.#exponential);
    return this.#tracker.addNumber(contribution, this.#number);
  }

  /** The stream of this request that the point belongs to; the first point's place is where it goes out. */
  #stream(around: Around, point: Incoming, isCumulative: boolean, output: Output | undefined): OutputStream {
    const { resource, scope, metric } = around;
    let lo = point.reducedLo;
    let hi = point.reducedHi;
    if (metric.kind === HISTOGRAM && !isCumulative) {
      [lo, hi] = this.#histogramKey(point);
    }
    const known = this.#index.get(lo, hi);
    if (known >= 0) {
      this.#mergeAway(around, point);
      return this.#streams[known]!;
    }
    const stream = new OutputStream(
      metric.kind,
      metric.temporality,
      point.reduction,
      metric.metric.policy.gaugeReducer,
      point.tagStart,
      point.start,
      point.end,
      point.relabelled,
      output,
    );
    const number = this.#streams.push(stream) - 1;
    this.#index.set(lo, hi, number);
    if (point.moves) {
      this.cut(around, point.tagStart, point.end);
      const { plan } = this;
      plan.group(resource, scope, metric, point.reduction, point.resourceLo, point.resourceHi).push(stream);
    } else this.plan.edit(resource, scope, metric, point.tagStart, point.end, number);
    return stream;
  }

  #mergeAway(around: Around, point: Incoming): void {
    this.merged++;
    this.cut(around, point.tagStart, point.end);
  }
}
