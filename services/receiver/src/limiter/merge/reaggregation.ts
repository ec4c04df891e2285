import type { DropReason } from '../admission/drops.ts';
import type { Reduction } from '../admission/metric-table.ts';
import type { MetricBlock, ResourceBlock, ScopeBlock } from '../blocks.ts';
import { CUMULATIVE, DELTA, EXPONENTIAL, GAUGE, HISTOGRAM, SUM } from '../wire/metric-kind.ts';
import { HistogramPoint, NumberPoint, type Point } from '../wire/point.ts';
import type { Scanner } from '../wire/scan.ts';
import { ExponentialPoint } from './accumulate-exponential.ts';
import { HeldPoints } from './held-points.ts';
import { fieldOf } from './level-value.ts';
import type { Output } from './output-table.ts';
import { CUT, KEEP, Plan } from './plan.ts';
import { rewriteBody, writeHeld } from './rewrite.ts';
import { NOTHING_REDUCED, OutputStream } from './stream.ts';
import { StreamIndex } from './stream-index.ts';
import type { Contribution, Outcome, Tracker } from './tracker.ts';

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

/**
 * When merged points are sent: with their request, together with all that were deferred (`send`); at the end of the interval
 * (`hold`); or with their request only, since that does not go through Redis (`alone`).
 */
export type Leaving = 'send' | 'hold' | 'alone';

/** The messages around the point. */
export interface Around {
  resource: ResourceBlock;
  scope: ScopeBlock;
  metric: MetricBlock;
}

/** Whether points of this kind can be merged. */
export function isMergeable(kind: number, temporality: number): boolean {
  if (kind === GAUGE) return true;
  if (kind !== SUM && kind !== HISTOGRAM && kind !== EXPONENTIAL) return false;
  return temporality === DELTA || temporality === CUMULATIVE;
}

/** Whether these are levels: a non-monotonic cumulative sum. */
function isLevel({ kind, temporality, isMonotonic }: MetricBlock): boolean {
  return temporality === CUMULATIVE && kind === SUM && !isMonotonic;
}

/** Merges the points of one request by stream, and rewrites the request. */
export class Reaggregation {
  readonly #tracker: Tracker;
  readonly #index = new StreamIndex();
  /** Points of gauges by source. */
  readonly #occurrences = new StreamIndex();
  readonly #number = new NumberPoint();
  readonly #histogram: HistogramPoint;
  readonly #exponential = new ExponentialPoint();
  readonly #contribution: Contribution = {
    resource: undefined as unknown as ResourceBlock,
    sourceLo: 0,
    sourceHi: 0,
    sourceAt: -1,
    output: undefined as unknown as Output,
    isMonotonic: true,
    intoLo: 0,
    intoHi: 0,
    wasForwarded: false,
    overflow: false,
    converted: false,
  };
  #streams: OutputStream[] = [];
  #leaving: Leaving = 'send';
  #nowMs = 0;
  readonly plan = new Plan();
  readonly held = new HeldPoints();
  /** Number of points merged away: points received minus points sent. */
  merged = 0;
  /** Points with unknown history, whose value was not counted. */
  unknown = 0;
  /** Points that were added to end streams. */
  ends = 0;

  constructor(tracker: Tracker, scanner: Scanner) {
    this.#tracker = tracker;
    this.#histogram = new HistogramPoint(scanner);
  }

  begin(leaving: Leaving, nowMs: number): void {
    this.#leaving = leaving;
    this.#nowMs = nowMs;
    if (this.#streams.length > 0) {
      for (const { histogram } of this.#streams) histogram?.release();
      this.#streams = [];
    }
    this.plan.clear();
    this.#index.clear();
    this.#occurrences.clear();
    this.merged = this.unknown = this.ends = 0;
  }

  cut({ resource, scope, metric }: Around, tagStart: number, end: number): void {
    this.plan.edit(resource, scope, metric, tagStart, end, CUT);
  }

  /**
   * Takes over a counting stream that was forwarded unmerged: its point is sent unchanged once more, and later ones are merged.
   * So no increment is lost or counted twice. The end of a level is taken over too: if the ledger knows it, it has been merged
   * meanwhile.
   * @returns false if the tracker is full; the caller must leave the stream unmerged
   */
  handOver(body: Uint8Array, around: Around, point: Incoming): boolean {
    const { kind } = around.metric;
    const hasValue = this.#decode(body, kind, point);
    if (!hasValue && isLevel(around.metric)) {
      const output = this.#output(around.metric, point);
      return output !== undefined && this.#endLevel(around, point, output) !== 'full';
    }
    // A point without a value, or with one that cannot be merged, passes: it is no baseline.
    if (!hasValue || !this.#isSound(kind) || !this.#decoded(kind).finite) return true;
    const output = this.#output(around.metric, point);
    if (!output) return false;
    const outcome = this.#track(around, point, output);
    return outcome === 'added' || outcome === 'stale';
  }

  /**
   * Merges a point into a non-cumulative stream of this request.
   * @returns false if it is the stream's first point
   */
  join(body: Uint8Array, around: Around, point: Incoming): boolean {
    const { kind } = around.metric;
    if (kind === SUM || kind === GAUGE) {
      const [lo, hi] = kind === GAUGE ? this.#gaugeKey(point) : [point.reducedLo, point.reducedHi];
      const known = this.#index.get(lo, hi);
      if (known < 0) return false;
      if (this.#decode(body, kind, point)) {
        if (kind === SUM && !this.#number.finite) return false;
        this.#streams[known]!.addNumber(this.#number);
      }
      this.#mergeAway(around, point);
      return true;
    }
    if (kind !== HISTOGRAM || !this.#decode(body, kind, point)) return false;
    if (!this.#histogram.sound || !this.#histogram.finite) return false;
    const [lo, hi] = this.#histogramKey(point);
    const known = this.#index.get(lo, hi);
    if (known < 0) return false;
    this.#streams[known]!.addHistogram(this.#histogram);
    this.#mergeAway(around, point);
    return true;
  }

  /** Whether points are merged into the deferred points of their streams. */
  get #joinsHeld(): boolean {
    return this.#leaving === 'hold' || (this.#leaving === 'send' && !this.held.isEmpty);
  }

  /**
   * A reducer combines sources, not the successive points of one: the second points of all sources form another point, and so
   * on.
   */
  #gaugeKey(point: Incoming): [number, number] {
    const { fullLo, fullHi } = point;
    if (point.occurrence < 0)
      point.occurrence = this.#joinsHeld
        ? this.held.countGauge(fullLo, fullHi)
        : this.#occurrences.count(fullLo, fullHi);
    return [point.reducedLo ^ Math.imul(point.occurrence, 0x9e3779b1), point.reducedHi ^ point.occurrence];
  }

  /** Delta histograms with other bounds are separate points of the same stream. */
  #histogramKey({ reducedLo, reducedHi }: Incoming): [number, number] {
    const { boundsLo, boundsHi, buckets } = this.#histogram;
    return [reducedLo ^ boundsLo, reducedHi ^ (boundsHi + buckets)];
  }

  /** Whether the point is more than the end of its stream. */
  hasValue(body: Uint8Array, { metric }: Around, point: Incoming): boolean {
    return this.#decode(body, metric.kind, point);
  }

  /** The stream that a cumulative point is merged into, if this request has had another point of it. */
  joined({ reducedLo, reducedHi }: Incoming): OutputStream | undefined {
    const known = this.#index.get(reducedLo, reducedHi);
    return known < 0 ? undefined : this.#streams[known];
  }

  /**
   * @param joined the stream it is merged into, if known
   * @returns the reason to drop the point, if any
   */
  contribute(
    body: Uint8Array,
    around: Around,
    point: Incoming,
    joined: OutputStream | undefined,
  ): DropReason | undefined {
    const { metric } = around;
    const { kind } = metric;
    const isCumulative = kind !== GAUGE && metric.temporality === CUMULATIVE;
    const hasValue = this.#decode(body, kind, point);
    if (!hasValue && !isLevel(metric)) {
      // Marks its stream as stale. The merged stream goes on.
      this.#mergeAway(around, point);
      return undefined;
    }
    if (hasValue && kind !== GAUGE && !this.#decoded(kind).finite) return 'not_finite';
    if (!this.#isSound(kind)) return 'unmergeable';
    const output = kind === GAUGE ? undefined : (joined?.output ?? this.#output(metric, point));
    if (!isCumulative) {
      this.#add(this.#stream(around, point, output), kind);
      return undefined;
    }
    if (!output) return 'tracker_full';
    const outcome = hasValue ? this.#track(around, point, output) : this.#endLevel(around, point, output);
    if (outcome === 'full') return 'tracker_full';
    if (outcome === 'bounds') return 'histogram_bounds';
    if (outcome === 'stale') {
      this.#mergeAway(around, point);
      return undefined;
    }
    if (outcome === 'unknown') this.unknown++;
    if (isLevel(metric)) this.#tracker.takeOffEnded(point.reducedLo, point.reducedHi, output);
    if (joined) this.#mergeAway(around, point);
    this.#add(joined ?? this.#stream(around, point, output), kind);
    return undefined;
  }

  /** Ends a level's own stream, whose value is in the merged stream from here on. */
  endOwnStream({ resource, scope, metric }: Around, point: Incoming): void {
    this.ends++;
    const stream = OutputStream.ended(metric.kind, metric.temporality, point, this.#decoded(metric.kind));
    const number = this.#streams.push(stream) - 1;
    this.plan.edit(resource, scope, metric, point.end, point.end, number);
  }

  #add(stream: OutputStream, kind: number): void {
    if (kind === HISTOGRAM) stream.addHistogram(this.#histogram);
    else if (kind === EXPONENTIAL) stream.addExponential(this.#exponential);
    else stream.addNumber(this.#number);
  }

  /** @returns the request to send: `body` itself if nothing changes */
  finish(body: Uint8Array, writer: Uint8Array): Uint8Array {
    if (!this.#joinsHeld) {
      for (const stream of this.#streams) stream.settle(this.#tracker);
      return this.#write(body, writer);
    }
    const { held, plan } = this;
    const keys = new Set<string>();
    for (const stream of this.#streams) if (!stream.isEnd) keys.add(this.#settleWithHeld(stream));
    if (this.#leaving === 'send') {
      // Deferred points go first, since they came earlier.
      const others = held.takeOthers(keys);
      const own = this.#write(body, writer);
      return others.length === 0 ? own : Buffer.concat([...others, own]);
    }
    const { cells } = this.#tracker.arena;
    for (const one of plan.held) {
      const point = writeHeld(body, plan, one, cells, writer);
      held.set(keyOf(one.stream), { ...point, parts: one.stream.number?.parts ?? 1 }, this.#nowMs);
    }
    return this.#write(body, writer);
  }

  /** @returns the stream's key among the deferred points */
  #settleWithHeld(stream: OutputStream): string {
    const { kind, output } = stream;
    const { cells } = this.#tracker.arena;
    if (kind === GAUGE) {
      const key = keyOf(stream);
      const earlier = this.held.get(key);
      if (earlier)
        stream.joinGauge(this.#number.decode(earlier.bytes, earlier.start, earlier.end), earlier.parts);
      stream.settle(this.#tracker);
      return key;
    }
    stream.settle(this.#tracker);
    const key = keyOf(stream);
    const earlier = this.held.get(key);
    // A cumulative point includes the earlier one.
    if (!earlier || (stream.isCumulative && !output!.isDelta)) return key;
    const { bytes, start, end } = earlier;
    if (kind === SUM) stream.joinNumber(this.#number.decode(bytes, start, end));
    else if (kind === HISTOGRAM) stream.joinHistogram(this.#histogram.decode(bytes, start, end), cells);
    else stream.joinExponential(this.#exponential.decode(bytes, start, end), cells);
    return key;
  }

  #write(body: Uint8Array, writer: Uint8Array): Uint8Array {
    const { plan } = this;
    const streams = this.#streams;
    let changes = plan.groups.size > 0;
    const { edits } = plan;
    for (let i = 2; i < plan.editWords; i += 3) {
      const action = edits[i]!;
      if (action >= 0 && !streams[action]!.changed) edits[i] = KEEP;
      else changes = true;
    }
    return changes ? rewriteBody(body, plan, streams, this.#tracker.arena.cells, writer) : body;
  }

  /** @returns false for a point without a value */
  #decode(body: Uint8Array, kind: number, { start, end }: Incoming): boolean {
    if (kind === HISTOGRAM) return !this.#histogram.decode(body, start, end).marker;
    if (kind === EXPONENTIAL) return !this.#exponential.decode(body, start, end).marker;
    return !this.#number.decode(body, start, end).marker;
  }

  #isSound(kind: number): boolean {
    if (kind === HISTOGRAM) return this.#histogram.sound;
    return kind !== EXPONENTIAL || this.#exponential.sound;
  }

  #decoded(kind: number): Point & { finite: boolean } {
    return kind === HISTOGRAM ? this.#histogram : kind === EXPONENTIAL ? this.#exponential : this.#number;
  }

  /** The output that a point is merged into. */
  #output(metric: MetricBlock, point: Incoming): Output | undefined {
    return this.#tracker.output(point.writtenLo, point.writtenHi, isLevel(metric));
  }

  #aim({ resource, metric }: Around, point: Incoming, output: Output): Contribution {
    const contribution = this.#contribution;
    contribution.resource = resource;
    contribution.sourceLo = point.fullLo;
    contribution.sourceHi = point.fullHi;
    contribution.sourceAt = point.sourceAt;
    contribution.output = output;
    contribution.isMonotonic = metric.kind !== SUM || metric.isMonotonic;
    contribution.intoLo = point.reducedLo;
    contribution.intoHi = point.reducedHi;
    contribution.wasForwarded = point.wasForwarded;
    contribution.overflow = point.reduction.overflow;
    contribution.converted = point.reduction === NOTHING_REDUCED;
    return contribution;
  }

  #track(around: Around, point: Incoming, output: Output): Outcome {
    const contribution = this.#aim(around, point, output);
    const { kind } = around.metric;
    if (kind === HISTOGRAM) return this.#tracker.addHistogram(contribution, this.#histogram);
    if (kind === EXPONENTIAL) return this.#tracker.addExponential(contribution, this.#exponential);
    return this.#tracker.addNumber(contribution, this.#number);
  }

  #endLevel(around: Around, point: Incoming, output: Output): Outcome {
    return this.#tracker.endLevel(this.#aim(around, point, output), this.#number);
  }

  /** The stream of this request for a point; its merged point replaces the first one. */
  #stream(around: Around, point: Incoming, output: Output | undefined): OutputStream {
    const { resource, scope, metric } = around;
    let lo = point.reducedLo;
    let hi = point.reducedHi;
    if (metric.kind === HISTOGRAM && metric.temporality !== CUMULATIVE) {
      [lo, hi] = this.#histogramKey(point);
    } else if (metric.kind === GAUGE) [lo, hi] = this.#gaugeKey(point);
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
    stream.keyLo = lo;
    stream.keyHi = hi;
    const number = this.#streams.push(stream) - 1;
    this.#index.set(lo, hi, number);
    const asDelta = stream.isCumulative && output!.isDelta;
    if (this.#leaving === 'hold') {
      this.cut(around, point.tagStart, point.end);
      this.plan.hold(resource, scope, metric, stream, asDelta);
      return stream;
    }
    if (point.moves || asDelta) {
      this.cut(around, point.tagStart, point.end);
      const { plan } = this;
      const [lo, hi] = point.moves ? [point.resourceLo, point.resourceHi] : [resource.lo, resource.hi];
      plan.group(resource, scope, metric, point.reduction, lo, hi, asDelta).push(stream);
    } else this.plan.edit(resource, scope, metric, point.tagStart, point.end, number);
    return stream;
  }

  #mergeAway(around: Around, point: Incoming): void {
    this.merged++;
    this.cut(around, point.tagStart, point.end);
  }
}

/**
 * Key of a settled stream among the deferred points. A cumulative stream that was reset gets another key, because its earlier
 * total is yet to be sent; so does an increment with other bounds.
 */
function keyOf({ keyLo, keyHi, output, isCumulative }: OutputStream): string {
  if (!output || !isCumulative) return nameOf(keyLo, keyHi);
  const { startLo, startHi, boundsLo, boundsHi } = output;
  return output.isDelta
    ? nameOf(keyLo ^ boundsLo ^ AS_DELTA, keyHi ^ boundsHi)
    : nameOf(keyLo ^ startLo, keyHi ^ startHi);
}

/** Distinguishes increments of a cumulative stream from its totals. */
const AS_DELTA = 0x5bd1e995;

function nameOf(lo: number, hi: number): string {
  return fieldOf(lo, hi).toString('latin1');
}
