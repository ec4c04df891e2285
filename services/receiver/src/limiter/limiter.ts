import { DailyKeys } from './admission/daily-keys.ts';
import { Admission, type Decision } from './admission/decision.ts';
import { type Dropped, Drops } from './admission/drops.ts';
import { SketchPool } from './admission/entropy.ts';
import { KeyTable } from './admission/key-table.ts';
import { Label, type Metric, MetricTable, type Place, type SharedRule } from './admission/metric-table.ts';
import { RequestChanges } from './admission/request-changes.ts';
import { MetricBlock, ResourceBlock, ScopeBlock } from './blocks.ts';
import type { Claim } from './claim.ts';
import { Hash64, type HashSeeds, hashSeeds, packed, Random } from './hash.ts';
import type { HeldChanges, HeldPoints } from './merge/held-points.ts';
import { labelHash, WRITER_LABEL, WriterIdentity } from './merge/identity.ts';
import { type Leaving, Reaggregation } from './merge/reaggregation.ts';
import { type Parts, Routing } from './merge/routing.ts';
import { CONVERTED, OVERFLOW } from './merge/source.ts';
import { SourceHistory } from './merge/source-history.ts';
import type { Incoming } from './merge/stream.ts';
import { Tracker, type TrackerMark } from './merge/tracker.ts';
import { type LimiterOptions, mergesToDeltas, policyOf } from './options.ts';
import { addTotals, emptyTotals, type LimiterReport, makeReport, type Totals } from './report.ts';
import { isRegular, normalise } from './wire/normalise.ts';
import { int32At, Reader, releaseBody } from './wire/reader.ts';
import { POINT_WORDS, POINTS_MAX, Scanner } from './wire/scan.ts';

/** One in so many points of known key-sets is sampled, and counted as so many. */
const KNOWN_WEIGHT = 8;
/** The same for points that are dropped or overflowed. A value that never repeats then looks like four: 2 bits less. */
const REFUSED_WEIGHT = 4;
/** 2 KiB each. */
const SKETCHES = 448;
const REVIEW_EVERY_MS = 1000;

/** Maximum number of sources of merged cumulative streams in the ledger. */
export const ledgerSize = (maxKeys: number) => Math.max(65_536, 2 * maxKeys);
/** Slots of the key table that are checked for expired keys with every request. */
const SWEEP_STEPS = 256;

const EMPTY: Uint8Array = new Uint8Array(0);

export interface LimiterDeps {
  /** Unix milliseconds. */
  now(): number;
  /** Unix ms for times that others read. Default: `now`. */
  wallNow?(): number;
  /** Seed of all hashes, shared by all receivers. Use a random secret in production, so that nobody can craft collisions. */
  seed: number;
  /** Since when the pipeline has seen everything that its producers sent, Unix ms; defaults to now. */
  watchMs?: number;
  onDecision?(decision: Decision): void;
}

export interface Limited {
  /** The same buffer if nothing changed. */
  body: Uint8Array;
  /** Points of the request that are sent with it, without the ends of streams. */
  points: number;
  /** Points that end a level's own stream because it continues in a merged one. */
  ends: number;
  dropped: Dropped[];
  droppedPoints: number;
  /** Points that were merged into others. */
  aggregatedPoints: number;
  /** Points that went to an overflow stream, merged there or not. */
  overflowPoints: number;
  /** Points of cumulative sources with unknown history: they became baselines, and their value was not counted. */
  unknownPoints: number;
  /** Points whose time was missing or too far ahead, and was replaced by the receiver's. */
  skewedPoints: number;
  /** Its share of the report, for when it is counted. */
  totals: Totals;
  /** What the step that makes it durable compares and writes. */
  claim: Claim;
}

interface OpenRequest {
  mark: TrackerMark;
  changes: RequestChanges;
  producers: readonly number[];
  held: HeldChanges;
  limited: Limited;
}

/**
 * Keeps the key-sets of metrics within a budget. Pure: the shared state comes in by `learn…` and goes out as the claim of a
 * request. A processed request is open until it is kept, or undone together with all later ones.
 *
 *   process ─▶ for each resource, scope, metric ─▶ scan its points (hash their attributes)
 *                known key-set, no decision ──▶ passes: nothing is written, the body stays unchanged
 *                unknown ──▶ Admission: admit, aggregate (strip a label), drop or overflow
 *                metric with stripped labels or overflow ──▶ Reaggregation: merge, and rewrite the request
 */
export class CardinalityLimiter {
  /** The series of this UTC day, as far as they were counted here. */
  readonly daily = new DailyKeys();
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
  /** Of the current request. */
  #body = EMPTY;
  readonly #totals = emptyTotals();
  readonly #hash = new Hash64();
  #policyOf: ReturnType<typeof policyOf>;
  #lastMs: number;
  #reviewedMs: number;
  #untilSample = 1;
  /** Processed requests that are neither kept nor undone. */
  #open: OpenRequest[] = [];
  /** Metrics whose rule was changed by options: reported with the next request. */
  readonly #untold = new Set<Metric>();
  /** Where the points of the last scan were found, as keys or as sources, or -1. */
  readonly #found = new Int32Array(POINTS_MAX);
  readonly #hashOf = (key: Uint8Array, place: Place) => labelHash(key, place, this.#seeds);
  /** Number of points of the current metric with unknown key-sets. */
  #unknown = 0;

  constructor(options: LimiterOptions, deps: LimiterDeps) {
    const { maxKeys } = options;
    this.#deps = deps;
    this.#policyOf = policyOf(options);
    this.#seeds = hashSeeds(deps.seed);
    this.#random = new Random(deps.seed + 1);
    this.#pool = new SketchPool(SKETCHES, this.#random);
    const writerKey = Buffer.from(WRITER_LABEL);
    const writerLabel = new Label(writerKey, this.#hashOf(writerKey, 'point'), 'point');
    writerLabel.removed = true;
    this.#metrics = new MetricTable((name) => this.#policyOf(name), writerLabel);
    const table = new KeyTable(maxKeys);
    const startedMs = deps.now();
    const history = new SourceHistory(Math.max(64, maxKeys >> 2), deps.watchMs ?? startedMs);
    // If all counts are sent as deltas, each stream is a source and has an output.
    const isDelta = options.temporality === 'delta';
    const limits = {
      maxSources: Math.max(8_192, isDelta ? maxKeys : maxKeys >> 1),
      maxLedger: ledgerSize(maxKeys),
      maxOutputs: Math.max(1_024, isDelta ? maxKeys : maxKeys >> 3),
      arenaCells: Math.max(65_536, maxKeys * (isDelta ? 16 : 4)),
    };
    const around = { resource: this.#resource, scope: this.#scope, metric: this.#block };
    const tracker = new Tracker(limits, history, around);
    const scanner = new Scanner();
    this.#lastMs = this.#reviewedMs = startedMs;
    tracker.restart(startedMs, startedMs, new Map());
    tracker.sendDeltas(mergesToDeltas(options));
    this.daily.configure(options.dailyKeys, options.dailyMode === 'enforce');
    this.daily.tick(startedMs);
    const shared = { options, table, daily: this.daily, changes: new RequestChanges() };
    const onDecision = (decision: Decision) => deps.onDecision?.(decision);
    this.#parts = Object.assign(shared, {
      admission: new Admission(shared, this.#metrics, this.#pool, onDecision, this.#hashOf),
      history,
      writer: new WriterIdentity(0, this.#seeds),
      scanner,
      tracker,
      merging: new Reaggregation(tracker, scanner, around),
      around,
      totals: emptyTotals(),
      startedMs,
      drops: new Drops(),
      overflowPoints: 0,
    });
    this.#routing = new Routing(this.#parts, this.#seeds);
  }

  get keysUsed(): number {
    return this.#parts.table.used;
  }

  get keysLimit(): number {
    return this.#parts.admission.limit;
  }

  /** Size of all tables, which `maxKeys` determines; without the names of metrics and labels. */
  get memoryBytes(): number {
    const { table, tracker, scanner } = this.#parts;
    return table.memoryBytes + this.#pool.memoryBytes + tracker.memoryBytes + scanner.memoryBytes;
  }

  /** Takes the totals from a step's answer: keys of all receivers, and sources in the ledger. */
  learnTotals(keys: number, sources: number): void {
    this.#parts.admission.sharedUsed = keys;
    this.#parts.tracker.ledgerSources = sources;
  }

  /** Begins a generation: every key is reported to the other receivers again when it is next seen. */
  beginGeneration(): void {
    this.#parts.admission.generationSec = this.#parts.admission.nowSec + 1;
  }

  /** Adds keys that other receivers have admitted, 8 bytes of hash each. */
  learnKeys(hashes: Buffer): void {
    const { table, admission } = this.#parts;
    this.#addKeys(hashes, admission.nowSec, (at) => table.setSeen(at, admission.nowSec));
  }

  #addKeys(hashes: Buffer, seenSec: number, isKnown: (at: number) => void = () => {}): void {
    const { table } = this.#parts;
    for (let i = 0; i + 8 <= hashes.length; i += 8) {
      const lo = hashes.readInt32LE(i);
      const hi = hashes.readInt32LE(i + 4);
      const at = table.find(lo, hi);
      if (at >= 0) isKnown(at);
      else if (table.add(lo, hi, 0, seenSec)) this.#metrics.byId(0).keys++;
    }
  }

  /** Begins a new day when it is due, also while there are no requests. */
  beginDay(nowMs = this.#wallNow()): void {
    if (!this.daily.tick(nowMs)) return;
    for (const metric of this.#metrics.all()) metric.dailyKeys = metric.dailyNew = 0;
  }

  #wallNow(): number {
    return this.#deps.wallNow?.() ?? Math.max(this.#lastMs, this.#deps.now());
  }

  /**
   * Sets the number of series of metrics on a UTC day, of all receivers, by the hash of the name; metrics that are missing have
   * few.
   * @param told what was reported from here: key-sets that came in since then are not included
   */
  learnDaily(day: string, keys: ReadonlyMap<string, number>, told: ReadonlyMap<Metric, number>): void {
    if (day !== this.daily.day) return;
    for (const metric of this.#metrics.all()) metric.dailyKeys = keys.get(String(metric.hash)) ?? 0;
    for (const [metric, came] of told) metric.dailyNew = Math.max(0, metric.dailyNew - came);
  }

  /** Keys of a request that did not go through Redis: they are reported when they are seen again. */
  learnUntold(hashes: Buffer): void {
    this.#addKeys(hashes, Math.max(1, this.#parts.admission.generationSec - 1));
  }

  /** Sets the ledger's entry of a source; undefined if it has none. Only while no request is open. */
  learnSource(field: Buffer, bytes: Buffer | undefined): void {
    this.#parts.tracker.learn(field, bytes);
  }

  /** Sources that are forwarded unmerged, for the repeated preparation of the next request. */
  learnForwarded(fields: readonly Buffer[]): void {
    this.#parts.history.learnForwarded(fields);
  }

  /** Producers and the time of their first collection, 16 bytes each. */
  learnProducers(entries: Buffer): void {
    const { history, admission } = this.#parts;
    for (let i = 0; i + 16 <= entries.length; i += 16) {
      const word = (n: number) => entries.readInt32LE(i + 4 * n);
      history.learn(word(0), word(1), word(2), word(3), admission.nowSec);
    }
  }

  /** Sets the rules of all metrics, by their field in claims. Metrics that are missing have none. */
  learnRules(rules: ReadonlyMap<string, SharedRule>): void {
    const nowMs = this.#lastMs;
    for (const metric of this.#metrics.all()) {
      if (metric.rule && !rules.has(String(metric.hash)) && !this.#untold.has(metric))
        metric.setRule({ metric: metric.name, point: [], resource: [], counts: false }, this.#hashOf, nowMs);
    }
    for (const [field, rule] of rules) {
      const metric = this.#metrics.named(Number(field), rule.metric);
      if (metric.id !== 0) metric.setRule(rule, this.#hashOf, nowMs);
    }
  }

  /** Makes all rules be reported with the next request, because Redis has lost its data. */
  tellRulesAgain(): void {
    if (this.#parts.options.mode !== 'enforce') return;
    for (const metric of this.#metrics.all()) if (metric.rule) this.#untold.add(metric);
  }

  /** Since when the pipeline has seen everything, Unix ms. */
  set watchMs(unixMs: number) {
    this.#parts.history.watchMs = unixMs;
  }

  /**
   * Begins as this writer of merged cumulative streams. Only while no request is open.
   * @param slot identifies the writer in the streams that it writes
   * @param startMs later than any point that this slot has written
   * @param levels of this slot, by hash, as they were claimed
   */
  beginWriter(
    slot: number,
    startMs: number,
    levelStartMs: number,
    levels: ReadonlyMap<string, Buffer>,
  ): void {
    this.#parts.writer = new WriterIdentity(slot, this.#seeds);
    this.#parts.tracker.restart(startMs, levelStartMs, levels);
  }

  /** Every known source in the ledger's format, for a Redis that has lost its data. Only while no request is open. */
  sources(): [field: Buffer, value: Buffer][] {
    return this.#parts.tracker.allSources();
  }

  /** The levels of this writer, as they are claimed. */
  levels(): [field: Buffer, value: Buffer][] {
    return this.#parts.tracker.allLevels();
  }

  /** The deferred points. */
  get held(): HeldPoints {
    return this.#parts.merging.held;
  }

  get isHeldDue(): boolean {
    return this.held.isDue(this.#deps.now(), this.#parts.options.mergeIntervalMs);
  }

  /** Number of requests that are neither kept nor undone. */
  get openRequests(): number {
    return this.#open.length;
  }

  /**
   * Changes the options while running. Enforced decisions stay; observed ones are made again. Only while no request is open.
   */
  configure(options: LimiterOptions): void {
    const parts = this.#parts;
    const { table: old, options: before } = parts;
    parts.tracker.sendDeltas(mergesToDeltas(options));
    parts.options = options;
    this.daily.configure(options.dailyKeys, options.dailyMode === 'enforce');
    this.#policyOf = policyOf(options);
    for (const metric of this.#metrics.all()) {
      const hadRule = metric.rule !== undefined;
      metric.setPolicy(this.#policyOf(metric.name));
      if (options.mode !== before.mode) metric.forgetRule();
      else if (hadRule) this.#untold.add(metric);
    }
    if (options.maxKeys !== old.maxEntries) {
      old.shrinkTo(options.maxKeys, parts.admission.onEvict);
      const table = new KeyTable(options.maxKeys);
      old.forEach((at) => {
        table.add(old.words[at]!, old.words[at + 1]!, old.metricId(at), old.seenSec(at));
      });
      parts.table = table;
    }
    parts.admission.configure();
  }

  /** @param top maximum number of metrics and labels to list */
  report(top = 20): LimiterReport {
    return makeReport(top, this.#parts, this.#metrics, this.#totals, this.memoryBytes);
  }

  /** Adds an acknowledged request to the report. A rejected one is sent again and would count twice. */
  count({ totals }: Pick<Limited, 'totals'>): void {
    addTotals(this.#totals, totals);
  }

  /**
   * Limits one request, without counting it.
   * @param body a valid ExportMetricsServiceRequest, protobuf, uncompressed
   * @param isAlone it does not go through Redis: none of its points may be deferred, and no deferred points may go with it
   */
  process(body: Uint8Array, isAlone = false): Limited {
    const parts = this.#parts;
    const { merging, tracker, history } = parts;
    const changes = new RequestChanges();
    parts.changes = changes;
    this.#tick();
    const mark = tracker.begin();
    history.begin();
    const regular = isRegular(body) ? body : normalise(body);
    this.#body = regular;
    parts.drops = new Drops();
    parts.overflowPoints = 0;
    parts.totals = emptyTotals();
    const held = this.held.begin();
    merging.begin(regular, isAlone ? 'alone' : this.#leaving(), this.#lastMs);

    let points = 0;
    let out: Uint8Array;
    try {
      const reader = new Reader().open(regular, 0, regular.length);
      while (reader.next()) if (reader.field === 1 && reader.wire === 2) points += this.#walkResource(reader);
      parts.scanner.release();
      out = merging.finish(parts.writer.attribute);
    } catch (error) {
      this.#takeBack({ mark, changes, producers: history.news, held });
      throw error;
    }
    const { drops, overflowPoints, totals } = parts;
    const aggregatedPoints = merging.merged;
    totals.requests = 1;
    totals.points = points;
    totals.aggregated = aggregatedPoints;
    totals.overflow = overflowPoints;
    for (const { reason, count } of drops.rows)
      totals.dropped[reason] = (totals.dropped[reason] ?? 0) + count;
    this.#body = EMPTY;
    releaseBody();
    const limited: Limited = {
      body: out === regular ? body : out,
      points: points - drops.total - aggregatedPoints - merging.plan.held.length,
      ends: merging.ends,
      dropped: drops.rows,
      droppedPoints: drops.total,
      aggregatedPoints,
      overflowPoints,
      unknownPoints: merging.unknown,
      skewedPoints: tracker.times.skewed,
      totals,
      claim: this.#claim(changes, history.news, held),
    };
    this.#open.push({ mark, changes, producers: history.news, held, limited });
    return limited;
  }

  /** Makes the oldest open request final. The bytes of its claim must have been used: the next one overwrites them. */
  keep(): void {
    const request = this.#open.shift();
    if (!request) return;
    const { tracker, history } = this.#parts;
    this.daily.keep(request.changes);
    tracker.keep(request.mark, this.#open[0]?.mark ?? tracker.mark(), request.limited.claim.sources);
    history.forgetForwarded();
    if (this.#untold.size > 0) for (const metric of request.changes.rules) this.#untold.delete(metric);
  }

  /** Undoes all open requests, or the last `count` of them. */
  undo(count = this.#open.length): void {
    for (const request of this.#open.splice(this.#open.length - count).reverse()) this.#takeBack(request);
  }

  #takeBack({ mark, changes, producers, held }: Omit<OpenRequest, 'limited'>): void {
    const { tracker, table, history } = this.#parts;
    this.held.undo(held);
    tracker.undo(mark);
    changes.undo(table, this.#metrics, this.daily);
    history.retract(producers);
  }

  /** The claim of the current request. */
  #claim(changes: RequestChanges, producers: readonly number[], held: HeldChanges): Claim {
    const { tracker, options } = this.#parts;
    for (const metric of this.#untold) changes.rules.add(metric);
    const isEnforced = options.mode === 'enforce';
    // A cumulative stream that came in may be part of an overflow stream, which only the ledger knows.
    const comesIn = changes.inserted.length > 0 && changes.counting.length > 0 && tracker.ledgerSources > 0;
    const tellsRules = isEnforced && changes.rules.size > 0;
    return {
      hasRefused: changes.hasRefused && isEnforced,
      reliesOnRules: (changes.reliesOnRules || comesIn) && isEnforced,
      keys: packed(changes.inserted),
      remembered: packed(changes.remembered),
      gone: packed(changes.gone),
      counting: packed(changes.counting),
      neverForwarded: isEnforced ? OVERFLOW | (options.temporality === 'delta' ? CONVERTED : 0) : 0,
      forwarded: packed(changes.forwarded),
      producers: packed(producers),
      sources: tracker.claims(),
      levels: tracker.levelClaims(),
      held: this.held.claims(),
      sends: held.sent ? 'own' : undefined,
      rules: tellsRules ? [...changes.rules].flatMap(ruleTexts) : [],
      writtenMs: tracker.times.writtenMs,
    };
  }

  #leaving(): Leaving {
    const { mergeIntervalMs } = this.#parts.options;
    return mergeIntervalMs === 0 || this.held.isDue(this.#lastMs, mergeIntervalMs) ? 'send' : 'hold';
  }

  /** Time only moves forward here, whatever the clock does. */
  #tick(): void {
    const nowMs = Math.max(this.#lastMs, this.#deps.now());
    this.#lastMs = nowMs;
    const { admission, tracker, table, options, startedMs } = this.#parts;
    admission.nowMs = nowMs;
    admission.nowSec = 1 + Math.floor((nowMs - startedMs) / 1000);
    const ttlSec = options.keyTtlMs / 1000;
    const wallMs = this.#wallNow();
    this.beginDay(wallMs);
    tracker.tick(nowMs, ttlSec, wallMs);
    table.evict(SWEEP_STEPS, admission.nowSec, ttlSec, SWEEP_STEPS, admission.onEvict);
    if (nowMs - this.#reviewedMs < REVIEW_EVERY_MS) return;
    this.#reviewedMs = nowMs;
    admission.review();
  }

  #walkResource(at: Reader): number {
    const body = this.#body;
    this.#resource.read(body, at, this.#seeds);
    const { history, admission } = this.#parts;
    const { start, end } = this.#resource;
    history.note(this.#resource, admission, () => timeOfFirstPoint(body, start, end) ?? [0, 0]);
    let points = 0;
    const reader = new Reader().open(body, at.start, at.end);
    while (reader.next()) if (reader.field === 2 && reader.wire === 2) points += this.#walkScope(reader);
    return points;
  }

  #walkScope(at: Reader): number {
    const body = this.#body;
    this.#scope.read(body, at, this.#seeds);
    let points = 0;
    const reader = new Reader().open(body, at.start, at.end);
    while (reader.next()) {
      if (reader.field !== 2 || reader.wire !== 2) continue;
      this.#block.read(body, reader, this.#seeds);
      if (this.#block.kind !== 0) points += this.#walkMetric();
    }
    return points;
  }

  #walkMetric(): number {
    const { scanner, admission, table, tracker, changes } = this.#parts;
    const body = this.#body;
    const { sources } = tracker;
    const block = this.#block;
    const resource = this.#resource;
    const metric = this.#metrics.get(block.nameLo, block.nameHi, body, block.nameStart, block.nameEnd);
    block.metric = metric;
    this.#unknown = 0;
    admission.begin();
    const sampling = metric.sketching || admission.startSketching(metric);

    const context = this.#hash.set(resource.lo, resource.hi);
    context.add(this.#scope.lo, this.#scope.hi).add(block.lo, block.hi);
    block.contextLo = context.lo;
    const contextLo = context.lo >>> 0;
    const contextHi = (block.contextHi = context.hi);

    const { points } = scanner;
    const { nowSec, generationSec } = admission;
    const { mark } = this.daily;
    const found = this.#found;
    const { isCumulative } = block;
    // With delta temporality, metrics without decisions are rewritten too.
    const isPlain = metric.plain && !this.#routing.converts;
    const isTracked = !isPlain && isCumulative;
    const seed = this.#seeds.point;
    for (let from = block.dataStart; from < block.dataEnd; from = scanner.next) {
      const count = scanner.scan(body, from, block.dataEnd, block.attributesField, seed);
      const end = count * POINT_WORDS;
      for (let at = 0; at < end; at += POINT_WORDS) {
        if (points[at + 7] !== 0) scanner.resolve(at, body, block.attributesField, seed);
        const low = (points[at + 3]! >>> 0) + contextLo;
        points[at + 3] = low | 0;
        const hi = (points[at + 4]! + contextHi + (low > 0xffffffff ? 1 : 0)) | 0;
        points[at + 4] = hi;
        // Consecutive look-ups wait for memory at the same time. With stripped labels the original key is hardly ever needed,
        // but the source of a cumulative point is.
        if (isPlain) found[at / POINT_WORDS] = table.find(low | 0, hi);
        else if (isTracked) found[at / POINT_WORDS] = sources.find(low | 0, hi);
      }
      for (let at = 0; at < end; at += POINT_WORDS) {
        const lo = points[at + 3]!;
        const hi = points[at + 4]!;
        // The slow path keeps the attributes of one point only.
        if (points[at + 7] !== 0) scanner.resolve(at, body, block.attributesField, seed);
        if (isPlain) {
          const key = table.find(lo, hi, found[at / POINT_WORDS]!);
          if (key >= 0) {
            const seen = table.touch(key, nowSec);
            if (seen < generationSec) changes.touched(lo, hi, seen, isCumulative);
            if (mark !== table.mark(key)) this.daily.note(changes, metric, table, key, lo, hi);
            if (sampling) this.#sample(metric, at, KNOWN_WEIGHT);
            continue;
          }
        }
        this.#consider(metric, at, lo, hi, isTracked ? found[at / POINT_WORDS]! : -1);
      }
      block.points += count;
    }
    if (block.node) block.node.points = block.points;
    if (isCumulative && (admission.acts(metric) || this.daily.isNearlyUsedUp(metric)))
      changes.reliesOnRules = true;
    if (sampling) {
      if (this.#unknown > 0) admission.feed(metric, body, resource, this.#unknown);
      else if (this.#random.next() % KNOWN_WEIGHT === 0) {
        admission.feed(metric, body, resource, block.points * KNOWN_WEIGHT);
      }
    }
    return block.points;
  }

  /** Samples the labels of one in `weight` points, at random distances, so that no pattern of the producer matters. */
  #sample(metric: Metric, at: number, weight: number): void {
    if (--this.#untilSample > 0) return;
    this.#untilSample = 1 + (this.#random.next() % (2 * weight - 1));
    this.#parts.scanner.select(at);
    this.#parts.admission.feed(metric, this.#body, this.#parts.scanner, weight);
  }

  /** Handles a point of a new key-set, or of a metric with decisions. */
  #consider(metric: Metric, at: number, lo: number, hi: number, sourceAt: number): void {
    const scanner = this.#parts.scanner;
    scanner.select(at);
    if (metric.plain && sourceAt < 0) {
      this.#unknown++;
      // Points that are refused anyway are only sampled, to notice when the cause ends.
      if (metric.critical) this.#sample(metric, at, REFUSED_WEIGHT);
      else if (metric.sketching) this.#parts.admission.feed(metric, this.#body, scanner, 1);
    } else if (metric.sketching) this.#sample(metric, at, KNOWN_WEIGHT);

    const { points, base } = scanner;
    const point = this.#incoming;
    point.tagStart = points[at]! + base;
    point.start = points[at + 1]! + base;
    point.end = points[at + 2]! + base;
    point.fullLo = lo;
    point.fullHi = hi;
    point.sourceAt = sourceAt;
    point.wasForwarded = false;
    point.occurrence = -1;
    // Terminates: each round settles the point or strips another label from the metric.
    while (!this.#routing.settle(metric, point));
  }
}

/** Field and JSON of a metric's rule; empty JSON if it has none. */
function ruleTexts({ hash, sharedRule }: Metric): string[] {
  return [String(hash), sharedRule ? JSON.stringify(sharedRule) : ''];
}

/**
 * Time of the first point in a ResourceMetrics message.
 * @param depth 0: resource, 1: scope, 2: metric, 3: its data, 4: point
 */
function timeOfFirstPoint(
  body: Uint8Array,
  from: number,
  to: number,
  depth = 0,
): [number, number] | undefined {
  const reader = new Reader().open(body, from, to);
  while (reader.next()) {
    const { field, wire, start, end } = reader;
    if (depth === 4) {
      if (field === 3 && wire === 1) return [int32At(body, start), int32At(body, start + 4)];
      continue;
    }
    const isChild = depth === 2 ? field >= 5 && field <= 11 : field === (depth === 3 ? 1 : 2);
    const found = isChild && wire === 2 ? timeOfFirstPoint(body, start, end, depth + 1) : undefined;
    if (found) return found;
  }
  return undefined;
}
