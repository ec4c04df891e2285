import { AttributeHash, hashAttribute } from './attributes.ts';
import { MetricBlock, ResourceBlock, ScopeBlock } from './blocks.ts';
import { Admission, type Decision, type Verdict } from './decision.ts';
import { type Dropped, type DropReason, Drops } from './drops.ts';
import { SketchPool } from './entropy.ts';
import { type HashSeeds, hashSeeds, Random } from './hash.ts';
import { KeyTable } from './key-table.ts';
import { CUMULATIVE, GAUGE, SUM } from './metric-kind.ts';
import { type Label, type Metric, MetricTable, type Reduction } from './metric-table.ts';
import { isRegular, normalise } from './normalise.ts';
import { completeOptions, type LimiterOptions, policyOf } from './options.ts';
import type { Output } from './output-table.ts';
import { Reader } from './reader.ts';
import { type Incoming, isMergeable, Reaggregation } from './reaggregation.ts';
import { type LimiterReport, makeReport, type Totals } from './report.ts';
import { OVERFLOW_ATTRIBUTE } from './rewrite.ts';
import { ATTRIBUTE_WORDS, POINT_WORDS, Scanner } from './scan.ts';
import { Tracker } from './tracker.ts';

/** Of points whose key-set is known, so many are counted as one that stands for all. */
const KNOWN_WEIGHT = 4;
/** 2 KiB each. */
const SKETCHES = 448;
const REVIEW_EVERY_MS = 1000;
/** Slots of the key table that are looked at for expired keys with every request, when the table is above `actAbove`. */
const SWEEP_STEPS = 256;

export interface LimiterDeps {
  /** Unix milliseconds. */
  now(): number;
  /** Of the hashes: a secret in production. */
  seed: number;
  onDecision?(decision: Decision): void;
}

export interface Limited {
  /** The very body that came, when nothing changed. */
  body: Uint8Array;
  /** Points that go out. */
  points: number;
  dropped: Dropped[];
  droppedPoints: number;
  /** Points that were merged into others. */
  aggregatedPoints: number;
  /** Points that went into an overflow stream, merged there or not. */
  overflowPoints: number;
}

/**
 * Keeps the key-sets of metrics within a budget. In memory only; one per receiver.
 *
 *   process ─▶ for each resource, scope, metric ─▶ scan its points (hash their attributes)
 *                known key-set, nothing decided ──▶ passes: nothing is written, the body stays as it is
 *                unknown ──▶ Admission: admit, aggregate (give up a label), drop or overflow
 *                of a metric that gave up a label, or overflowing ──▶ Reaggregation: merge, and write the request anew
 */
export class CardinalityLimiter {
  readonly #deps: LimiterDeps;
  readonly #seeds: HashSeeds;
  readonly #scanner: Scanner;
  readonly #pool: SketchPool;
  readonly #random: Random;
  readonly #metrics: MetricTable;
  readonly #tracker: Tracker;
  readonly #merging: Reaggregation;
  readonly #startedMs: number;
  readonly #overflowLo: number;
  readonly #overflowHi: number;
  #options: LimiterOptions;
  #policyOf: ReturnType<typeof policyOf>;
  #table: KeyTable;
  #admission: Admission;
  #budget = Number.POSITIVE_INFINITY;
  #lastMs: number;
  #reviewedMs: number;
  #untilSample = 1;

  readonly #resource = new ResourceBlock();
  readonly #scope = new ScopeBlock();
  readonly #block = new MetricBlock();
  readonly #around = { resource: this.#resource, scope: this.#scope, metric: this.#block };
  readonly #incoming = {} as Incoming;
  #body: Uint8Array = new Uint8Array(0);
  #drops = new Drops();
  #overflowPoints = 0;
  /** Points of the metric being walked whose key-set was not known. */
  #unknown = 0;
  readonly #totals: Totals = {
    requests: 0,
    points: 0,
    dropped: {},
    aggregated: 0,
    overflow: 0,
    observedDropped: 0,
    observedAggregated: 0,
    observedOverflow: 0,
  };

  constructor(options: Partial<LimiterOptions>, deps: LimiterDeps) {
    this.#deps = deps;
    this.#options = completeOptions(options);
    this.#policyOf = policyOf(this.#options);
    this.#seeds = hashSeeds(deps.seed);
    this.#random = new Random(deps.seed + 1);
    this.#scanner = new Scanner();
    this.#pool = new SketchPool(SKETCHES, this.#random);
    this.#metrics = new MetricTable(() => this.#policyOf);
    const { maxKeys } = this.#options;
    this.#table = new KeyTable(maxKeys);
    this.#tracker = new Tracker({
      maxSources: Math.max(64, maxKeys >> 1),
      maxOutputs: Math.max(64, maxKeys >> 3),
      arenaCells: Math.max(16_384, maxKeys * 2),
    });
    this.#merging = new Reaggregation(this.#tracker);
    this.#startedMs = this.#lastMs = this.#reviewedMs = deps.now();
    this.#admission = this.#newAdmission();
    const overflow = new AttributeHash();
    const { pointLo, pointHi } = this.#seeds;
    hashAttribute(OVERFLOW_ATTRIBUTE, 0, OVERFLOW_ATTRIBUTE.length, pointLo, pointHi, overflow);
    this.#overflowLo = overflow.lo;
    this.#overflowHi = overflow.hi;
  }

  get keysUsed(): number {
    return this.#table.used;
  }

  /** Keys that may be used now. */
  get keysLimit(): number {
    return this.#admission.limit;
  }

  /** All tables, whose sizes are fixed by `maxKeys`; names of metrics and labels come on top. */
  get memoryBytes(): number {
    return (
      this.#table.memoryBytes + this.#pool.memoryBytes + this.#tracker.memoryBytes + this.#scanner.memoryBytes
    );
  }

  /** Lends the limiter so many keys of a budget it shares with others. Fewer than are used: the coldest go at once. */
  setBudget(keys: number): void {
    this.#budget = Math.max(0, Math.floor(keys));
    this.#admission.limit = Math.min(this.#options.maxKeys, this.#budget);
    this.#table.shrinkTo(this.#admission.limit, this.#admission.onEvict);
  }

  /** Changes the options while running: what is not given gets its default. Decisions that were made stay. */
  configure(options: Partial<LimiterOptions>): void {
    const complete = completeOptions(options);
    const old = this.#table;
    const { decisions, evictions } = this.#admission;
    this.#options = complete;
    this.#policyOf = policyOf(complete);
    this.#metrics.applyPolicies();
    if (complete.maxKeys !== old.maxKeys) {
      old.shrinkTo(complete.maxKeys, this.#admission.onEvict);
      this.#table = new KeyTable(complete.maxKeys);
      old.forEach((lo, hi, metricId, seenSec) => void this.#table.insert(lo, hi, metricId, seenSec));
    }
    this.#admission = this.#newAdmission();
    this.#admission.decisions.push(...decisions);
    this.#admission.evictions = evictions;
    this.setBudget(this.#budget);
  }

  /** @param top how many metrics and labels to list */
  report(top = 20): LimiterReport {
    return makeReport(top, {
      options: this.#options,
      table: this.#table,
      metrics: this.#metrics,
      tracker: this.#tracker,
      admission: this.#admission,
      totals: this.#totals,
      memoryBytes: this.memoryBytes,
    });
  }

  /**
   * Limits one request.
   * @param body an ExportMetricsServiceRequest, protobuf, uncompressed, structurally valid
   */
  process(body: Uint8Array): Limited {
    this.#tick();
    const regular = isRegular(body) ? body : normalise(body);
    this.#body = regular;
    this.#drops = new Drops();
    this.#overflowPoints = 0;
    this.#merging.begin();

    let points = 0;
    const reader = new Reader().open(regular, 0, regular.length);
    while (reader.next()) if (reader.field === 1 && reader.wire === 2) points += this.#walkResource(reader);

    this.#scanner.release();
    const out = this.#merging.finish(regular);
    const droppedPoints = this.#drops.total;
    const aggregatedPoints = this.#merging.merged;
    const totals = this.#totals;
    totals.requests++;
    totals.points += points;
    totals.aggregated += aggregatedPoints;
    totals.overflow += this.#overflowPoints;
    for (const { reason, count } of this.#drops.rows)
      totals.dropped[reason] = (totals.dropped[reason] ?? 0) + count;
    return {
      body: out === regular ? body : out,
      points: points - droppedPoints - aggregatedPoints,
      dropped: this.#drops.rows,
      droppedPoints,
      aggregatedPoints,
      overflowPoints: this.#overflowPoints,
    };
  }

  #newAdmission(): Admission {
    const admission = new Admission({
      table: this.#table,
      metrics: this.#metrics,
      pool: this.#pool,
      options: this.#options,
      onDecision: (decision) => this.#deps.onDecision?.(decision),
    });
    admission.epochMs = this.#startedMs - 1000;
    admission.nowMs = this.#lastMs;
    admission.nowSec = 1 + Math.floor((this.#lastMs - this.#startedMs) / 1000);
    return admission;
  }

  /** Time only moves forward here, whatever the clock does. */
  #tick(): void {
    const nowMs = Math.max(this.#lastMs, this.#deps.now());
    this.#lastMs = nowMs;
    const admission = this.#admission;
    admission.nowMs = nowMs;
    admission.nowSec = 1 + Math.floor((nowMs - this.#startedMs) / 1000);
    const ttlSec = this.#options.keyTtlMs / 1000;
    this.#tracker.tick(admission.nowSec, ttlSec);
    if (this.#table.used >= this.#options.actAbove * admission.limit) {
      this.#table.sweep(SWEEP_STEPS, admission.nowSec, ttlSec, SWEEP_STEPS, admission.onEvict);
    }
    if (nowMs - this.#reviewedMs < REVIEW_EVERY_MS) return;
    this.#reviewedMs = nowMs;
    admission.review();
  }

  #walkResource(at: Reader): number {
    const body = this.#body;
    this.#resource.read(body, at.tagStart, at.start, at.end, this.#seeds);
    let points = 0;
    const reader = new Reader().open(body, at.start, at.end);
    while (reader.next()) if (reader.field === 2 && reader.wire === 2) points += this.#walkScope(reader);
    return points;
  }

  #walkScope(at: Reader): number {
    const body = this.#body;
    this.#scope.read(body, at.tagStart, at.start, at.end, this.#seeds);
    let points = 0;
    const reader = new Reader().open(body, at.start, at.end);
    while (reader.next()) {
      if (reader.field !== 2 || reader.wire !== 2) continue;
      this.#block.read(body, reader.tagStart, reader.start, reader.end, this.#seeds);
      if (this.#block.kind !== 0) points += this.#walkMetric();
    }
    return points;
  }

  #walkMetric(): number {
    const body = this.#body;
    const block = this.#block;
    const resource = this.#resource;
    const scanner = this.#scanner;
    const admission = this.#admission;
    const metric = this.#metrics.get(block.nameLo, block.nameHi, body, block.nameStart, block.nameEnd);
    block.metric = metric;
    this.#unknown = 0;
    const sampling = metric.sketching || admission.startSketching(metric);

    let low = (resource.lo >>> 0) + (this.#scope.lo >>> 0) + (block.lo >>> 0);
    const contextLo = low >>> 0;
    const contextHi = (resource.hi + this.#scope.hi + block.hi + Math.floor(low / 4294967296)) | 0;
    block.contextLo = contextLo | 0;
    block.contextHi = contextHi;

    const { points } = scanner;
    const { nowSec } = admission;
    const { pointLo, pointHi } = this.#seeds;
    for (let from = block.dataStart; from < block.dataEnd; from = scanner.next) {
      const count = scanner.scan(body, from, block.dataEnd, block.attributesField, pointLo, pointHi);
      for (let at = 0; at < count * POINT_WORDS; at += POINT_WORDS) {
        if (points[at + 7] !== 0) scanner.resolve(at, body, block.attributesField, pointLo, pointHi);
        low = (points[at + 3]! >>> 0) + contextLo;
        const lo = low | 0;
        const hi = (points[at + 4]! + contextHi + (low > 0xffffffff ? 1 : 0)) | 0;
        if (metric.plain) {
          const slot = this.#table.find(lo, hi);
          if (slot >= 0) {
            this.#table.touch(slot, nowSec);
            if (sampling) this.#sample(metric, at);
            continue;
          }
        }
        this.#consider(metric, at, lo, hi);
      }
      block.points += count;
    }
    if (block.node) block.node.points = block.points;
    if (sampling) {
      if (this.#unknown > 0) admission.feedResource(metric, body, resource, this.#unknown);
      else if (this.#random.next() % KNOWN_WEIGHT === 0) {
        admission.feedResource(metric, body, resource, block.points * KNOWN_WEIGHT);
      }
    }
    return block.points;
  }

  /** Counts the labels of one in `KNOWN_WEIGHT` points, at random distances, so that no rhythm of the producer matters. */
  #sample(metric: Metric, at: number): void {
    if (--this.#untilSample > 0) return;
    this.#untilSample = 1 + (this.#random.next() % (2 * KNOWN_WEIGHT - 1));
    this.#scanner.select(at);
    this.#admission.feedPoint(metric, this.#body, this.#scanner, KNOWN_WEIGHT);
  }

  /** A point that is not simply known: of a metric about which something was decided, or of a new key-set. */
  #consider(metric: Metric, at: number, lo: number, hi: number): void {
    const scanner = this.#scanner;
    scanner.select(at);
    if (metric.plain) {
      this.#unknown++;
      if (metric.sketching) this.#admission.feedPoint(metric, this.#body, scanner, 1);
    } else if (metric.sketching) this.#sample(metric, at);

    const { points, base } = scanner;
    const point = this.#incoming;
    point.tagStart = points[at]! + base;
    point.start = points[at + 1]! + base;
    point.end = points[at + 2]! + base;
    point.fullLo = lo;
    point.fullHi = hi;
    // Each round either settles the point or takes one more label from the metric.
    while (!this.#settle(metric, point));
  }

  #settle(metric: Metric, point: Incoming): boolean {
    const { rule } = metric;
    const block = this.#block;
    const mergeable = isMergeable(block.kind, block.temporality);
    if (rule) this.#reduce(point, rule);
    else {
      point.reducedLo = point.fullLo;
      point.reducedHi = point.fullHi;
      point.relabelled = point.moves = false;
    }
    if (rule && point.relabelled && !mergeable) {
      this.#drop(metric, point, 'unmergeable', rule.pointLabels[0] ?? rule.resourceLabels[0]);
      return true;
    }
    const enforced = this.#options.mode === 'enforce';
    const isCumulative = block.temporality === CUMULATIVE && block.kind !== GAUGE;
    const output =
      !metric.plain && enforced && isCumulative
        ? this.#tracker.outputOf(point.fullLo, point.fullHi)
        : undefined;
    if (metric.overflowed && enforced && this.#goesToOverflow(metric, point, output)) return true;

    const table = this.#table;
    if (rule) point.reduction = rule;
    if (rule && enforced && point.relabelled && this.#leavesItsOwnStream(metric, point, output !== undefined))
      return true;
    const slot = table.find(point.reducedLo, point.reducedHi);
    point.reducedSeenMs = 0;
    if (slot >= 0) {
      point.reducedSeenMs = this.#admission.epochMs + table.seenSec(slot) * 1000;
      table.touch(slot, this.#admission.nowSec);
    } else {
      const verdict = this.#admit(metric, point, mergeable);
      if (verdict === 'aggregate') return false;
      if (verdict === 'drop') {
        this.#drop(metric, point, this.#admission.reason, this.#admission.label);
        return true;
      }
      if (verdict === 'overflow') {
        this.#overflow(metric, point, this.#admission.label);
        return true;
      }
    }
    if (!rule || !mergeable) return true;
    if (!enforced) {
      if (point.relabelled) this.#totals.observedAggregated++;
      return true;
    }
    this.#contribute(metric, point);
    return true;
  }

  #admit(metric: Metric, point: Incoming, mergeable: boolean): Verdict {
    const { reducedLo, reducedHi, relabelled } = point;
    return this.#admission.admit(
      metric,
      reducedLo,
      reducedHi,
      this.#scanner,
      this.#resource,
      relabelled,
      mergeable,
    );
  }

  /** Takes the labels that were given up out of the hashes of a point. */
  #reduce(point: Incoming, rule: Reduction): void {
    const { attributes, attributeAt, listed } = this.#scanner;
    let lo = point.fullLo;
    let hi = point.fullHi;
    const subtract = (records: Int32Array, at: number) => {
      const low = (lo >>> 0) - (records[at + 3]! >>> 0);
      hi = (hi - records[at + 4]! - (low < 0 ? 1 : 0)) | 0;
      lo = low | 0;
    };
    point.relabelled = point.moves = false;
    for (let i = 0; rule.pointLabels.length > 0 && i < listed; i++) {
      const at = attributeAt + i * ATTRIBUTE_WORDS;
      if (!rule.pointLabels.some((label) => label.keyHash === attributes[at + 2])) continue;
      subtract(attributes, at);
      point.relabelled = true;
    }
    const resource = this.#resource;
    const [beforeLo, beforeHi] = [lo, hi];
    for (let i = 0; rule.resourceLabels.length > 0 && i < resource.listed; i++) {
      const at = i * ATTRIBUTE_WORDS;
      if (!rule.resourceLabels.some((label) => label.keyHash === resource.attributes[at + 2])) continue;
      subtract(resource.attributes, at);
      point.relabelled = point.moves = true;
    }
    if (point.moves) {
      // The hash of the resource shrinks by what the hash of the stream did.
      const goneLow = (beforeLo >>> 0) - (lo >>> 0);
      const goneHi = (beforeHi - hi - (goneLow < 0 ? 1 : 0)) | 0;
      const low = (resource.lo >>> 0) - ((goneLow | 0) >>> 0);
      point.resourceLo = low | 0;
      point.resourceHi = (resource.hi - goneHi - (low < 0 ? 1 : 0)) | 0;
    }
    point.reducedLo = lo;
    point.reducedHi = hi;
  }

  /**
   * A stream that was forwarded by itself now loses a label. Its key is free; and if it is cumulative, its point goes out
   * once more as it is.
   * @returns whether the point is settled
   */
  #leavesItsOwnStream(metric: Metric, point: Incoming, tracked: boolean): boolean {
    const { nowMs, nowSec, epochMs } = this.#admission;
    if (nowMs - metric.ruleSinceMs > 2 * this.#options.keyTtlMs) return false;
    const table = this.#table;
    const own = table.find(point.fullLo, point.fullHi);
    if (own < 0) return false;
    const block = this.#block;
    const isCount = block.kind !== GAUGE && (block.kind !== SUM || block.isMonotonic);
    if (block.temporality === CUMULATIVE && isCount && !tracked) {
      const reduced = table.find(point.reducedLo, point.reducedHi);
      point.reducedSeenMs = reduced < 0 ? 0 : epochMs + table.seenSec(reduced) * 1000;
      if (!this.#merging.handOver(this.#body, this.#around, point, this.#watchMs(metric))) {
        table.touch(own, nowSec);
        return true;
      }
      table.remove(own);
      metric.keys--;
      return true;
    }
    table.remove(own);
    metric.keys--;
    return false;
  }

  /**
   * Points of a cumulative stream that once went into the overflow stream stay there: by itself it would bring along what was
   * counted there already. And the overflow stream of a producer is the same as ours.
   */
  #goesToOverflow(metric: Metric, point: Incoming, output: Output | undefined): boolean {
    if (output?.overflow) {
      this.#overflow(metric, point, undefined);
      return true;
    }
    const { fullLo, fullHi } = point;
    const block = this.#block;
    const low = (block.contextLo >>> 0) + (this.#overflowLo >>> 0);
    if (fullLo !== (low | 0)) return false;
    if (fullHi !== ((block.contextHi + this.#overflowHi + (low > 0xffffffff ? 1 : 0)) | 0)) return false;
    this.#overflow(metric, point, undefined);
    return true;
  }

  /** Puts a point into the stream `otel.metric.overflow = true` of its metric, scope and resource. */
  #overflow(metric: Metric, point: Incoming, cause: Label | undefined): void {
    const block = this.#block;
    if (!isMergeable(block.kind, block.temporality)) {
      this.#drop(metric, point, 'unmergeable', cause);
      return;
    }
    if (this.#options.mode === 'observe') {
      this.#totals.observedOverflow++;
      return;
    }
    const reduction = metric.overflow(cause);
    // The hash of a point without attributes, less the resource labels that go, plus the overflow attribute.
    const { fullLo, fullHi } = point;
    point.fullLo = block.contextLo;
    point.fullHi = block.contextHi;
    this.#reduce(point, reduction);
    point.fullLo = fullLo;
    point.fullHi = fullHi;
    const low = (point.reducedLo >>> 0) + (this.#overflowLo >>> 0);
    point.reducedLo = low | 0;
    point.reducedHi = (point.reducedHi + this.#overflowHi + (low > 0xffffffff ? 1 : 0)) | 0;
    point.reduction = reduction;
    point.relabelled = fullLo !== point.reducedLo || fullHi !== point.reducedHi;

    const table = this.#table;
    const { nowMs, nowSec, epochMs } = this.#admission;
    const slot = table.find(point.reducedLo, point.reducedHi);
    point.reducedSeenMs = slot < 0 ? 0 : epochMs + table.seenSec(slot) * 1000;
    if (slot >= 0) table.touch(slot, nowSec);
    else if (!this.#admission.insert(metric, point.reducedLo, point.reducedHi, true)) {
      this.#drop(metric, point, 'full', cause);
      return;
    }
    metric.overflowed = true;
    metric.overflowedAtMs = nowMs;
    if (this.#contribute(metric, point)) this.#overflowPoints++;
  }

  #contribute(metric: Metric, point: Incoming): boolean {
    const reason = this.#merging.contribute(this.#body, this.#around, point, this.#watchMs(metric));
    if (!reason) return true;
    this.#drop(metric, point, reason, metric.rule?.pointLabels[0] ?? metric.rule?.resourceLabels[0]);
    return false;
  }

  #watchMs(metric: Metric): number {
    return Math.max(this.#startedMs, metric.watchFromMs);
  }

  #drop(metric: Metric, point: Incoming, reason: DropReason, label: Label | undefined): void {
    if (this.#options.mode === 'observe') {
      this.#totals.observedDropped++;
      return;
    }
    this.#drops.add(metric, label, reason);
    this.#merging.cut(this.#around, point.tagStart, point.end);
  }
}
