import type { ResourceBlock } from '../blocks.ts';
import type { LimiterOptions } from '../options.ts';
import { Reader } from '../wire/reader.ts';
import { ATTRIBUTE_WORDS, type Scanner } from '../wire/scan.ts';
import type { DailyKeys } from './daily-keys.ts';
import type { SketchPool } from './entropy.ts';
import type { KeyTable } from './key-table.ts';
import type { Label, Metric, MetricTable, Place } from './metric-table.ts';
import type { RequestChanges } from './request-changes.ts';

/** What becomes of a key-set that is not in the table. */
export type Verdict = 'admit' | 'aggregate' | 'drop' | 'overflow';

export type DecisionKind = 'aggregate' | 'restore' | 'drop' | 'overflow' | 'calm';

/** A change of mind, not a single point: made once, reported and logged once. */
export interface Decision {
  /** Unix milliseconds. */
  at: number;
  metric: string;
  /** Empty when no label was the reason. */
  label: string;
  kind: DecisionKind;
  score: number;
  why: string;
  /** False when it was only observed. */
  enforced: boolean;
}

/** A label named in `aggregateLabels` is given up from this score on: 16 equally likely values. */
const LISTED_SCORE = 0.25;
/** A label that was given up comes back when its score falls this far below `aggregateScore`. */
const HYSTERESIS = 0.15;
/** The table is calm again when it has come down to this share of what was too much; so that nothing flaps. */
const CALM_SHARE = 0.8;
/** Keys that only merged streams may use: 1/64 of the table, or 16, but no more than an eighth of it. */
const reserve = (keys: number) => Math.max(keys >> 6, Math.min(16, keys >> 3));
/** How far the hand of the clock moves for one key that finds no room. */
const SWEEP_STEPS = 64;
const DECISIONS_KEPT = 256;

export interface AdmissionDeps {
  table: KeyTable;
  metrics: MetricTable;
  pool: SketchPool;
  daily: DailyKeys;
  options: LimiterOptions;
  onDecision: (decision: Decision) => void;
  /** Of the request at hand. */
  changes: RequestChanges;
}

/** The label with the highest score, and the one of those named in `aggregateLabels`. */
class Worst {
  top: Label | undefined;
  topScore = 0;
  listed: Label | undefined;
  listedScore = 0;

  clear(): void {
    this.top = this.listed = undefined;
    this.topScore = this.listedScore = 0;
  }
}

/** Scores labels and decides about key-sets that are not known. */
export class Admission {
  readonly #deps: AdmissionDeps;
  readonly decisions: Decision[] = [];
  evictions = 0;
  nowMs = 0;
  nowSec = 1;
  /** A key that was last seen before this second is told to the other receivers again. */
  generationSec = 0;
  /** Keys that may be used now: the budget, at most `maxKeys`. */
  limit: number;
  /** Why the last verdict was not `admit`. */
  label: Label | undefined;
  reason: 'critical' | 'full' | 'daily' | 'unmergeable' = 'full';
  /** Keys of the whole pipeline, as the last step said; 0 when none has said it. And those that came in since. */
  #sharedUsed = 0;
  #pending = 0;
  readonly #worst = new Worst();
  readonly #resourceWorst = new Worst();
  #resourceWeighed = false;
  readonly #bitsOfTable: number;

  constructor(deps: AdmissionDeps) {
    this.#deps = deps;
    this.limit = deps.options.maxKeys;
    this.#bitsOfTable = Math.log2(deps.options.maxKeys);
  }

  /** Keys in use: those that all receivers have, or those here when they are more. */
  get used(): number {
    const { used } = this.#deps.table;
    return this.#sharedUsed === 0 ? used : Math.max(used, this.#sharedUsed + this.#pending);
  }

  /** Whether new key-sets of the metric are looked at: labels may be given up at any time. */
  acts({ policy }: Metric): boolean {
    return this.used >= policy.actAbove * this.limit;
  }

  set sharedUsed(keys: number) {
    this.#sharedUsed = keys;
    this.#pending = 0;
  }

  /** Whose changes are written down from here on. */
  set changes(changes: RequestChanges) {
    this.#deps.changes = changes;
  }

  /** 0 to 1: the entropy of the label's values as a share of what fills the table. */
  score(label: Label): number {
    if (!label.sketch) return 0;
    return Math.min(1, label.sketch.bits() / this.#bitsOfTable);
  }

  /** Counts the labels of a point. */
  feedPoint(metric: Metric, body: Uint8Array, scanner: Scanner, weight: number): void {
    const { attributes, attributeAt, listed, base } = scanner;
    for (let i = 0; i < listed; i++) {
      const at = attributeAt + i * ATTRIBUTE_WORDS;
      this.#feed(metric, body, 'point', attributes, at, base, i, weight);
    }
  }

  /** Counts the labels of a resource, for `weight` points of a metric. */
  feedResource(metric: Metric, body: Uint8Array, resource: ResourceBlock, weight: number): void {
    for (let i = 0; i < resource.listed; i++) {
      const at = i * ATTRIBUTE_WORDS;
      this.#feed(metric, body, 'resource', resource.attributes, at, 0, i, weight);
    }
  }

  #feed(
    metric: Metric,
    body: Uint8Array,
    place: Place,
    records: Int32Array,
    at: number,
    base: number,
    hint: number,
    weight: number,
  ): void {
    const keyHash = records[at + 2]!;
    let labels = place === 'point' ? metric.pointLabels : metric.resourceLabels;
    let index = metric.indexOf(labels, keyHash, hint);
    if (index < 0) {
      // A label that cannot be scored is not worth remembering: so there are never more labels than sketches.
      if (this.#deps.pool.free === 0) return;
      index = metric.addLabel(keyOf(body, base + records[at]!, base + records[at + 1]!), keyHash, place);
      if (index < 0) return;
      labels = place === 'point' ? metric.pointLabels : metric.resourceLabels;
    }
    const label = labels[index]!;
    label.sketch ??= this.#deps.pool.take(this.nowMs);
    label.sketch?.add(records[at + 3]! ^ records[at + 4]!, weight);
  }

  /**
   * Decides about a key-set that is not in the table, and takes it in if it may come in. After `aggregate` the metric has lost
   * a label, and the key-set with it: ask again for what is left.
   * @param isMerged it is a stream that others are merged into: it may use the reserve of the table
   * @param mergeable points of this kind can be merged
   */
  admit(
    metric: Metric,
    lo: number,
    hi: number,
    scanner: Scanner,
    resource: ResourceBlock,
    isMerged: boolean,
    mergeable: boolean,
  ): Verdict {
    const { policy } = metric;
    const isUsedUp = this.#deps.daily.isUsedUp(metric, isMerged);
    if (!isUsedUp && !this.acts(metric) && this.insert(metric, lo, hi, isMerged)) return 'admit';

    const { critical } = metric;
    if (critical && policy.aggregateLabels.length === 0 && this.#has(critical, scanner, resource)) {
      const score = this.score(critical);
      if (score >= policy.criticalScore - HYSTERESIS) {
        this.label = critical;
        this.reason = 'critical';
        return this.#refuse(metric, critical, score, '');
      }
    }
    this.#worst.clear();
    const { attributes, attributeAt } = scanner;
    for (let i = 0; i < scanner.listed; i++) {
      const keyHash = attributes[attributeAt + i * ATTRIBUTE_WORDS + 2]!;
      this.#weigh(metric, metric.pointLabels, keyHash, i, this.#worst);
    }
    const ofPoint = this.#worst;
    const ofResource = this.#worstOfResource(metric, resource);
    const { top, topScore } = ofResource.topScore > ofPoint.topScore ? ofResource : ofPoint;
    const { listed, listedScore } = ofResource.listedScore > ofPoint.listedScore ? ofResource : ofPoint;

    if (listed && listedScore >= LISTED_SCORE && mergeable) {
      return this.#giveUp(metric, listed, listedScore, 'it is one of aggregate_labels');
    }
    this.label = top;
    if (top && topScore >= policy.criticalScore) {
      this.reason = 'critical';
      return this.#refuse(metric, top, topScore, `it scores ${policy.criticalScore} or more`);
    }
    if (top && topScore >= policy.aggregateScore) {
      if (mergeable) return this.#giveUp(metric, top, topScore, `it scores ${policy.aggregateScore} or more`);
      this.reason = 'unmergeable';
      return 'drop';
    }
    if (!isUsedUp && this.insert(metric, lo, hi, isMerged)) return 'admit';
    const why = isUsedUp ? 'its series of the day are used up (daily_keys)' : 'the table is full';
    if (listed && mergeable) return this.#giveUp(metric, listed, listedScore, why);
    this.reason = isUsedUp ? 'daily' : 'full';
    return this.#refuse(metric, top, topScore, why);
  }

  /** Whether a key-set has this label. */
  #has(label: Label, scanner: Scanner, resource: ResourceBlock): boolean {
    if (label.place === 'resource') {
      for (let i = 0; i < resource.listed; i++) {
        if (resource.attributes[i * ATTRIBUTE_WORDS + 2] === label.keyHash) return true;
      }
      return false;
    }
    const { attributes, attributeAt } = scanner;
    for (let i = 0; i < scanner.listed; i++) {
      if (attributes[attributeAt + i * ATTRIBUTE_WORDS + 2] === label.keyHash) return true;
    }
    return false;
  }

  /** To be called before the points of a metric: until the next call the labels of its resource are scored only once. */
  begin(): void {
    this.#resourceWeighed = false;
  }

  /** All points of a metric in a request have the same resource. A request of refused points takes 6 % less CPU time. */
  #worstOfResource(metric: Metric, resource: ResourceBlock): Worst {
    const worst = this.#resourceWorst;
    if (this.#resourceWeighed) return worst;
    this.#resourceWeighed = true;
    worst.clear();
    for (let i = 0; i < resource.listed; i++) {
      const keyHash = resource.attributes[i * ATTRIBUTE_WORDS + 2]!;
      this.#weigh(metric, metric.resourceLabels, keyHash, i, worst);
    }
    return worst;
  }

  /** Sees whether a label of the key-set is the worst so far, or the worst of those named in `aggregateLabels`. */
  #weigh(metric: Metric, labels: readonly Label[], keyHash: number, hint: number, worst: Worst): void {
    const index = metric.indexOf(labels, keyHash, hint);
    if (index < 0) return;
    const label = labels[index]!;
    if (label.isProtected || label.removed) return;
    const score = this.score(label);
    if (score > worst.topScore) {
      worst.top = label;
      worst.topScore = score;
    }
    if (label.isListed && score > worst.listedScore) {
      worst.listed = label;
      worst.listedScore = score;
    }
  }

  /** Takes a key-set in if there is room, or can be made by evicting the coldest expired one. */
  insert(metric: Metric, lo: number, hi: number, isMerged: boolean): boolean {
    const { table, options, daily, changes } = this.#deps;
    const room = this.limit - (isMerged ? 0 : reserve(this.limit));
    if (this.used >= room) {
      table.sweep(SWEEP_STEPS, this.nowSec, options.keyTtlMs / 1000, 1, this.onEvict);
      if (this.used >= room) return false;
    }
    if (table.used >= table.maxKeys) return false;
    // A merged stream that is only observed is none that goes out.
    const goesOut = !isMerged || options.mode === 'enforce';
    const mark = goesOut ? daily.noteNew(changes, metric, lo, hi) : 0;
    table.insert(lo, hi, metric.id, this.nowSec, mark);
    metric.keys++;
    metric.dailyNew++;
    this.#pending++;
    changes.inserted.push(lo, hi);
    return true;
  }

  onEvict = (metricId: number): void => {
    this.#deps.metrics.byId(metricId).keys--;
    this.evictions++;
  };

  /** A key of this metric was taken out of the table. */
  onRemove(metricId: number): void {
    this.#deps.metrics.byId(metricId).keys--;
  }

  /** Ends what is no longer called for, and gives sketches where they are needed. To be called about once a second. */
  review(): void {
    const { metrics, pool, options, daily } = this.#deps;
    const hasRoom = this.used < CALM_SHARE * options.actAbove * this.limit;
    const needed = Math.sqrt(options.maxKeys);
    const starved: Metric[] = [];
    for (const metric of metrics.all()) {
      const isCalm = hasRoom && !daily.isUsedUp(metric, false);
      if (isCalm) metric.refused = false;
      if (metric.overflowed && isCalm && this.nowMs - metric.overflowedAtMs > 2 * options.keyTtlMs) {
        metric.overflowed = false;
      }
      if (!metric.sketching) continue;
      const isBad = this.#reviewLabels(metric, isCalm);
      if (!isBad && metric.keys < needed / 4) this.#stopSketching(metric);
      else if (!isBad) starved.push(metric);
    }
    if (pool.free === 0 && starved.length > 1) {
      // Not enough sketches for all: the metric with the fewest keys can wait.
      this.#stopSketching(starved.reduce((least, metric) => (metric.keys < least.keys ? metric : least)));
    }
  }

  /** @returns whether something is decided about one of its labels */
  #reviewLabels(metric: Metric, isCalm: boolean): boolean {
    const { keyTtlMs } = this.#deps.options;
    const { aggregateScore, criticalScore } = metric.policy;
    for (const label of metric.labels()) {
      label.sketch?.rotate(this.nowMs, keyTtlMs);
      const score = this.score(label);
      if (label.critical && (isCalm || score < criticalScore - HYSTERESIS)) {
        label.critical = false;
        if (metric.critical === label) metric.critical = undefined;
        this.#record(
          metric,
          label,
          'calm',
          score,
          isCalm ? 'the table has room again' : 'its score has fallen',
        );
      }
      // Streams of counters that came back by themselves would bring along what was counted in the merged ones.
      if (!label.removed || metric.mergedCounts || !isCalm || this.nowMs - label.removedAtMs < 2 * keyTtlMs)
        continue;
      if (score < (label.isListed ? LISTED_SCORE : aggregateScore) - HYSTERESIS) {
        this.#deps.changes.ruleChanges(metric, label);
        metric.restore(label);
        this.#record(metric, label, 'restore', score, 'its score has fallen and the table has room again');
      }
    }
    return metric.rule !== undefined || [...metric.labels()].some((label) => label.critical);
  }

  /** Below √maxKeys key-sets no label of a metric can score more than 0.5: so many are not scored at all. */
  startSketching(metric: Metric): boolean {
    if (metric.id !== 0 && metric.keys * metric.keys >= this.#deps.options.maxKeys) metric.sketching = true;
    return metric.sketching;
  }

  #stopSketching(metric: Metric): void {
    metric.sketching = false;
    for (const label of metric.labels()) if (label.sketch) this.#deps.pool.give(label.sketch);
    metric.forgetLabels();
  }

  #giveUp(metric: Metric, label: Label, score: number, why: string): Verdict {
    this.label = label;
    this.#deps.changes.ruleChanges(metric, label);
    this.#deps.changes.hasRefused = true;
    metric.remove(label, this.nowMs);
    this.#resourceWeighed = false;
    this.#record(metric, label, 'aggregate', score, why);
    return 'aggregate';
  }

  #refuse(metric: Metric, label: Label | undefined, score: number, why: string): Verdict {
    const action = metric.policy.criticalAction;
    this.#deps.changes.hasRefused = true;
    if (label && !label.critical) {
      label.critical = true;
      if (this.reason === 'critical') metric.critical = label;
      this.#record(metric, label, action, score, why);
    } else if (!label && !metric.refused) {
      metric.refused = true;
      this.#record(metric, undefined, action, 0, why);
    }
    return action;
  }

  #record(metric: Metric, label: Label | undefined, kind: DecisionKind, score: number, why: string): void {
    const decision: Decision = {
      at: this.nowMs,
      metric: metric.name,
      label: label?.name ?? '',
      kind,
      score,
      why,
      enforced: this.#deps.options.mode === 'enforce',
    };
    this.decisions.push(decision);
    if (this.decisions.length > DECISIONS_KEPT) this.decisions.shift();
    this.#deps.onDecision(decision);
  }
}

function keyOf(body: Uint8Array, fieldStart: number, end: number): Uint8Array {
  const outer = new Reader().open(body, fieldStart, end);
  outer.next();
  const reader = new Reader().open(body, outer.start, outer.end);
  let key = body.subarray(0, 0);
  while (reader.next()) if (reader.field === 1) key = body.subarray(reader.start, reader.end);
  return key;
}
