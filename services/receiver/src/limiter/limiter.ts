import { MetricBlock, ResourceBlock, ScopeBlock } from './blocks.ts';
import { Admission, type Decision } from './decision.ts';
import { type Dropped, Drops } from './drops.ts';
import { SketchPool } from './entropy.ts';
import { type HashSeeds, hashSeeds, Random } from './hash.ts';
import { KeyTable } from './key-table.ts';
import { CUMULATIVE } from './metric-kind.ts';
import { type Metric, MetricTable } from './metric-table.ts';
import { isRegular, normalise } from './normalise.ts';
import { completeOptions, type LimiterOptions, policyOf } from './options.ts';
import { Reader, releaseBody } from './reader.ts';
import { type Incoming, Reaggregation } from './reaggregation.ts';
import { addTotals, emptyTotals, type LimiterReport, makeReport, type Totals } from './report.ts';
import { type Parts, Routing } from './routing.ts';
import { POINT_WORDS, POINTS_MAX, Scanner } from './scan.ts';
import { Tracker } from './tracker.ts';

/** Of points whose key-set is known, so many are counted as one that stands for all. */
const KNOWN_WEIGHT = 8;
/** The same for points that are dropped or overflowed. A value that never repeats then looks like four: 2 bits less. */
const REFUSED_WEIGHT = 4;
/** 2 KiB each. */
const SKETCHES = 448;
const REVIEW_EVERY_MS = 1000;
/** Slots of the key table that are looked at for expired keys with every request. */
const SWEEP_STEPS = 256;

const EMPTY = new Uint8Array(0);

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
  /** What this request is in the report, once it is counted. */
  totals: Totals;
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
  readonly #pool: SketchPool;
  readonly #random: Random;
  readonly #metrics: MetricTable;
  readonly #parts: Parts;
  readonly #routing: Routing;
  readonly #resource = new ResourceBlock();
  readonly #scope = new ScopeBlock();
  readonly #block = new MetricBlock();
  readonly #incoming = {} as Incoming;
  readonly #totals = emptyTotals();
  #policyOf: ReturnType<typeof policyOf>;
  #budget = Number.POSITIVE_INFINITY;
  #lastMs: number;
  #reviewedMs: number;
  #untilSample = 1;
  /** Where the points of the last scan were found, as keys or as sources, or -1. */
  readonly #found = new Int32Array(POINTS_MAX);
  /** Points of the metric being walked whose key-set was not known. */
  #unknown = 0;

  /** @throws LimiterOptionError */
  constructor(options: Partial<LimiterOptions>, deps: LimiterDeps) {
    const complete = completeOptions(options);
    const { maxKeys } = complete;
    this.#deps = deps;
    this.#policyOf = policyOf(complete);
    this.#seeds = hashSeeds(deps.seed);
    this.#random = new Random(deps.seed + 1);
    this.#pool = new SketchPool(SKETCHES, this.#random);
    this.#metrics = new MetricTable(() => this.#policyOf);
    const table = new KeyTable(maxKeys);
    const tracker = new Tracker({
      maxSources: Math.max(64, maxKeys >> 1),
      maxOutputs: Math.max(64, maxKeys >> 3),
      arenaCells: Math.max(16_384, maxKeys * 2),
    });
    const scanner = new Scanner();
    const startedMs = deps.now();
    this.#lastMs = this.#reviewedMs = startedMs;
    this.#parts = {
      options: complete,
      table,
      admission: this.#newAdmission(complete, table, startedMs),
      scanner,
      tracker,
      merging: new Reaggregation(tracker, scanner),
      around: { resource: this.#resource, scope: this.#scope, metric: this.#block },
      totals: emptyTotals(),
      startedMs,
      body: EMPTY,
      drops: new Drops(),
      overflowPoints: 0,
    };
    this.#routing = new Routing(this.#parts, this.#seeds);
  }

  get keysUsed(): number {
    return this.#parts.table.used;
  }

  /** Keys that may be used now. */
  get keysLimit(): number {
    return this.#parts.admission.limit;
  }

  /** All tables, whose sizes are fixed by `maxKeys`; names of metrics and labels come on top. */
  get memoryBytes(): number {
    const { table, tracker, scanner } = this.#parts;
    return table.memoryBytes + this.#pool.memoryBytes + tracker.memoryBytes + scanner.memoryBytes;
  }

  /** Lends the limiter so many keys of a budget it shares with others. Fewer than are used: the coldest go at once. */
  setBudget(keys: number): void {
    const { admission, options, table } = this.#parts;
    this.#budget = Math.max(0, Math.floor(keys));
    admission.limit = Math.min(options.maxKeys, this.#budget);
    table.shrinkTo(admission.limit, admission.onEvict);
  }

  /**
   * Changes the options while running: what is not given gets its default. Decisions that were made stay.
   * @throws LimiterOptionError; then nothing has changed
   */
  configure(options: Partial<LimiterOptions>): void {
    const complete = completeOptions(options);
    const parts = this.#parts;
    const { table: old, admission } = parts;
    parts.options = complete;
    this.#policyOf = policyOf(complete);
    this.#metrics.applyPolicies();
    if (complete.maxKeys !== old.maxKeys) {
      old.shrinkTo(complete.maxKeys, admission.onEvict);
      const table = new KeyTable(complete.maxKeys);
      old.forEach((lo, hi, metricId, seenSec) => void table.insert(lo, hi, metricId, seenSec));
      parts.table = table;
    }
    parts.admission = this.#newAdmission(complete, parts.table, parts.startedMs);
    parts.admission.decisions.push(...admission.decisions);
    parts.admission.evictions = admission.evictions;
    this.setBudget(this.#budget);
  }

  /** @param top how many metrics and labels to list */
  report(top = 20): LimiterReport {
    const parts = { ...this.#parts, totals: this.#totals };
    return makeReport(top, { ...parts, metrics: this.#metrics, memoryBytes: this.memoryBytes });
  }

  /**
   * Takes a request into the report's totals, when it has been acknowledged. One that is refused is sent again, and would
   * count twice.
   */
  count({ totals }: Pick<Limited, 'totals'>): void {
    addTotals(this.#totals, totals);
  }

  /**
   * Limits one request, without counting it.
   * @param body an ExportMetricsServiceRequest, protobuf, uncompressed, structurally valid
   */
  process(body: Uint8Array): Limited {
    this.#tick();
    const parts = this.#parts;
    const { merging } = parts;
    const regular = isRegular(body) ? body : normalise(body);
    parts.body = regular;
    parts.drops = new Drops();
    parts.overflowPoints = 0;
    parts.totals = emptyTotals();
    merging.begin();

    let points = 0;
    const reader = new Reader().open(regular, 0, regular.length);
    while (reader.next()) if (reader.field === 1 && reader.wire === 2) points += this.#walkResource(reader);

    parts.scanner.release();
    const out = merging.finish(regular);
    const { drops, overflowPoints, totals } = parts;
    const aggregatedPoints = merging.merged;
    totals.requests = 1;
    totals.points = points;
    totals.aggregated = aggregatedPoints;
    totals.overflow = overflowPoints;
    for (const { reason, count } of drops.rows)
      totals.dropped[reason] = (totals.dropped[reason] ?? 0) + count;
    parts.body = EMPTY;
    releaseBody();
    return {
      body: out === regular ? body : out,
      points: points - drops.total - aggregatedPoints,
      dropped: drops.rows,
      droppedPoints: drops.total,
      aggregatedPoints,
      overflowPoints,
      totals,
    };
  }

  #newAdmission(options: LimiterOptions, table: KeyTable, startedMs: number): Admission {
    const admission = new Admission({
      table,
      metrics: this.#metrics,
      pool: this.#pool,
      options,
      onDecision: (decision) => this.#deps.onDecision?.(decision),
    });
    admission.epochMs = startedMs - 1000;
    admission.nowMs = this.#lastMs;
    admission.nowSec = 1 + Math.floor((this.#lastMs - startedMs) / 1000);
    return admission;
  }

  /** Time only moves forward here, whatever the clock does. */
  #tick(): void {
    const nowMs = Math.max(this.#lastMs, this.#deps.now());
    this.#lastMs = nowMs;
    const { admission, tracker, table, options, startedMs } = this.#parts;
    admission.nowMs = nowMs;
    admission.nowSec = 1 + Math.floor((nowMs - startedMs) / 1000);
    const ttlSec = options.keyTtlMs / 1000;
    tracker.tick(admission.nowSec, ttlSec);
    table.sweep(SWEEP_STEPS, admission.nowSec, ttlSec, SWEEP_STEPS, admission.onEvict);
    if (nowMs - this.#reviewedMs < REVIEW_EVERY_MS) return;
    this.#reviewedMs = nowMs;
    admission.review();
  }

  #walkResource(at: Reader): number {
    const body = this.#parts.body;
    this.#resource.read(body, at.tagStart, at.start, at.end, this.#seeds);
    let points = 0;
    const reader = new Reader().open(body, at.start, at.end);
    while (reader.next()) if (reader.field === 2 && reader.wire === 2) points += this.#walkScope(reader);
    return points;
  }

  #walkScope(at: Reader): number {
    const body = this.#parts.body;
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
    const { body, scanner, admission, table, tracker } = this.#parts;
    const { sources } = tracker;
    const block = this.#block;
    const resource = this.#resource;
    const metric = this.#metrics.get(block.nameLo, block.nameHi, body, block.nameStart, block.nameEnd);
    block.metric = metric;
    this.#unknown = 0;
    admission.begin();
    const sampling = metric.sketching || admission.startSketching(metric);

    let low = (resource.lo >>> 0) + (this.#scope.lo >>> 0) + (block.lo >>> 0);
    const contextLo = low >>> 0;
    const contextHi = (resource.hi + this.#scope.hi + block.hi + Math.floor(low / 4294967296)) | 0;
    block.contextLo = contextLo | 0;
    block.contextHi = contextHi;

    const { points } = scanner;
    const { nowSec } = admission;
    const found = this.#found;
    const isTracked = !metric.plain && block.temporality === CUMULATIVE;
    const { pointLo, pointHi } = this.#seeds;
    for (let from = block.dataStart; from < block.dataEnd; from = scanner.next) {
      const count = scanner.scan(body, from, block.dataEnd, block.attributesField, pointLo, pointHi);
      const end = count * POINT_WORDS;
      for (let at = 0; at < end; at += POINT_WORDS) {
        if (points[at + 7] !== 0) scanner.resolve(at, body, block.attributesField, pointLo, pointHi);
        low = (points[at + 3]! >>> 0) + contextLo;
        points[at + 3] = low | 0;
        const hi = (points[at + 4]! + contextHi + (low > 0xffffffff ? 1 : 0)) | 0;
        points[at + 4] = hi;
        // Look-ups one right after the other wait for memory at the same time. With a label given up its own key is hardly ever
        // looked up, but its source is if it is cumulative.
        if (metric.plain) found[at / POINT_WORDS] = table.find(low | 0, hi);
        else if (isTracked) found[at / POINT_WORDS] = sources.find(low | 0, hi);
      }
      for (let at = 0; at < end; at += POINT_WORDS) {
        const lo = points[at + 3]!;
        const hi = points[at + 4]!;
        // The slow way keeps the attributes of one point only.
        if (points[at + 7] !== 0) scanner.resolve(at, body, block.attributesField, pointLo, pointHi);
        if (metric.plain) {
          const key = table.find(lo, hi, found[at / POINT_WORDS]!);
          if (key >= 0) {
            table.touch(key, nowSec);
            if (sampling) this.#sample(metric, at, KNOWN_WEIGHT);
            continue;
          }
        }
        this.#consider(metric, at, lo, hi, isTracked ? found[at / POINT_WORDS]! : -1);
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

  /** Counts the labels of one in `weight` points, at random distances, so that no rhythm of the producer matters. */
  #sample(metric: Metric, at: number, weight: number): void {
    if (--this.#untilSample > 0) return;
    this.#untilSample = 1 + (this.#random.next() % (2 * weight - 1));
    this.#parts.scanner.select(at);
    this.#parts.admission.feedPoint(metric, this.#parts.body, this.#parts.scanner, weight);
  }

  /** A point that is not simply known: of a metric about which something was decided, or of a new key-set. */
  #consider(metric: Metric, at: number, lo: number, hi: number, sourceAt: number): void {
    const scanner = this.#parts.scanner;
    scanner.select(at);
    if (metric.plain) {
      this.#unknown++;
      // What is refused anyway is only sampled: enough to see when it ends.
      if (metric.critical) this.#sample(metric, at, REFUSED_WEIGHT);
      else if (metric.sketching) this.#parts.admission.feedPoint(metric, this.#parts.body, scanner, 1);
    } else if (metric.sketching) this.#sample(metric, at, KNOWN_WEIGHT);

    const { points, base } = scanner;
    const point = this.#incoming;
    point.tagStart = points[at]! + base;
    point.start = points[at + 1]! + base;
    point.end = points[at + 2]! + base;
    point.fullLo = lo;
    point.fullHi = hi;
    point.sourceAt = sourceAt;
    // Each round either settles the point or takes one more label from the metric.
    while (!this.#routing.settle(metric, point));
  }
}
