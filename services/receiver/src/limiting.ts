import { randomBytes, randomInt } from 'node:crypto';
import { hostname } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import type { Config } from '@nrdot/config';
import {
  type ClaimAnswer,
  type Claimant,
  DailyState,
  type DailyStatus,
  type Lease,
  type LeftPoints,
  type LimiterClaim,
  LimiterState,
  type LimiterStatus,
  NAME_MAX,
  type PipelineState,
  type SharedState,
  type Store,
  TOP_LABELS,
} from '@nrdot/queue';
import type { Host } from '@nrdot/service';
import { alignedInterval } from '@nrdot/telemetry';
import { DailyBudget } from './daily-budget.ts';
import { type Limited, type LimitedPieces, unavailable } from './ingest.ts';
import {
  CardinalityLimiter,
  type Claim,
  completeOptions,
  type Decision,
  type Dropped,
  type LimiterOptions,
  type LimiterReport,
  ledgerSize,
  packSourceClaims,
  type SharedRule,
  type SourceClaim,
  sourceClaims,
} from './limiter/index.ts';

/** A slot whose receiver is not heard of for so long is given to another. */
const LEASE_MS = 15_000;
const RENEW_MS = 2_000;
/** Keys are told to Redis again in every span of `key_ttl` / 4, and forgotten once they were not for five. */
const GENERATIONS_PER_TTL = 4;
const GENERATIONS_KEPT = 5;
/** A source that has not reported for so long is forgotten. */
const SOURCE_TTL_SEC = 24 * 3600;
const MESSAGE_REASONS = 5;
const TOP = 20;
/** The first byte of an entry of the log that holds producers; the others hold keys. */
const PRODUCERS = 'p'.charCodeAt(0);
const WAITING = 'this receiver waits for Redis to learn the rules of the pipeline';

/** The limiter in its place: options, the state it shares with other receivers, metrics, the admin route, words for clients. */
export class Limiting implements SharedState {
  readonly #host: Host;
  readonly #shared: LimiterState;
  readonly #now: () => number;
  readonly daily: DailyBudget;
  /** The token that has a slot, or had it last. */
  #leasedToken: string | undefined;
  /** Of this receiver as a writer: with a new one no step that was sent before can happen any more. */
  #token = randomBytes(8).toString('hex');
  #options: LimiterOptions;
  /** Options that come into force when no request is open. */
  #nextOptions: LimiterOptions | undefined;
  #limiter: CardinalityLimiter | undefined;
  #lease: Lease | undefined;
  #version = '0';
  #log = 0;
  #generation = 0;
  #endRenewal: (() => void) | undefined;
  #renewing: Promise<void> | undefined;
  /** Requests that were kept so far. */
  #kept = 0;
  #news: News | undefined;
  /** Of how many pieces the requests are that are open, oldest first. */
  #sizes: number[] = [];
  /** What has to be caught up with before a request may rely on it. */
  #behind: 'all' | 'writer' | 'keys' | undefined = 'all';
  /** Merged points that waited with writers that are no more, and that nobody has sent yet. */
  #left: readonly LeftPoints[] = [];

  constructor(config: Config, host: Host, store: Store, now: () => number) {
    this.#host = host;
    this.#now = now;
    this.#options = completeOptions(optionsOf(config));
    this.#shared = new LimiterState(store.redis, {
      prefix: store.keys.prefix,
      holder: holderName(config.receiver.listen),
      leaseMs: LEASE_MS,
    });
    this.daily = new DailyBudget(
      new DailyState(store.redis, store.keys),
      () => this.#limiter,
      now,
      (error) => host.log.debug({ err: error.message }, 'series of the day wait to be counted'),
    );
    host.live.follow((next) => {
      const options = completeOptions(optionsOf(next));
      return () => {
        this.#nextOptions = options;
        this.#takeOptions();
      };
    });
    this.#publish();
    host.admin.route('GET', '/api/limiter', () => this.#report());
  }

  /** Learns the rules and keys of the pipeline, if Redis can be reached, and keeps its slot from then on. */
  async start(): Promise<void> {
    await this.#renew();
    this.#endRenewal = alignedInterval(() => void this.#renew(), RENEW_MS);
    this.daily.follow(this.#options.dailyKeys > 0);
  }

  async stop(): Promise<void> {
    this.#endRenewal?.();
    if (this.daily.isCounting) await this.daily.stop();
    // Merged points that could not be sent: who finds the lease expired sends them.
    if (this.#limiter && this.#limiter.holds > 0) return;
    if (this.#lease) await this.#shared.release().catch(() => {}); // it expires by itself
  }

  /**
   * Takes the points of one request. What it changes is open until it is kept or undone; they are counted when it is said that
   * the request was acknowledged.
   * @param isAlone it goes another way than through Redis
   * @throws OtlpError, retryable, while the rules of the pipeline are not known
   */
  limit(body: Buffer, isAlone = false): Limited {
    return this.#limit(body, isAlone, true);
  }

  /** @param isFirst false for a further piece of the same request */
  #limit(body: Buffer, isAlone: boolean, isFirst: boolean): Limited {
    this.#takeOver();
    const limiter = this.#limiter;
    if (!limiter || this.#behind === 'all') throw unavailable('limiter_starting', WAITING, 'nothing');
    this.#takeOptions();
    const { metrics } = this.#host;
    const startedAt = performance.now();
    // Until it is known as a writer, nobody would send what waits with it.
    const limited = limiter.process(body, isAlone || this.#behind === 'writer');
    this.#sizes.push(1);
    if (!isFirst) limited.totals.requests = 0;
    metrics.clLatencySeconds.observe((performance.now() - startedAt) / 1000);
    const { body: out, dropped, droppedPoints, aggregatedPoints, overflowPoints, claim } = limited;
    const movesSources = claim.sources.length > 0 || claim.levels.length > 0;
    if (movesSources && this.#behind === 'writer') {
      this.undoLast();
      throw unavailable('no_writer', 'this receiver waits for Redis to merge cumulative points', 'nothing');
    }
    return {
      body: out === body ? body : Buffer.from(out.buffer, out.byteOffset, out.byteLength),
      dropped: droppedPoints,
      message: droppedPoints > 0 ? explain(dropped) : '',
      needsLedger: movesSources || claim.reliesOnRules,
      isHeld: claim.held.length > 0 || claim.sendsHeld,
      claim: { claim: sharedClaim(claim), claimant: this.#claimant() },
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

  /** The same for a request in pieces, between which others have their turn: it stands or falls as one. */
  async limitPieces(pieces: readonly Buffer[]): Promise<LimitedPieces> {
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
      bodies: all.map(({ body }) => body),
      isChanged: all.some(({ body }, i) => body !== pieces[i]),
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

  /** Whether merged points wait with this receiver that are due. */
  get isHeldDue(): boolean {
    return this.#behind === undefined && this.#limiter !== undefined && this.#limiter.isHeldDue;
  }

  /** Makes all merged points due that wait with this receiver. */
  sendHeld(): void {
    this.#limiter?.sendHeld();
  }

  get left(): readonly LeftPoints[] {
    return this.#left;
  }

  /** Merged points that a writer left behind, as a request to be sent once, by whichever receiver is first. */
  async limitLeft(name: LeftPoints): Promise<() => Limited> {
    const points = await this.#shared.leftPoints(name);
    return () => {
      const isThere = points.length > 0 && this.#left.includes(name);
      this.#sizes.push(0);
      return {
        body: isThere ? Buffer.concat(points) : Buffer.alloc(0),
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
    // What was undone may be true: this writer's streams end here, and new ones begin.
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
        this.#left = []; // the next renewal tells what there is
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
    await this.#renewing; // it may be of the writer before this one
    this.#takeOver();
    if (this.#behind) await this.#renew();
  }

  #report(): LimiterAnswer | { waiting: string } {
    if (!this.#limiter) return { waiting: WAITING };
    const daily = this.daily.status();
    return { ...this.#limiter.report(TOP), ...(daily ? { daily } : {}) };
  }

  /** For the console: in short. */
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

  /**
   * Asks Redis for what this receiver is behind with, and keeps its slot. One at a time: what an earlier one read must not be taken
   * over after what a later one did.
   */
  #renew(): Promise<void> {
    this.#renewing ??= this.#renewOnce().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renewOnce(): Promise<void> {
    try {
      const news = await this.#ask();
      if (news.token !== this.#token) return; // it speaks of a writer that this receiver is no longer
      this.#news = news;
    } catch (error) {
      // It goes on with what it has.
      this.#host.log.debug({ err: (error as Error).message }, 'the slot of the limiter was not renewed');
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
    // A ledger that runs full forgets earlier.
    const isCrowded = (before?.state.sources ?? 0) > 0.75 * ledgerSize(this.#options.maxKeys);
    const sourceTtlSec = isCrowded ? this.#options.keyTtlMs / 1000 : SOURCE_TTL_SEC;
    const begin = {
      epoch: randomBytes(8).toString('hex'),
      seed: before?.seed ?? randomInt(2 ** 31),
      watchMs: before?.watchMs ?? Math.floor(nowMs),
      generation,
      generationsKept: GENERATIONS_KEPT,
      sourcesSinceSec: Math.floor(nowMs / 1000 - sourceTtlSec),
      log: this.#log,
      maxKeys: this.#options.maxKeys,
    };
    let token = this.#token;
    const wasLeased = token === this.#leasedToken;
    let lease = await shared.lease(token, wasLeased, begin);
    if (lease.isNew && wasLeased) {
      // Claims that are under way must not hold under the new lease.
      this.lost();
      token = this.#token;
      lease = await shared.lease(token, false, begin);
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

  /** Takes over what Redis said, once no request is open: until then the next turn does it. */
  #takeOver(): void {
    const news = this.#news;
    if (!news || (this.#limiter && this.#limiter.openRequests > 0)) return;
    this.#news = undefined;
    const { lease, generation } = news;
    this.#lease = lease;
    // A step that was under way may have changed them since they were read.
    const levels = news.kept === this.#kept ? news.levels : undefined;
    this.#limiter ??= new CardinalityLimiter(this.#options, {
      now: this.#now,
      seed: lease.seed,
      watchMs: lease.watchMs,
      onDecision: (decision) => {
        this.#host.log.debug({ decision }, 'the limiter decided');
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
      limiter.sendHeld();
    }
    if (news.keys) limiter.learnKeys(news.keys);
    if (news.producers) limiter.learnProducers(news.producers);
    if (news.rules) this.#learnRules(lease.state.version, news.rules);
    if (levels) {
      const startMs = Math.max(this.#now(), lease.writtenMs + 1);
      limiter.beginWriter(lease.slot, startMs, lease.levelsSinceMs, levels);
      // What waited with this receiver was set aside when its token changed: it is among what writers left behind.
      if (!limiter.holdsAlone) limiter.forgetHeld();
    }
    this.#left = lease.left;
    // A Redis that has come back as it was some time ago holds other points: those are the ones that wait.
    const isSame = lease.held === limiter.holds || limiter.holdsAlone || news.kept !== this.#kept;
    if (!isSame && !levels && this.#behind === undefined) this.lost();
    // Rules that others have changed since are learned when they stand against a claim.
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

  /** Puts new options in force, once no request is open. */
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
        this.#host.log.warn({ field, json }, 'a rule of the limiter in Redis is malformed and is left out');
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
    // Of two with the same beginning of a name the larger one, which comes first, is shown.
    for (const { metric, keys, forecast } of daily?.metrics.toReversed() ?? []) {
      clDailyKeys.set({ metric }, keys);
      if (forecast !== undefined) clDailyKeysForecast.set({ metric }, forecast);
    }
  }
}

/** What `GET /api/limiter` answers. */
export type LimiterAnswer = LimiterReport & { daily?: DailyStatus };

/** What Redis said, to be taken over between two requests. */
interface News {
  lease: Lease;
  /** Of the writer that it is about. */
  token: string;
  generation: number;
  /** Redis has lost what it knew. */
  hasForgotten: boolean;
  /** Requests that were kept when it was read. */
  kept: number;
  keys?: Buffer;
  producers?: Buffer;
  rules?: Map<string, string>;
  levels?: Map<string, Buffer>;
}

function sharedClaim({ sendsHeld, ...claim }: Claim): LimiterClaim {
  return {
    ...claim,
    sends: sendsHeld ? 'own' : undefined,
    levels: claim.levels.flatMap(({ field, value }) => [field, value]),
    rules: claim.rules.flatMap(({ field, rule }) => [field, rule ? JSON.stringify(rule) : '']),
  };
}

/** The claims of the pieces of one request, in order, as one: of what several move, the first knows what was, the last what is. */
function joinedClaim(claims: readonly LimiterClaim[]): LimiterClaim {
  const bytes = (of: (claim: LimiterClaim) => Buffer) => Buffer.concat(claims.map(of));
  const sources = new Map<string, SourceClaim>();
  const levels = new Map<string, [field: Buffer, value: Buffer]>();
  const rules = new Map<string, string>();
  let held = new Map<string, [field: Buffer, value: Buffer]>();
  for (const claim of claims) {
    // The step takes out what goes with the request before it writes what waits.
    if (claim.sends) held = new Map();
    for (let i = 0; i < claim.held.length; i += 2)
      held.set(claim.held[i]!.toString('latin1'), [claim.held[i]!, claim.held[i + 1]!]);
    for (const { field, expected, value } of sourceClaims(claim.sources)) {
      const name = field.toString('latin1');
      sources.set(name, { field, expected: sources.get(name)?.expected ?? expected, value });
    }
    for (let i = 0; i < claim.levels.length; i += 2)
      levels.set(claim.levels[i]!.toString('latin1'), [claim.levels[i]!, claim.levels[i + 1]!]);
    for (let i = 0; i < claim.rules.length; i += 2) rules.set(claim.rules[i]!, claim.rules[i + 1]!);
  }
  return {
    hasRefused: claims.some(({ hasRefused }) => hasRefused),
    keys: bytes(({ keys }) => keys),
    remembered: bytes(({ remembered }) => remembered),
    gone: bytes(({ gone }) => gone),
    counting: bytes(({ counting }) => counting),
    neverForwarded: Math.max(0, ...claims.map(({ neverForwarded }) => neverForwarded)),
    forwarded: bytes(({ forwarded }) => forwarded),
    producers: bytes(({ producers }) => producers),
    sources: packSourceClaims([...sources.values()]),
    levels: [...levels.values()].flat(),
    rules: [...rules].flat(),
    held: [...held.values()].flat(),
    sends: claims.find(({ sends }) => sends)?.sends,
    writtenMs: Math.max(0, ...claims.map(({ writtenMs }) => writtenMs)),
  };
}

/** Anybody with access to Redis can write there. */
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

function optionsOf({ limiter: { mode, ...options } }: Config): Partial<LimiterOptions> {
  return { ...options, mode: mode === 'observe' ? 'observe' : 'enforce' };
}

/** Names come from clients, and are as long as those like. */
function decisionText({ metric, label, kind, why, enforced }: Decision): string {
  const short = (name: string) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX)}…` : name);
  const what = label
    ? `${kind}: label "${short(label)}" of "${short(metric)}"`
    : `${kind}: "${short(metric)}"`;
  return `The limiter ${enforced ? 'decided' : 'would decide (it only observes)'} ${what}; ${why}.`;
}

/** What the client is told about points that were dropped. */
function explain(dropped: readonly Dropped[]): string {
  const shown = dropped
    .slice(0, MESSAGE_REASONS)
    .map(
      ({ metric, label, reason, count }) => `${count} of ${metric} (${reason}${label ? `: ${label}` : ''})`,
    );
  const more = dropped.length > MESSAGE_REASONS ? `, and ${dropped.length - MESSAGE_REASONS} more` : '';
  return `the cardinality limiter dropped points: ${shown.join(', ')}${more}`;
}

/** The same after a restart, so that a receiver takes up its own slot again. */
function holderName({ port }: { port: number }): string {
  return `${hostname()}:${port === 0 ? `any:${process.pid}` : port}`;
}
