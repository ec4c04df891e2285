import type { LimiterOptions } from '../options.ts';
import { Reader } from '../wire/reader.ts';
import { ATTRIBUTE_WORDS, type Listed } from '../wire/scan.ts';
import type { DailyKeys } from './daily-keys.ts';
import type { SketchPool } from './entropy.ts';
import type { KeyTable } from './key-table.ts';
import type { Label, Metric, MetricTable, Place } from './metric-table.ts';
import type { RequestChanges } from './request-changes.ts';

/** The decision about a key-set that is not in the table. */
export type Verdict = 'admit' | 'aggregate' | 'drop' | 'overflow';

export type DecisionKind = 'aggregate' | 'restore' | 'drop' | 'overflow' | 'calm';

/** A policy change for a metric, not a verdict on one point. Reported and logged once. */
export interface Decision {
  /** Unix milliseconds. */
  at: number;
  metric: string;
  /** Empty if no label was the cause. */
  label: string;
  kind: DecisionKind;
  score: number;
  why: string;
  /** False if it was only observed. */
  enforced: boolean;
}

/** Score above which a label in `aggregateLabels` is stripped: 16 equally likely values. */
const LISTED_SCORE = 0.25;
/** A stripped label is restored once its score is this far below `aggregateScore`. */
const HYSTERESIS = 0.15;
/** Share of the limit below which the table is calm again, to avoid flapping. */
const CALM_SHARE = 0.8;
/** Keys reserved for merged streams: 1/64 of the table or 16, whichever is more, and at most an eighth of it. */
const reserve = (keys: number) => Math.max(keys >> 6, Math.min(16, keys >> 3));
/** Steps of the clock hand for each key that finds no room. */
const SWEEP_STEPS = 64;
const DECISIONS_KEPT = 256;

/** What admission shares with the other parts of the limiter; replaced when options change. */
export interface Shared {
  options: LimiterOptions;
  table: KeyTable;
  readonly daily: DailyKeys;
  /** Of the current request. */
  changes: RequestChanges;
}

interface ListedLabel {
  key: Uint8Array;
  place: Place;
}

/** The label with the highest score, and the highest-scoring one in `aggregateLabels`. */
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

/** Scores labels and decides about unknown key-sets. */
export class Admission {
  readonly #shared: Shared;
  readonly #metrics: MetricTable;
  readonly #pool: SketchPool;
  readonly #onDecision: (decision: Decision) => void;
  readonly #hashOf: (key: Uint8Array, place: Place) => number;
  readonly decisions: Decision[] = [];
  evictions = 0;
  nowMs = 0;
  nowSec = 1;
  /** Keys last seen before this second are reported to the other receivers again. */
  generationSec = 0;
  /** The current key budget, at most `maxKeys`. */
  limit = 0;
  /** Cause of the last verdict other than `admit`. */
  label: Label | undefined;
  reason: 'critical' | 'full' | 'daily' | 'unmergeable' = 'full';
  /** Keys of all receivers as of the last step, 0 if unknown; plus those that came in since. */
  #sharedUsed = 0;
  #pending = 0;
  readonly #worst = new Worst();
  readonly #resourceWorst = new Worst();
  #resourceWeighed = false;
  #bitsOfTable = 0;
  /** Labels by hash, for each list of `aggregateLabels`. */
  readonly #listed = new WeakMap<readonly string[], Map<number, ListedLabel>>();

  constructor(
    shared: Shared,
    metrics: MetricTable,
    pool: SketchPool,
    onDecision: (decision: Decision) => void,
    hashOf: (key: Uint8Array, place: Place) => number,
  ) {
    this.#shared = shared;
    this.#metrics = metrics;
    this.#pool = pool;
    this.#onDecision = onDecision;
    this.#hashOf = hashOf;
    this.configure();
  }

  /** To be called when the options have changed. How many keys other receivers use is unknown until the next step. */
  configure(): void {
    const { maxKeys } = this.#shared.options;
    this.limit = maxKeys;
    this.#bitsOfTable = Math.log2(maxKeys);
    this.sharedUsed = 0;
  }

  /** Keys in use: those of all receivers, or those here if they are more. */
  get used(): number {
    const { used } = this.#shared.table;
    return this.#sharedUsed === 0 ? used : Math.max(used, this.#sharedUsed + this.#pending);
  }

  /** Whether new key-sets of the metric are evaluated, so that labels may be stripped at any time. */
  acts({ policy }: Metric): boolean {
    return this.used >= policy.actAbove * this.limit;
  }

  set sharedUsed(keys: number) {
    this.#sharedUsed = keys;
    this.#pending = 0;
  }

  /** 0 to 1: entropy of the label's values relative to a full table. */
  score(label: Label): number {
    if (!label.sketch) return 0;
    return Math.min(1, label.sketch.bits() / this.#bitsOfTable);
  }

  /** Adds labels to the sketches, as those of `weight` points. */
  feed(metric: Metric, body: Uint8Array, listed: Listed, weight: number): void {
    const { attributes, attributeAt, listed: count, base, place } = listed;
    let labels = place === 'point' ? metric.labels.point : metric.labels.resource;
    for (let i = 0; i < count; i++) {
      const at = attributeAt + i * ATTRIBUTE_WORDS;
      const keyHash = attributes[at + 2]!;
      let index = indexOf(labels, keyHash, i);
      if (index < 0) {
        // Labels that cannot be scored are not stored, so that there are never more labels than sketches.
        if (this.#pool.free === 0) continue;
        const key = keyOf(body, base + attributes[at]!, base + attributes[at + 1]!);
        index = metric.addLabel(key, keyHash, place);
        if (index < 0) continue;
        labels = metric.labels[place];
      }
      const label = labels[index]!;
      label.sketch ??= this.#pool.take(this.nowMs);
      label.sketch?.add(attributes[at + 3]! ^ attributes[at + 4]!, weight);
    }
  }

  /**
   * Decides about a key-set that is not in the table, and inserts it if it is admitted. After `aggregate` the metric, and thus
   * the key-set, has one label less: ask again for what is left.
   * @param isMerged it is a stream that others are merged into, which may use the reserve of the table
   * @param mergeable points of this kind can be merged
   */
  admit(
    metric: Metric,
    lo: number,
    hi: number,
    point: Listed,
    resource: Listed,
    isMerged: boolean,
    mergeable: boolean,
  ): Verdict {
    const { policy } = metric;
    const isUsedUp = this.#shared.daily.isUsedUp(metric, isMerged);
    if (!isUsedUp && !this.acts(metric) && this.insert(metric, lo, hi, isMerged)) return 'admit';

    const { critical } = metric;
    if (
      critical &&
      policy.aggregateLabels.length === 0 &&
      hasLabel(critical.place === 'point' ? point : resource, critical)
    ) {
      const score = this.score(critical);
      if (score >= policy.criticalScore - HYSTERESIS) {
        this.label = critical;
        this.reason = 'critical';
        return this.#refuse(metric, critical, score, '');
      }
    }
    const ofPoint = this.#weigh(metric.labels.point, point, this.#worst);
    // All points of a metric in a request have the same resource. Weighing it once saves 6 % of the CPU time of a request of
    // refused points.
    const ofResource = this.#resourceWorst;
    if (!this.#resourceWeighed) this.#weigh(metric.labels.resource, resource, ofResource);
    this.#resourceWeighed = true;
    const { top, topScore } = ofResource.topScore > ofPoint.topScore ? ofResource : ofPoint;
    const { listed, listedScore } = ofResource.listedScore > ofPoint.listedScore ? ofResource : ofPoint;

    if (listed && listedScore >= LISTED_SCORE && mergeable) {
      return this.#strip(metric, listed, listedScore, 'it is one of aggregate_labels');
    }
    this.label = top;
    if (top && topScore >= policy.criticalScore) {
      this.reason = 'critical';
      return this.#refuse(metric, top, topScore, `it scores ${policy.criticalScore} or more`);
    }
    if (top && topScore >= policy.aggregateScore) {
      if (mergeable) return this.#strip(metric, top, topScore, `it scores ${policy.aggregateScore} or more`);
      this.reason = 'unmergeable';
      return 'drop';
    }
    if (!isUsedUp && this.insert(metric, lo, hi, isMerged)) return 'admit';
    const why = isUsedUp ? 'its daily series are used up (daily_keys)' : 'the table is full';
    const label = mergeable ? (listed ?? this.#unscored(metric, point, resource)) : undefined;
    if (label) {
      metric.sketching = true; // scored from now on, so that the label can be restored
      return this.#strip(metric, label, listedScore, why);
    }
    this.reason = isUsedUp ? 'daily' : 'full';
    return this.#refuse(metric, top, topScore, why);
  }

  /** A label of the key-set that is in `aggregateLabels`, although it has no score: those of small metrics have none. */
  #unscored(metric: Metric, point: Listed, resource: Listed): Label | undefined {
    const { aggregateLabels } = metric.policy;
    if (metric.id === 0 || aggregateLabels.length === 0) return undefined;
    const names = this.#listedOf(aggregateLabels);
    for (const { attributes, attributeAt, listed } of [point, resource]) {
      for (let i = 0; i < listed; i++) {
        const keyHash = attributes[attributeAt + i * ATTRIBUTE_WORDS + 2]!;
        const found = names.get(keyHash);
        if (!found) continue;
        const { key, place } = found;
        const known = indexOf(metric.labels[place], keyHash, 0);
        const index = known >= 0 ? known : metric.addLabel(key, keyHash, place);
        const label = metric.labels[place][index];
        if (label && !label.isProtected && !label.removed) return label;
      }
    }
    return undefined;
  }

  #listedOf(names: readonly string[]): Map<number, ListedLabel> {
    let listed = this.#listed.get(names);
    if (!listed) {
      listed = new Map();
      for (const key of names.map((name) => Buffer.from(name)))
        for (const place of ['point', 'resource'] as const)
          listed.set(this.#hashOf(key, place), { key, place });
      this.#listed.set(names, listed);
    }
    return listed;
  }

  /** To be called before the points of a metric, so that the labels of its resource are scored only once. */
  begin(): void {
    this.#resourceWeighed = false;
  }

  /** Finds the worst of these labels, and the worst of those in `aggregateLabels`. */
  #weigh(labels: readonly Label[], { attributes, attributeAt, listed }: Listed, worst: Worst): Worst {
    worst.clear();
    for (let i = 0; i < listed; i++) {
      const index = indexOf(labels, attributes[attributeAt + i * ATTRIBUTE_WORDS + 2]!, i);
      if (index < 0) continue;
      const label = labels[index]!;
      if (label.isProtected || label.removed) continue;
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
    return worst;
  }

  /** Inserts a key-set if there is room, or if the coldest expired key can be evicted. */
  insert(metric: Metric, lo: number, hi: number, isMerged: boolean): boolean {
    const { table, options, daily, changes } = this.#shared;
    const room = this.limit - (isMerged ? 0 : reserve(this.limit));
    if (this.used >= room) {
      table.evict(SWEEP_STEPS, this.nowSec, options.keyTtlMs / 1000, 1, this.onEvict);
      if (this.used >= room) return false;
    }
    if (table.used >= table.maxEntries) return false;
    // In observe mode merged streams are not sent.
    const goesOut = !isMerged || options.mode === 'enforce';
    const mark = goesOut ? daily.noteNew(changes, metric, lo, hi) : 0;
    table.add(lo, hi, metric.id, this.nowSec, mark);
    metric.keys++;
    metric.dailyNew++;
    this.#pending++;
    changes.inserted.push(lo, hi);
    return true;
  }

  onEvict = (metricId: number): void => {
    this.onRemove(metricId);
    this.evictions++;
  };

  /** To be called when a key of this metric was removed from the table. */
  onRemove(metricId: number): void {
    this.#metrics.byId(metricId).keys--;
  }

  /** Ends decisions that are no longer needed, and assigns sketches. To be called about once a second. */
  review(): void {
    const { options, daily } = this.#shared;
    const pool = this.#pool;
    const hasRoom = this.used < CALM_SHARE * options.actAbove * this.limit;
    const needed = Math.sqrt(options.maxKeys);
    const starved: Metric[] = [];
    for (const metric of this.#metrics.all()) {
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
      // Not enough sketches for all: the metric with the fewest keys has to wait.
      this.#stopSketching(starved.reduce((least, metric) => (metric.keys < least.keys ? metric : least)));
    }
  }

  /** @returns whether there is a decision about one of its labels */
  #reviewLabels(metric: Metric, isCalm: boolean): boolean {
    const { keyTtlMs } = this.#shared.options;
    const { aggregateScore, criticalScore } = metric.policy;
    for (const label of metric.allLabels()) {
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
      // Counter streams that came back unmerged would contain what was counted in the merged ones.
      if (!label.removed || metric.mergedCounts || !isCalm || this.nowMs - label.removedAtMs < 2 * keyTtlMs)
        continue;
      if (score < (label.isListed ? LISTED_SCORE : aggregateScore) - HYSTERESIS) {
        this.#shared.changes.ruleChanges(metric, label);
        metric.restore(label);
        this.#record(metric, label, 'restore', score, 'its score has fallen and the table has room again');
      }
    }
    return metric.rule !== undefined || [...metric.allLabels()].some((label) => label.critical);
  }

  /** Below √maxKeys key-sets, no label of a metric can score above 0.5, so smaller metrics are not scored. */
  startSketching(metric: Metric): boolean {
    if (metric.id !== 0 && metric.keys * metric.keys >= this.#shared.options.maxKeys) metric.sketching = true;
    return metric.sketching;
  }

  #stopSketching(metric: Metric): void {
    metric.sketching = false;
    for (const label of metric.allLabels()) if (label.sketch) this.#pool.give(label.sketch);
    metric.forgetLabels();
  }

  #strip(metric: Metric, label: Label, score: number, why: string): Verdict {
    this.label = label;
    this.#shared.changes.ruleChanges(metric, label);
    this.#shared.changes.hasRefused = true;
    metric.remove(label, this.nowMs);
    this.#resourceWeighed = false;
    this.#record(metric, label, 'aggregate', score, why);
    return 'aggregate';
  }

  #refuse(metric: Metric, label: Label | undefined, score: number, why: string): Verdict {
    const action = metric.policy.criticalAction;
    this.#shared.changes.hasRefused = true;
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
      enforced: this.#shared.options.mode === 'enforce',
    };
    this.decisions.push(decision);
    if (this.decisions.length > DECISIONS_KEPT) this.decisions.shift();
    this.#onDecision(decision);
  }
}

/**
 * @param hint where it was found in the previous point
 * @returns -1 if there is none
 */
function indexOf(labels: readonly Label[], keyHash: number, hint: number): number {
  if (hint < labels.length && labels[hint]!.keyHash === keyHash) return hint;
  for (let i = 0; i < labels.length; i++) if (labels[i]!.keyHash === keyHash) return i;
  return -1;
}

function hasLabel({ attributes, attributeAt, listed }: Listed, { keyHash }: Label): boolean {
  for (let i = 0; i < listed; i++)
    if (attributes[attributeAt + i * ATTRIBUTE_WORDS + 2] === keyHash) return true;
  return false;
}

function keyOf(body: Uint8Array, fieldStart: number, end: number): Uint8Array {
  const outer = new Reader().open(body, fieldStart, end);
  outer.next();
  const reader = new Reader().open(body, outer.start, outer.end);
  let key = body.subarray(0, 0);
  while (reader.next()) if (reader.field === 1) key = body.subarray(reader.start, reader.end);
  return key;
}
