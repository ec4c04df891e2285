import { randomBytes, randomInt } from 'node:crypto';
import { hostname } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import type { Config } from '@nrdot/config';
import {
  type ClaimAnswer,
  type Claimant,
  DailyState,
  type Lease,
  type LeftPoints,
  LimiterState,
  type PipelineState,
} from '@nrdot/key-budget';
import { asBuffer } from '@nrdot/otlp';
import type { SharedState, Store } from '@nrdot/queue';
import type { Host } from '@nrdot/service';
import { type DailyStatus, type LimiterStatus, NAME_MAX, TOP_LABELS } from '@nrdot/status';
import { alignedInterval, oneRun } from '@nrdot/telemetry';
import { DailyBudget } from './daily-budget.ts';
import { type Limited, unavailable } from './ingest.ts';
import {
  CardinalityLimiter,
  type Decision,
  type Dropped,
  joinedClaim,
  type LimiterOptions,
  type LimiterReport,
  ledgerSize,
  type SharedRule,
} from './limiter/index.ts';

/** After so long without renewal, a receiver's slot is free for others. */
const LEASE_MS = 15_000;
const RENEW_MS = 2_000;
/** Keys are reported to Redis again in every span of `key_ttl` / 4, and expire after five spans without a report. */
const GENERATIONS_PER_TTL = 4;
const GENERATIONS_KEPT = 5;
/** A source expires after so long without a point. */
const SOURCE_TTL_SEC = 24 * 3600;
const MESSAGE_REASONS = 5;
const TOP = 20;
/** First byte of log entries that hold producers; all others hold keys. */
const PRODUCERS = 'p'.charCodeAt(0);
const WAITING = 'this receiver is waiting to read the rules of the pipeline from Redis';

/** Integrates the limiter: options, the state shared with other receivers, metrics, the admin route, messages for clients. */
export class Limiting implements SharedState {
  readonly #host: Host;
  readonly #shared: LimiterState;
  readonly #timed: Store['timed'];
  readonly #now: () => number;
  readonly #wallNow: () => number;
  readonly daily: DailyBudget;
  /** The token that has a slot, or had it last. */
  #leasedToken: string | undefined;
  /** Identifies this receiver as a writer: after a change, steps that were sent with the old one can no longer take effect. */
  #token = randomBytes(8).toString('hex');
  #options: LimiterOptions;
  /** Options that take effect once no request is open. */
  #nextOptions: LimiterOptions | undefined;
  #limiter: CardinalityLimiter | undefined;
  #lease: Lease | undefined;
  #version = '0';
  #log = 0;
  #generation = 0;
  #endRenewal: (() => void) | undefined;
  /** Number of requests kept so far. */
  #kept = 0;
  #news: News | undefined;
  /** Number of pieces of each open request, oldest first. */
  #sizes: number[] = [];
  /** What must be read from Redis before a request may rely on it. */
  #behind: 'all' | 'writer' | 'keys' | undefined = 'all';
  /** Deferred points that former writers left behind and nobody has sent yet. */
  #left: readonly LeftPoints[] = [];

  /**
   * @param now steady, for leases and expiry; Unix ms
   * @param wallNow for times that others read
   */
  constructor(config: Config, host: Host, store: Store, now: () => number, wallNow = now) {
    this.#host = host;
    this.#now = now;
    this.#wallNow = wallNow;
    this.#options = optionsOf(config);
    this.#timed = store.timed.bind(store);
    this.#shared = new LimiterState(store.redis, {
      prefix: store.keys.prefix,
      holder: holderName(config.receiver.listen),
      leaseMs: LEASE_MS,
    });
    this.daily = new DailyBudget(
      new DailyState(store.redis, store.keys),
      () => this.#limiter,
      wallNow,
      (error) => host.log.debug({ err: error.message }, 'could not count daily series yet'),
    );
    host.live.follow((next) => {
      const options = optionsOf(next);
      return () => {
        this.#nextOptions = options;
        this.#takeOptions();
      };
    });
    this.#publish();
    host.admin.route('GET', '/api/limiter', () => this.#report());
  }

  /** Reads the shared rules and keys, if Redis can be reached, and renews the slot from then on. */
  async start(): Promise<void> {
    await this.#renew();
    this.#endRenewal = alignedInterval(() => void this.#renew(), RENEW_MS);
    this.daily.follow(this.#options.dailyKeys > 0);
  }

  async stop(): Promise<void> {
    this.#endRenewal?.();
    if (this.daily.isCounting) await this.daily.stop();
    // Points that could not be sent: keep the lease, so that whoever finds it expired sends them.
    if (this.#limiter && !this.#limiter.held.isEmpty) return;
    if (this.#lease) await this.#shared.release().catch(() => {}); // otherwise it expires
  }

  /**
   * Limits the points of one request. Its changes stay revocable until they are kept or undone; they are counted when the
   * request is acknowledged.
   * @param isAlone it does not go through Redis
   * @throws OtlpError, retryable, while the shared rules are unknown
   */
  limit(body: Buffer, isAlone = false): Limited {
    return this.#limit(body, isAlone, true);
  }

  /** @param isFirst false for further pieces of the same request */
  #limit(body: Buffer, isAlone: boolean, isFirst: boolean): Limited {
    this.#takeOver();
    const limiter = this.#limiter;
    if (!limiter || this.#behind === 'all') throw unavailable('limiter_starting', WAITING, 'nothing');
    this.#takeOptions();
    const { metrics } = this.#host;
    const startedAt = performance.now();
    // Do not defer points before this receiver is registered as a writer: nobody would send them.
    const limited = limiter.process(body, isAlone || this.#behind === 'writer');
    this.#sizes.push(1);
    if (!isFirst) limited.totals.requests = 0;
    metrics.clLatencySeconds.observe((performance.now() - startedAt) / 1000);
    const { body: out, dropped, droppedPoints, aggregatedPoints, overflowPoints, claim } = limited;
    const movesSources = claim.sources.length > 0 || claim.levels.length > 0;
    if (movesSources && this.#behind === 'writer') {
      this.undoLast();
      throw unavailable(
        'no_writer',
        'this receiver is waiting for Redis before it can merge cumulative points',
        'nothing',
      );
    }
    return {
      bodies: [out === body ? body : asBuffer(out)],
      isChanged: out !== body,
      dropped: droppedPoints,
      message: droppedPoints > 0 ? explain(dropped) : '',
      needsLedger: movesSources || claim.reliesOnRules,
      isHeld: claim.held.length > 0 || claim.sends !== undefined,
      claim: { claim, claimant: this.#claimant() },
      undo: () => this.undoLast(),
      wentElsewhere: () => limiter.learnUntold(Buffer.concat([claim.keys, claim.remembered])),
      count: () => {
        limiter.count(limited);
        for (const { reason, count } of dropped) metrics.clDroppedSamples.inc({ reason }, count);
        if (aggregatedPoints > 0) metrics.clAggregatedSamples.inc(aggregatedPoints);
        if (overflowPoints > 0) metrics.clOverflowSamples.inc(overflowPoints);
        if (limited.unknownPoints > 0) metrics.clUnknownHistorySamples.inc(limited.unknownPoints);
        if (limited.skewedPoints > 0) metrics.clSkewedSamples.inc(limited.skewedPoints);
      },
    };
  }

  /** `limit` for a request in pieces, accepted or rejected as a whole; other work runs between them. */
  async limitPieces(pieces: readonly Buffer[]): Promise<Limited> {
    const all: Limited[] = [];
    try {
      for (const piece of pieces) {
        all.push(this.#limit(piece, false, all.length === 0));
        await turn();
      }
    } catch (error) {
      for (const { undo } of all.reverse()) undo();
      throw error;
    }
    const sizes = this.#sizes.splice(this.#sizes.length - all.length);
    this.#sizes.push(sizes.length);
    const { claimant } = all[0]!.claim!;
    return {
      bodies: all.flatMap(({ bodies }) => bodies),
      isChanged: all.some(({ isChanged }) => isChanged),
      dropped: all.reduce((sum, { dropped }) => sum + dropped, 0),
      message: all.find(({ message }) => message !== '')?.message ?? '',
      needsLedger: all.some(({ needsLedger }) => needsLedger),
      isHeld: all.some(({ isHeld }) => isHeld),
      claim: { claim: joinedClaim(all.map(({ claim }) => claim!.claim)), claimant },
      undo: () => this.undoLast(),
      wentElsewhere: () => {
        for (const one of all) one.wentElsewhere();
      },
      count: () => {
        for (const one of all) one.count();
      },
    };
  }

  /** Whether points deferred by this receiver are due. */
  get isHeldDue(): boolean {
    return this.#behind === undefined && this.#limiter !== undefined && this.#limiter.isHeldDue;
  }

  /** Makes all points deferred by this receiver due. */
  sendHeld(): void {
    this.#limiter?.held.hurry();
  }

  get left(): readonly LeftPoints[] {
    return this.#left;
  }

  /** Points that a former writer left behind, as a request; whichever receiver is first sends it, once. */
  async limitLeft(name: LeftPoints): Promise<() => Limited> {
    const points = await this.#shared.leftPoints(name);
    return () => {
      const isThere = points.length > 0 && this.#left.includes(name);
      this.#sizes.push(0);
      return {
        bodies: [isThere ? Buffer.concat(points) : Buffer.alloc(0)],
        isChanged: true,
        dropped: 0,
        message: '',
        needsLedger: false,
        isHeld: true,
        claim: {
          claim: { ...joinedClaim([]), sends: isThere ? name : undefined },
          claimant: this.#claimant(),
        },
        undo: () => this.undoLast(),
        wentElsewhere: () => {},
        count: () => {
          this.#left = this.#left.filter((left) => left !== name);
        },
      };
    };
  }

  keep(answer: ClaimAnswer | undefined): void {
    this.#kept++;
    for (let left = this.#sizes.shift() ?? 0; left > 0; left--) this.#limiter?.keep();
    if (answer?.kind === 'kept') this.#learnState(answer.state);
    this.daily.refresh();
  }

  undo(): void {
    this.#sizes = [];
    this.#limiter?.undo();
  }

  undoLast(): void {
    this.#limiter?.undo(this.#sizes.pop() ?? 0);
  }

  lost(): void {
    // The outcome of a commit is unknown: what was undone here may be in Redis. Continue as a new writer with new streams.
    if (this.#behind !== 'all') this.#behind = 'writer';
    this.#token = randomBytes(8).toString('hex');
  }

  async learn(answer: ClaimAnswer): Promise<void> {
    const limiter = this.#limiter!;
    switch (answer.kind) {
      case 'sources':
        for (const [field, value] of answer.sources) limiter.learnSource(field, value);
        return;
      case 'forwarded':
        limiter.learnForwarded(answer.fields);
        return;
      case 'rules':
        this.#learnRules(answer.version, answer.rules);
        return;
      case 'keys':
      case 'full':
        this.#learnState(answer.state);
        await this.catchUp();
        return;
      case 'writer':
        this.lost();
        await this.catchUp();
        return;
      case 'sent':
        this.#left = []; // the next renewal lists what is left
        return;
      case 'epoch':
        this.#behind = 'all';
        await this.catchUp();
        return;
    }
  }

  async catchUp(): Promise<void> {
    this.#takeOver();
    if (!this.#behind) return;
    await this.#renew.current; // a renewal in flight may be for the previous token
    this.#takeOver();
    if (this.#behind) await this.#renew();
  }

  #report(): LimiterAnswer | { waiting: string } {
    if (!this.#limiter) return { waiting: WAITING };
    const daily = this.daily.status();
    return { ...this.#limiter.report(TOP), ...(daily ? { daily } : {}) };
  }

  /** Summary for the console. */
  status(): LimiterStatus | undefined {
    if (!this.#limiter) return undefined;
    const daily = this.daily.status();
    const { mode, keysUsed, keysLimit, maxKeys, totals, topLabels } = this.#limiter.report(TOP_LABELS);
    return {
      mode,
      keysUsed,
      keysLimit,
      maxKeys,
      points: totals.points,
      droppedPoints: Object.values(totals.dropped).reduce((sum, points) => sum + points, 0),
      aggregatedPoints: totals.aggregated,
      overflowPoints: totals.overflow,
      topLabels: topLabels.map(({ metric, label, score, bits, removed, isProtected }) => ({
        metric: metric.slice(0, NAME_MAX),
        label: label.slice(0, NAME_MAX),
        score,
        bits,
        state: removed ? 'removed' : isProtected ? 'protected' : 'kept',
      })),
      ...(daily ? { daily } : {}),
    };
  }

  #claimant(): Claimant {
    const { epoch, slot } = this.#lease!;
    return {
      epoch,
      version: this.#version,
      log: this.#log,
      slot,
      token: this.#token,
      maxKeys: this.#options.maxKeys,
      generation: this.#generation,
      generationsKept: GENERATIONS_KEPT,
    };
  }

  /** Reads what is missing and renews the slot. One at a time: no answer is applied after a later one. */
  readonly #renew = oneRun(() => this.#renewOnce());

  async #renewOnce(): Promise<void> {
    try {
      const news = await this.#ask();
      if (news.token !== this.#token) return; // about a writer that this receiver no longer is
      this.#news = news;
    } catch (error) {
      // Go on with the current state.
      this.#host.log.debug({ err: (error as Error).message }, 'could not renew the slot of the limiter');
      return;
    }
    this.#takeOver();
  }

  async #ask(): Promise<News> {
    const shared = this.#shared;
    const before = this.#lease;
    const limiter = this.#limiter;
    const nowMs = this.#now();
    const generation = Math.floor((nowMs * GENERATIONS_PER_TTL) / this.#options.keyTtlMs);
    // If the ledger is nearly full, let sources expire earlier.
    const isCrowded = (before?.state.sources ?? 0) > 0.75 * ledgerSize(this.#options.maxKeys);
    const sourceTtlSec = isCrowded ? this.#options.keyTtlMs / 1000 : SOURCE_TTL_SEC;
    const begin = {
      epoch: randomBytes(8).toString('hex'),
      seed: before?.seed ?? randomInt(2 ** 31),
      watchMs: before?.watchMs ?? Math.floor(this.#wallNow()),
      generation,
      generationsKept: GENERATIONS_KEPT,
      sourcesSinceSec: Math.floor(nowMs / 1000 - sourceTtlSec),
      log: this.#log,
      maxKeys: this.#options.maxKeys,
    };
    let token = this.#token;
    const wasLeased = token === this.#leasedToken;
    let lease = await this.#timed('lease', shared.lease(token, wasLeased, begin));
    if (lease.isNew && wasLeased) {
      // Claims in flight must not hold under the new lease.
      this.lost();
      token = this.#token;
      lease = await this.#timed('lease', shared.lease(token, false, begin));
    }
    this.#leasedToken = token;
    const hasForgotten = before !== undefined && before.epoch !== lease.epoch;
    if (hasForgotten) this.#behind = 'all';
    if (lease.isNew && this.#behind !== 'all') this.#behind = 'writer';
    const behind = lease.state.missed && !this.#behind ? 'keys' : this.#behind;
    const news: News = { lease, token, generation, hasForgotten, kept: this.#kept };
    if (hasForgotten && limiter) await shared.restore(limiter.sources(), lease.slot, limiter.levels());
    if (behind === 'all' || behind === 'keys')
      [news.keys, news.producers] = await Promise.all([shared.keys(), shared.producers()]);
    if (behind === 'all') news.rules = await shared.rules();
    if (behind === 'all' || behind === 'writer') news.levels = await shared.levels(lease.slot);
    return news;
  }

  /** Applies what was read, once no request is open; otherwise the next turn does. */
  #takeOver(): void {
    const news = this.#news;
    if (!news || (this.#limiter && this.#limiter.openRequests > 0)) return;
    this.#news = undefined;
    const { lease, generation } = news;
    this.#lease = lease;
    // A step in flight may have changed the levels since they were read.
    const levels = news.kept === this.#kept ? news.levels : undefined;
    this.#limiter ??= new CardinalityLimiter(this.#options, {
      now: this.#now,
      wallNow: this.#wallNow,
      seed: lease.seed,
      watchMs: lease.watchMs,
      onDecision: (decision) => {
        this.#host.log.debug({ decision }, 'decision of the limiter');
        this.#host.transitions.happened('limiter_policy', decisionText(decision));
      },
    });
    const limiter = this.#limiter;
    limiter.watchMs = lease.watchMs;
    if (generation !== this.#generation) {
      this.#generation = generation;
      limiter.beginGeneration();
    }
    if (news.hasForgotten) {
      limiter.tellRulesAgain();
      limiter.beginGeneration();
      limiter.daily.countAgain();
      limiter.held.hurry();
    }
    if (news.keys) limiter.learnKeys(news.keys);
    if (news.producers) limiter.learnProducers(news.producers);
    if (news.rules) this.#learnRules(lease.state.version, news.rules);
    if (levels) {
      const startMs = Math.max(this.#wallNow(), lease.writtenMs + 1);
      limiter.beginWriter(lease.slot, startMs, lease.levelsSinceMs, levels);
      // When the token changed, Redis moved our deferred points to those left behind: our copy would be sent twice.
      if (!limiter.held.isHurried) limiter.held.forget();
    }
    this.#left = lease.left;
    // If Redis holds other deferred points than this receiver (it was restored from an older state), Redis is right.
    const { size, isHurried } = limiter.held;
    const isSame = lease.held === size || isHurried || news.kept !== this.#kept;
    if (!isSame && !levels && this.#behind === undefined) this.lost();
    // Rules that others change from now on are learned when they refuse a claim.
    const version = this.#version;
    const isCaughtUp =
      (this.#behind !== 'all' || (news.rules !== undefined && levels !== undefined)) &&
      (this.#behind !== 'writer' || levels !== undefined);
    if (isCaughtUp) {
      if (this.#behind === 'all')
        this.#host.log.info({ slot: lease.slot }, 'the limiter knows the rules of the pipeline');
      this.#behind = undefined;
    }
    const { state } = lease;
    this.#learnState(news.keys ? { ...state, missed: false, entries: [] } : state);
    this.#version = version;
  }

  /** Applies new options, once no request is open. */
  #takeOptions(): void {
    if (!this.#nextOptions || (this.#limiter?.openRequests ?? 0) > 0) return;
    this.#options = this.#nextOptions;
    this.#nextOptions = undefined;
    this.#limiter?.configure(this.#options);
    this.daily.follow(this.#options.dailyKeys > 0);
  }

  #learnRules(version: string, rules: ReadonlyMap<string, string>): void {
    this.#version = version;
    const known = new Map<string, SharedRule>();
    for (const [field, json] of rules) {
      const rule = ruleOf(json);
      if (rule) known.set(field, rule);
      else
        this.#host.log.warn({ field, json }, 'a rule of the limiter in Redis is malformed and was ignored');
    }
    this.#limiter?.learnRules(known);
  }

  #learnState(state: PipelineState): void {
    const limiter = this.#limiter!;
    this.#version = state.version;
    limiter.learnTotals(state.keys, state.sources);
    if (state.missed) {
      this.#behind ??= 'keys';
      return;
    }
    for (const entry of state.entries) {
      if (entry[0] === PRODUCERS) limiter.learnProducers(entry.subarray(1));
      else limiter.learnKeys(entry.subarray(1));
    }
    this.#log = state.log;
  }

  #publish(): void {
    const { registry, metrics } = this.#host;
    const seen = { keys: 0, sources: 0, outputs: 0, metrics: 0 };
    registry.onScrape(() => {
      if (!this.#limiter) return;
      metrics.clKeysUsed.set(this.#limiter.keysUsed);
      metrics.clKeysLimit.set(this.#limiter.keysLimit);
      this.#publishDaily();
      const { evictions } = this.#limiter.report(0);
      for (const table of Object.keys(seen) as (keyof typeof seen)[]) {
        metrics.clEvictions.inc({ table }, evictions[table] - seen[table]);
        seen[table] = evictions[table];
      }
    });
  }

  #publishDaily(): void {
    const { clDailyKeys, clDailyKeysForecast, clDailyKeysAll, clDailyKeysLimit } = this.#host.metrics;
    const daily = this.daily.status();
    clDailyKeys.reset();
    clDailyKeysForecast.reset();
    clDailyKeysLimit.set(daily?.limit ?? 0);
    clDailyKeysAll.set(daily?.sum ?? 0);
    // If two names have the same beginning, the larger metric, which comes first, is shown.
    for (const { metric, keys, forecast } of daily?.metrics.toReversed() ?? []) {
      clDailyKeys.set({ metric }, keys);
      if (forecast !== undefined) clDailyKeysForecast.set({ metric }, forecast);
    }
  }
}

/** Answer of `GET /api/limiter`. */
export type LimiterAnswer = LimiterReport & { daily?: DailyStatus };

/** Result of a renewal, to be applied between two requests. */
interface News {
  lease: Lease;
  /** Token of the writer that it is about. */
  token: string;
  generation: number;
  /** Redis has lost its data. */
  hasForgotten: boolean;
  /** Number of requests kept when it was read. */
  kept: number;
  keys?: Buffer;
  producers?: Buffer;
  rules?: Map<string, string>;
  levels?: Map<string, Buffer>;
}

/** Validates a rule from Redis, where others may have written it. */
function ruleOf(json: string): SharedRule | undefined {
  try {
    const { metric, point, resource, counts } = JSON.parse(json) as Partial<SharedRule>;
    const areTexts = (all: unknown): all is string[] =>
      Array.isArray(all) && all.every((one) => typeof one === 'string');
    if (typeof metric !== 'string' || !areTexts(point) || !areTexts(resource)) return undefined;
    return { metric, point, resource, counts: counts === true };
  } catch {
    return undefined;
  }
}

function optionsOf({ limiter: { mode, ...options } }: Config): LimiterOptions {
  return { ...options, mode: mode === 'observe' ? 'observe' : 'enforce' };
}

/** Names come from clients and may be long. */
function decisionText({ metric, label, kind, why, enforced }: Decision): string {
  const short = (name: string) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX)}…` : name);
  const what = label
    ? `${kind}: label "${short(label)}" of "${short(metric)}"`
    : `${kind}: "${short(metric)}"`;
  return `The limiter ${enforced ? 'decided' : 'would decide (it only observes)'} ${what}; ${why}.`;
}

/** The client's message about dropped points. */
function explain(dropped: readonly Dropped[]): string {
  const shown = dropped
    .slice(0, MESSAGE_REASONS)
    .map(
      ({ metric, label, reason, count }) => `${count} of ${metric} (${reason}${label ? `: ${label}` : ''})`,
    );
  const more = dropped.length > MESSAGE_REASONS ? `, and ${dropped.length - MESSAGE_REASONS} more` : '';
  return `the cardinality limiter dropped points: ${shown.join(', ')}${more}`;
}

/** The same after a restart, so that a receiver gets its own slot back. */
function holderName({ port }: { port: number }): string {
  return `${hostname()}:${port === 0 ? `any:${process.pid}` : port}`;
}
