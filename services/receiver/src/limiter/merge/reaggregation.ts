import type { DropReason } from '../admission/drops.ts';
import type { Around } from '../blocks.ts';
import { type Halves, Hash64 } from '../hash.ts';
import { EXPONENTIAL, GAUGE, HISTOGRAM, SUM } from '../wire/metric-kind.ts';
import { HistogramPoint, NumberPoint, type Point } from '../wire/point.ts';
import type { Scanner } from '../wire/scan.ts';
import { ExponentialPoint } from './accumulate-exponential.ts';
import { HeldPoints } from './held-points.ts';
import { nameOf } from './level-value.ts';
import type { Output } from './output-table.ts';
import { CUT, KEEP, Plan } from './plan.ts';
import { rewriteBody, writeHeld } from './rewrite.ts';
import { type Incoming, OutputStream } from './stream.ts';
import { StreamIndex } from './stream-index.ts';
import type { Outcome, Tracker } from './tracker.ts';

/**
 * When merged points are sent: with their request, together with all that were deferred (`send`); at the end of the interval
 * (`hold`); or with their request only, since that does not go through Redis (`alone`).
 */
export type Leaving = 'send' | 'hold' | 'alone';

const EMPTY: Uint8Array = new Uint8Array(0);

/** Merges the points of one request by stream, and rewrites the request. */
export class Reaggregation {
  readonly #tracker: Tracker;
  readonly #around: Around;
  readonly #index = new StreamIndex();
  /** Points of gauges by source. */
  readonly #occurrences = new StreamIndex();
  readonly #matchKey = new Hash64();
  readonly #number = new NumberPoint();
  readonly #histogram: HistogramPoint;
  readonly #exponential = new ExponentialPoint();
  /** Decoders, by kind. */
  readonly #points: Readonly<Record<number, Point>>;
  #streams: OutputStream[] = [];
  #body = EMPTY;
  #leaving: Leaving = 'send';
  #nowMs = 0;
  readonly plan: Plan;
  readonly held = new HeldPoints();
  /** Number of points merged away: points received minus points sent. */
  merged = 0;
  /** Points with unknown history, whose value was not counted. */
  unknown = 0;
  /** Points that were added to end streams. */
  ends = 0;

  constructor(tracker: Tracker, scanner: Scanner, around: Around) {
    this.#tracker = tracker;
    this.#around = around;
    this.plan = new Plan(around);
    this.#histogram = new HistogramPoint(scanner);
    this.#points = {
      [GAUGE]: this.#number,
      [SUM]: this.#number,
      [HISTOGRAM]: this.#histogram,
      [EXPONENTIAL]: this.#exponential,
    };
  }

  begin(body: Uint8Array, leaving: Leaving, nowMs: number): void {
    this.#body = body;
    this.#leaving = leaving;
    this.#nowMs = nowMs;
    if (this.#streams.length > 0) this.#streams = [];
    this.plan.clear();
    this.#index.clear();
    this.#occurrences.clear();
    this.merged = this.unknown = this.ends = 0;
  }

  cut({ tagStart, end }: Incoming): void {
    this.plan.edit(tagStart, end, CUT);
  }

  /**
   * Takes over a counting stream that was forwarded unmerged: its point is sent unchanged once more, and later ones are merged.
   * So no increment is lost or counted twice. The end of a level is taken over too: if the ledger knows it, it has been merged
   * meanwhile.
   * @returns false if the tracker is full; the caller must leave the stream unmerged
   */
  handOver(point: Incoming): boolean {
    const decoded = this.#decode(point);
    if (decoded.marker && this.#around.metric.isLevel) {
      const output = this.#output(point);
      return output !== undefined && this.#tracker.endLevel(point, output, this.#number) !== 'full';
    }
    // A point without a value, or with one that cannot be merged, passes: it is no baseline.
    if (decoded.marker || !decoded.sound || !decoded.finite) return true;
    const output = this.#output(point);
    if (!output) return false;
    const outcome = this.#track(point, output);
    return outcome === 'added' || outcome === 'stale';
  }

  /**
   * Merges a point into a non-cumulative stream of this request.
   * @returns false if it is the stream's first point
   */
  join(point: Incoming): boolean {
    const { kind } = this.#around.metric;
    let decoded: Point | undefined;
    if (kind === HISTOGRAM) {
      // Its key has the bounds.
      decoded = this.#decode(point);
      if (decoded.marker || !decoded.sound || !decoded.finite) return false;
    } else if (kind !== SUM && kind !== GAUGE) return false;
    const { lo, hi } = this.#key(point);
    const stream = this.#find(lo, hi);
    if (!stream) return false;
    decoded ??= this.#decode(point);
    if (!decoded.marker) {
      if (kind !== GAUGE && !decoded.finite) return false;
      stream.add(decoded);
    }
    this.#mergeAway(point);
    return true;
  }

  /** Whether points are merged into the deferred points of their streams. */
  get #joinsHeld(): boolean {
    return this.#leaving === 'hold' || (this.#leaving === 'send' && !this.held.isEmpty);
  }

  /** The hash by which points of this request are matched. */
  #key(point: Incoming): Halves {
    const key = this.#matchKey;
    const { kind, isCumulative } = this.#around.metric;
    const { fullLo, fullHi, reducedLo, reducedHi } = point;
    if (kind === GAUGE) {
      // A reducer combines sources, not the successive points of one: the second points of all sources form another point, and
      // so on.
      if (point.occurrence < 0)
        point.occurrence = this.#joinsHeld
          ? this.held.countGauge(fullLo, fullHi)
          : this.#occurrences.count(fullLo, fullHi);
      return key.set(reducedLo ^ Math.imul(point.occurrence, 0x9e3779b1), reducedHi ^ point.occurrence);
    }
    if (kind !== HISTOGRAM || isCumulative) return key.set(reducedLo, reducedHi);
    // Delta histograms with other bounds are separate points of the same stream.
    const { boundsLo, boundsHi, buckets } = this.#histogram;
    return key.set(reducedLo ^ boundsLo, reducedHi ^ (boundsHi + buckets));
  }

  #find(lo: number, hi: number): OutputStream | undefined {
    const at = this.#index.get(lo, hi);
    return at < 0 ? undefined : this.#streams[at];
  }

  /** Whether the point is more than the end of its stream. */
  hasValue(point: Incoming): boolean {
    return !this.#decode(point).marker;
  }

  /** The stream that a cumulative point is merged into, if this request has had another point of it. */
  joined({ reducedLo, reducedHi }: Incoming): OutputStream | undefined {
    return this.#find(reducedLo, reducedHi);
  }

  /**
   * @param joined the stream it is merged into, if known
   * @returns the reason to drop the point, if any
   */
  contribute(point: Incoming, joined: OutputStream | undefined): DropReason | undefined {
    const { isCumulative, isLevel, kind } = this.#around.metric;
    const isGauge = kind === GAUGE;
    const decoded = this.#decode(point);
    if (decoded.marker && !isLevel) {
      // Marks its stream as stale. The merged stream goes on.
      this.#mergeAway(point);
      return undefined;
    }
    if (!decoded.marker && !isGauge && !decoded.finite) return 'not_finite';
    if (!decoded.sound) return 'unmergeable';
    const output = isGauge ? undefined : (joined?.output ?? this.#output(point));
    if (!isCumulative) {
      this.#stream(point, output).add(decoded);
      return undefined;
    }
    if (!output) return 'tracker_full';
    const outcome = decoded.marker
      ? this.#tracker.endLevel(point, output, this.#number)
      : this.#track(point, output);
    if (outcome === 'full') return 'tracker_full';
    if (outcome === 'bounds') return 'histogram_bounds';
    if (outcome === 'stale') {
      this.#mergeAway(point);
      return undefined;
    }
    if (outcome === 'unknown') this.unknown++;
    if (isLevel) this.#tracker.takeOffEnded(point.reducedLo, point.reducedHi, output);
    if (joined) this.#mergeAway(point);
    (joined ?? this.#stream(point, output)).add(decoded);
    return undefined;
  }

  /** Ends a level's own stream, whose value is in the merged stream from here on. */
  endOwnStream(point: Incoming): void {
    this.ends++;
    const { metric } = this.#around;
    const stream = OutputStream.ended(metric, point, this.#points[metric.kind]!);
    this.plan.edit(point.end, point.end, this.#streams.push(stream) - 1);
  }

  /** @returns the request to send: `body` itself if nothing changes */
  finish(writer: Uint8Array): Uint8Array {
    const body = this.#body;
    this.#body = EMPTY;
    if (!this.#joinsHeld) {
      for (const stream of this.#streams) if (!stream.isEnd) stream.settle(this.#tracker);
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
    for (const { stream, groups } of plan.held) {
      const point = writeHeld(body, groups, writer);
      held.set(keyOf(stream), { ...point, parts: stream.total!.parts }, this.#nowMs);
    }
    return this.#write(body, writer);
  }

  /** @returns the stream's key among the deferred points */
  #settleWithHeld(stream: OutputStream): string {
    const key = keyOf(stream);
    const held = this.held.get(key);
    const isGauge = stream.kind === GAUGE;
    // A cumulative point includes the earlier one.
    const isAdded = !isGauge && (!stream.isCumulative || stream.asDelta);
    const earlier = held && this.#points[stream.kind]!.decode(held.bytes, held.start, held.end);
    if (earlier && isGauge) stream.joinGauge(earlier, held.parts);
    stream.settle(this.#tracker, isAdded ? earlier : undefined);
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
    return changes ? rewriteBody(body, plan, streams, writer) : body;
  }

  #decode({ start, end }: Incoming): Point {
    return this.#points[this.#around.metric.kind]!.decode(this.#body, start, end);
  }

  /** The output that a point is merged into. */
  #output(point: Incoming): Output | undefined {
    return this.#tracker.output(point.writtenLo, point.writtenHi, this.#around.metric.isLevel);
  }

  #track(point: Incoming, output: Output): Outcome {
    const tracker = this.#tracker;
    const { kind } = this.#around.metric;
    if (kind === HISTOGRAM) return tracker.addHistogram(point, output, this.#histogram);
    if (kind === EXPONENTIAL) return tracker.addExponential(point, output, this.#exponential);
    return tracker.addNumber(point, output, this.#number);
  }

  /** The stream of this request for a point; its merged point replaces the first one. */
  #stream(point: Incoming, output: Output | undefined): OutputStream {
    const { lo, hi } = this.#key(point);
    const known = this.#find(lo, hi);
    if (known) {
      this.#mergeAway(point);
      return known;
    }
    const { metric, resource } = this.#around;
    const stream = new OutputStream(metric, point, output);
    stream.keyLo = lo;
    stream.keyHi = hi;
    const number = this.#streams.push(stream) - 1;
    this.#index.set(lo, hi, number);
    if (this.#leaving === 'hold') {
      this.cut(point);
      this.plan.hold(stream);
    } else if (point.moves || stream.asDelta) {
      this.cut(point);
      this.plan.group(stream, point.moves ? { lo: point.resourceLo, hi: point.resourceHi } : resource);
    } else this.plan.edit(point.tagStart, point.end, number);
    return stream;
  }

  #mergeAway(point: Incoming): void {
    this.merged++;
    this.cut(point);
  }
}

/**
 * Key of a stream among the deferred points. A cumulative stream that was reset gets another key, because its earlier
 * total is yet to be sent; so does an increment with other bounds.
 */
function keyOf({ kind, keyLo, keyHi, output, isCumulative }: OutputStream): string {
  if (!output || !isCumulative) return nameOf(keyLo, keyHi);
  const { startLo, startHi, boundsLo, boundsHi } = output;
  // A histogram without buckets and one with a single bucket both have no bounds.
  const cells = kind === HISTOGRAM ? output.cells : 0;
  return output.isDelta
    ? nameOf(keyLo ^ boundsLo ^ AS_DELTA, keyHi ^ (boundsHi + cells))
    : nameOf(keyLo ^ startLo, keyHi ^ startHi);
}

/** Distinguishes increments of a cumulative stream from its totals. */
const AS_DELTA = 0x5bd1e995;
