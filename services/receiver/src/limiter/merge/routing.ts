import type { Admission, Shared } from '../admission/decision.ts';
import type { DropReason, Drops } from '../admission/drops.ts';
import type { Label, Metric, Reduction } from '../admission/metric-table.ts';
import type { Around } from '../blocks.ts';
import { Hash64, type HashSeeds } from '../hash.ts';
import type { Totals } from '../report.ts';
import { AttributeHash, hashAttribute } from '../wire/attributes.ts';
import { ATTRIBUTE_WORDS, type Listed, type Scanner } from '../wire/scan.ts';
import type { WriterIdentity } from './identity.ts';
import type { Reaggregation } from './reaggregation.ts';
import { OVERFLOW_ATTRIBUTE } from './rewrite.ts';
import type { SourceHistory } from './source-history.ts';
import { type Incoming, NOTHING_REDUCED, type OutputStream } from './stream.ts';
import type { Tracker } from './tracker.ts';

/**
 * One in so many points that lose a label is looked up by its old key, to free that. Each look-up waits for memory: with 16
 * instead of 4, a request of 1,000 delta sums takes 10 % less CPU time. A prime, so that requests with a fixed number of points
 * do not always look up the same ones.
 */
const LOOK_EVERY = 17;

/** Distinguishes a stream sent as deltas from the cumulative one that it was. */
const AS_DELTA_LO = 0x2545f491;
const AS_DELTA_HI = 0x4f6cdd1d;

/** The parts of the limiter. */
export interface Parts extends Shared {
  readonly admission: Admission;
  readonly scanner: Scanner;
  readonly tracker: Tracker;
  readonly merging: Reaggregation;
  /** The messages around the point. */
  readonly around: Around;
  readonly startedMs: number;
  readonly history: SourceHistory;
  writer: WriterIdentity;
  /** Of the current request. */
  totals: Totals;
  drops: Drops;
  overflowPoints: number;
}

/** Decides about points of new key-sets and of metrics with decisions. */
export class Routing {
  readonly #parts: Parts;
  /** Hash of the overflow attribute. */
  readonly #overflowed = new AttributeHash();
  readonly #hash = new Hash64();
  #looks = 0;

  constructor(parts: Parts, seeds: HashSeeds) {
    this.#parts = parts;
    hashAttribute(OVERFLOW_ATTRIBUTE, 0, OVERFLOW_ATTRIBUTE.length, seeds.point, this.#overflowed);
  }

  /** Whether the current metric's points are sent as deltas, regardless of decisions. */
  get converts(): boolean {
    const { options, around } = this.#parts;
    const { isCumulative, isLevel, isMergeable } = around.metric;
    const isConverted = options.temporality === 'delta' && options.mode === 'enforce';
    return isConverted && isCumulative && isMergeable && !isLevel;
  }

  /**
   * Decides about one point.
   * @returns false if its metric has lost a label by that: call again
   */
  settle(metric: Metric, point: Incoming): boolean {
    const { rule } = metric;
    const { admission, around, options, tracker } = this.#parts;
    const { isCumulative, isMergeable } = around.metric;
    if (rule) this.#reduce(point, rule);
    else this.#asItIs(point);
    if (point.relabelled && !isMergeable) {
      this.#drop(metric, point, 'unmergeable', firstLabel(metric));
      return true;
    }
    const enforced = options.mode === 'enforce';
    if (rule && enforced && !isCumulative && !metric.overflowed && this.#joins(metric, point)) return true;
    if (enforced && this.#staysInOverflow(metric, point)) {
      this.#overflow(metric, point, undefined);
      return true;
    }

    // A new stream for which the ledger has no room stays cumulative.
    const converts = !point.relabelled && this.converts && !tracker.isFull(point.sourceAt);
    point.reduction = converts || !rule ? NOTHING_REDUCED : rule;
    // A cumulative stream that keeps all its labels stays unchanged: the merged one has a writer label and differs.
    const isMerged =
      converts || (rule !== undefined && enforced && isMergeable && (point.relabelled || !isCumulative));
    if (isMerged && isCumulative && point.sourceAt >= 0) {
      // Its source is known, so it has no stream of its own. If the request has had a point of the same stream, key and output
      // were looked up then. Saves 8 % of the CPU time with 1,000 sums.
      const joined = this.#parts.merging.joined(point);
      if (joined) {
        this.#contribute(metric, point, joined);
        return true;
      }
    }
    if (isMerged && (point.relabelled || converts) && this.#leavesItsOwnStream(metric, point)) return true;
    if (isMerged && isCumulative) this.#asWritten(point);
    const { writtenLo, writtenHi } = point;
    const counts = isCumulative && !isMerged && !point.relabelled;
    // In observe mode merged streams are not sent.
    if (!this.#seen(metric, writtenLo, writtenHi, counts, enforced || !point.relabelled)) {
      const verdict = admission.admit(
        metric,
        writtenLo,
        writtenHi,
        this.#parts.scanner,
        around.resource,
        point.relabelled,
        isMergeable,
      );
      if (verdict === 'aggregate') return false;
      if (verdict === 'drop') {
        this.#drop(metric, point, admission.reason, admission.label);
        return true;
      }
      if (verdict === 'overflow') {
        this.#overflow(metric, point, admission.label);
        return true;
      }
      if (counts) this.#parts.changes.counting.push(point.fullLo, point.fullHi);
    }
    if (isMerged) {
      if (isCumulative && tracker.isFull(point.sourceAt)) {
        this.#drop(metric, point, 'tracker_full', firstLabel(metric));
        return true;
      }
      this.#contribute(metric, point);
    } else if (point.relabelled) {
      this.#parts.totals.observedAggregated++;
      this.#forwarded(metric, point);
    }
    return true;
  }

  #asItIs(point: Incoming): void {
    point.reducedLo = point.writtenLo = point.fullLo;
    point.reducedHi = point.writtenHi = point.fullHi;
    point.relabelled = point.moves = false;
  }

  /** Sets the hash of the stream as this writer writes it: cumulative streams differ by writer. */
  #asWritten(point: Incoming): void {
    const { around, tracker, writer } = this.#parts;
    const hash = this.#hash.set(point.reducedLo, point.reducedHi);
    if (!tracker.deltas || around.metric.isLevel) hash.add(writer.lo, writer.hi);
    else if (point.reduction === NOTHING_REDUCED) hash.add(AS_DELTA_LO, AS_DELTA_HI);
    point.writtenLo = hash.lo;
    point.writtenHi = hash.hi;
  }

  /**
   * Marks a key as seen.
   * @param counts it is a cumulative stream that passes unmerged
   * @param isSent it counts among the day's series
   * @returns false if the table does not have it
   */
  #seen(metric: Metric, lo: number, hi: number, counts: boolean, isSent = true): boolean {
    const { table, admission, changes, daily } = this.#parts;
    const at = table.find(lo, hi);
    if (at < 0) return false;
    const before = table.touch(at, admission.nowSec);
    if (before < admission.generationSec) changes.touched(lo, hi, before, counts);
    if (isSent) daily.note(changes, metric, table, at, lo, hi);
    return true;
  }

  /** Records a stream that passes although `enforce` would not let it, for a new decision when that is set. */
  #forwarded(metric: Metric, { fullLo, fullHi }: Incoming): void {
    const { daily, changes, around } = this.#parts;
    daily.noteNew(changes, metric, fullLo, fullHi);
    if (around.metric.isCumulative) changes.forwarded.push(fullLo, fullHi);
  }

  /** Fast path: the point's stream exists already, from an earlier point of this request. */
  #joins(metric: Metric, point: Incoming): boolean {
    if (point.relabelled && this.#leavesItsOwnStream(metric, point)) return true;
    return this.#parts.merging.join(point);
  }

  /** Removes stripped labels from the hashes of a point. */
  #reduce(point: Incoming, rule: Reduction): void {
    const { scanner, around } = this.#parts;
    const { resource } = around;
    const hash = this.#hash.set(point.fullLo, point.fullHi);
    point.relabelled = subtract(rule.pointLabels, scanner, hash);
    const { lo, hi } = hash;
    point.moves = subtract(rule.resourceLabels, resource, hash);
    point.reducedLo = point.writtenLo = hash.lo;
    point.reducedHi = point.writtenHi = hash.hi;
    if (!point.moves) return;
    point.relabelled = true;
    // The resource's hash changes by the same amount as the stream's.
    hash.subtract(lo, hi).add(resource.lo, resource.hi);
    point.resourceLo = hash.lo;
    point.resourceHi = hash.hi;
  }

  /**
   * Handles a point that loses a label and whose stream was forwarded so far. If it counts, its point is sent unchanged once
   * more, as is the end of a level; later values are merged. Then its key is free.
   * @returns whether the point is settled
   */
  #leavesItsOwnStream(metric: Metric, point: Incoming): boolean {
    const { admission, table, merging, around, changes, tracker } = this.#parts;
    const { isCumulative, isLevel } = around.metric;
    if (!isCumulative) {
      // This only frees the key, which expires anyway, and streams come again and again: so check only now and then.
      if (admission.nowMs - metric.ruleSinceMs > 2 * this.#parts.options.keyTtlMs) return false;
      if (++this.#looks < LOOK_EVERY) return false;
      this.#looks = 0;
    }
    const { fullLo, fullHi } = point;
    if (isCumulative && tracker.sources.find(fullLo, fullHi, point.sourceAt) >= 0) return false;
    const own = table.find(fullLo, fullHi);
    if (!isCumulative) {
      if (own >= 0) this.#freeKey(point, own);
      return false;
    }
    if (own < 0 && !this.#parts.history.isForwarded(fullLo, fullHi)) return false;
    point.wasForwarded = true;
    this.#asWritten(point);
    if (isLevel && merging.hasValue(point)) return false;
    if (!merging.handOver(point)) {
      this.#seen(metric, fullLo, fullHi, true);
      return true;
    }
    if (!isLevel && !metric.mergedCounts && point.relabelled) changes.counts(metric);
    if (own >= 0) this.#freeKey(point, own);
    return true;
  }

  #freeKey({ fullLo, fullHi }: Incoming, own: number): void {
    const { admission, table, changes } = this.#parts;
    const id = table.metricId(own);
    changes.removed(fullLo, fullHi, id, table.seenSec(own));
    table.remove(own);
    admission.onRemove(id);
  }

  /**
   * Points of a cumulative stream that once went to the overflow stream stay there, at every receiver: unmerged, they would
   * contain what was counted there already. They may go on in a stream with stripped labels. A producer's own overflow stream,
   * if it has no writer label, is the same as ours.
   */
  #staysInOverflow(metric: Metric, point: Incoming): boolean {
    const { tracker } = this.#parts;
    const { isCumulative, contextLo, contextHi } = this.#parts.around.metric;
    const { fullLo, fullHi } = point;
    if (isCumulative) {
      if (!metric.overflowed && point.relabelled) return false;
      // Not looked up yet if the metric has no decisions here.
      if (point.sourceAt < 0) point.sourceAt = tracker.sources.find(fullLo, fullHi);
      return point.sourceAt >= 0 && tracker.overflows(point.sourceAt);
    }
    if (!metric.overflowed) return false;
    const { lo, hi } = this.#hash.set(contextLo, contextHi).add(this.#overflowed.lo, this.#overflowed.hi);
    return fullLo === lo && fullHi === hi;
  }

  /** Puts a point into the stream `otel.metric.overflow = true` of its metric, scope and resource. */
  #overflow(metric: Metric, point: Incoming, cause: Label | undefined): void {
    const { table, merging, around, admission, changes } = this.#parts;
    const block = around.metric;
    if (!block.isMergeable) {
      this.#drop(metric, point, 'unmergeable', cause);
      return;
    }
    if (this.#parts.options.mode === 'observe') {
      this.#parts.totals.observedOverflow++;
      this.#forwarded(metric, point);
      return;
    }
    const reduction = metric.overflow(cause);
    // The hash of a point without attributes, minus stripped resource labels, plus the overflow attribute.
    const { fullLo, fullHi } = point;
    point.fullLo = block.contextLo;
    point.fullHi = block.contextHi;
    this.#reduce(point, reduction);
    point.fullLo = fullLo;
    point.fullHi = fullHi;
    const { lo, hi } = this.#hash
      .set(point.reducedLo, point.reducedHi)
      .add(this.#overflowed.lo, this.#overflowed.hi);
    point.reducedLo = point.writtenLo = lo;
    point.reducedHi = point.writtenHi = hi;
    point.reduction = reduction;
    point.relabelled = fullLo !== lo || fullHi !== hi;

    const { isCumulative } = block;
    if (!isCumulative && merging.join(point)) {
      // The request has had a point of this stream, so everything else is done. Together with the faster decoding, saves 13 %
      // of the CPU time for 1,000 sums.
      this.#parts.overflowPoints++;
      return;
    }
    if (isCumulative) {
      this.#asWritten(point);
      if (point.sourceAt < 0 && this.#parts.history.isForwarded(fullLo, fullHi)) {
        // Another receiver knows its own stream, or did: it passes, or is taken over.
        const own = table.find(fullLo, fullHi);
        if (own >= 0) {
          this.#parts.daily.note(changes, metric, table, own, fullLo, fullHi);
          return;
        }
        if (admission.insert(metric, fullLo, fullHi, false)) {
          changes.counting.push(fullLo, fullHi);
          return;
        }
        changes.hasRefused = point.wasForwarded = true;
      }
    }
    const { writtenLo, writtenHi } = point;
    const isKnown = this.#seen(metric, writtenLo, writtenHi, false);
    if (!isKnown && !admission.insert(metric, writtenLo, writtenHi, true)) {
      this.#drop(metric, point, 'full', cause);
      return;
    }
    metric.overflowed = true;
    metric.overflowedAtMs = admission.nowMs;
    if (point.wasForwarded && !(block.isLevel && merging.hasValue(point))) {
      merging.handOver(point);
      return;
    }
    if (this.#contribute(metric, point)) this.#parts.overflowPoints++;
  }

  #contribute(metric: Metric, point: Incoming, joined?: OutputStream): boolean {
    const { around, merging, changes } = this.#parts;
    const { isCumulative, isLevel } = around.metric;
    if (isCumulative && !isLevel && !metric.mergedCounts && point.relabelled) changes.counts(metric);
    const reason = merging.contribute(point, joined);
    if (!reason) {
      // Only for levels: other streams are taken over by a point of their own.
      if (point.wasForwarded) {
        merging.endOwnStream(point);
        const own = this.#parts.table.find(point.fullLo, point.fullHi);
        if (own >= 0) this.#freeKey(point, own);
      }
      return true;
    }
    this.#drop(metric, point, reason, firstLabel(metric));
    return false;
  }

  #drop(metric: Metric, point: Incoming, reason: DropReason, label: Label | undefined): void {
    if (this.#parts.options.mode === 'observe') {
      this.#parts.totals.observedDropped++;
      this.#forwarded(metric, point);
      return;
    }
    if (point.wasForwarded) {
      // Otherwise its own stream would never end.
      this.#seen(metric, point.fullLo, point.fullHi, true);
      return;
    }
    this.#parts.drops.add(metric, label, reason);
    this.#parts.merging.cut(point);
  }
}

/** Of those that are stripped. */
function firstLabel({ rule }: Metric): Label | undefined {
  return rule?.pointLabels[0] ?? rule?.resourceLabels[0];
}

/** Subtracts the attributes with these labels from a hash. @returns whether there are any */
function subtract(
  labels: readonly Label[],
  { attributes, attributeAt, listed }: Listed,
  hash: Hash64,
): boolean {
  let isFound = false;
  if (labels.length === 0) return isFound;
  for (let i = 0; i < listed; i++) {
    const at = attributeAt + i * ATTRIBUTE_WORDS;
    if (!hasKey(labels, attributes[at + 2]!)) continue;
    hash.subtract(attributes[at + 3]!, attributes[at + 4]!);
    isFound = true;
  }
  return isFound;
}

function hasKey(labels: readonly Label[], keyHash: number): boolean {
  for (let i = 0; i < labels.length; i++) if (labels[i]!.keyHash === keyHash) return true;
  return false;
}
