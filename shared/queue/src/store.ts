import { Cluster, type Redis } from 'ioredis';
import { type Batch, type BatchRef, type JobData, jobDataOf, type Origin } from './batch.ts';
import type { Bells } from './bell.ts';
import { type Accounting, accountingOf, type DiskItems } from './books.ts';
import type { RedisConnection } from './connection.ts';
import {
  classQueue,
  DEPTH_FIELDS,
  depthField,
  type Keys,
  keysOf,
  type QueueName,
  STAGES,
  type Stage,
} from './keys.ts';
import { CLASSES, type PriorityClass } from './priority-class.ts';
import { onReplicas, type ReplicaOptions } from './replicas.ts';
import { book } from './scripts/book.ts';
import { drain } from './scripts/drain.ts';
import { enqueue } from './scripts/enqueue.ts';
import { handOver } from './scripts/hand-over.ts';
import { leave } from './scripts/leave.ts';
import { move } from './scripts/move.ts';
import { inOneSlot } from './scripts/one-slot.ts';
import { forgetOutcomes, readOutcomes } from './scripts/outcomes.ts';
import { publish } from './scripts/publish.ts';
import { report } from './scripts/report.ts';
import { settle } from './scripts/settle.ts';
import { take } from './scripts/take.ts';
import { type ProcessStatus, STATUS_COUNTS_MS } from './status.ts';

/**
 * What became of a batch: it waits in its queue, was there before, went to the spill queue; or it was not kept: its
 * payload was gone, there is no room by the limits of the queue, or Redis has no memory for it. `taken`: it went past the
 * queues to the exporter of this process.
 */
export type EnqueueResult = 'queued' | 'held' | 'spilled' | 'taken' | 'lost' | 'full' | 'no_memory';
/** As numbered by the script; the last is never its answer. */
const ENQUEUE_RESULTS: EnqueueResult[] = ['queued', 'held', 'lost', 'full', 'spilled', 'taken', 'no_memory'];
const TAKEN = ENQUEUE_RESULTS.indexOf('taken') + 1;
const NO_MEMORY = ENQUEUE_RESULTS.indexOf('no_memory') + 1;

/**
 * How long an unclaimed payload lives. It becomes permanent in the same step as its job appears, a few ms later;
 * what a kill in between leaves behind expires by itself. Long enough for any stall that a client waits out.
 */
const UNCLAIMED_PAYLOAD_TTL_S = 600;

/** How long what a process said about itself is kept after its last word. */
const STATUS_KEPT_MS = 60_000;

/**
 * Options stored with every job. Attempts are without limit here: the exporter decides when a batch has been tried
 * often enough, and hands it over itself. `backoff` names the exporter's own strategy.
 */
const JOB_OPTIONS = JSON.stringify({
  attempts: 1_000_000_000,
  backoff: { type: 'retry' },
  removeOnComplete: true,
  stackTraceLimit: 0,
});

export interface StoreOptions {
  /** Contains a hash tag, such as `{nrdot}`. */
  prefix: string;
  maxBytes: number;
  maxItems: number;
  /** What the queue of one class may hold of that; undefined: no limit of its own. */
  perClass?: Readonly<Record<PriorityClass, ClassCapacity>>;
  /** Fill (0 to 1) at which new arrivals of the lowest class spill, and how far it must fall for that to end. */
  spillAt: number;
  spillHysteresis: number;
  breaker: BreakerOptions;
  /** How much the export queue may hold when a batch goes straight to an exporter; without it none does. */
  exportWindow?: { batches: number; bytes: number };
  /** For a Redis with replicas that may be promoted: whoever is told that something is kept may rely on it then too. */
  replicas?: ReplicaOptions;
}

export interface ClassCapacity {
  maxBytes: number | undefined;
  maxItems: number | undefined;
}

/** When the breaker opens and for how long. */
export interface BreakerOptions {
  /** Failures in a row. */
  failures: number;
  /** Share of 429 among the answers in the window (0 to 1), of at least `minAnswers`. */
  throttleRatio: number;
  minAnswers: number;
  windowMs: number;
  /** Shortest and longest time open; it doubles from one failed probe to the next. */
  minOpenMs: number;
  maxOpenMs: number;
}

export const BREAKER_STATES = ['closed', 'open', 'half_open'] as const;
export type BreakerState = (typeof BREAKER_STATES)[number];
/** Why it opens: failures in a row, answers of 429, a key that is refused. */
export const BREAKER_REASONS = ['failures', 'quota', 'auth'] as const;

/** The breaker as `redis-cli HGETALL <prefix>:breaker` shows it. Times: Unix ms. */
export interface Breaker {
  state: BreakerState;
  reason: string;
  sinceMs: number;
  retryAtMs: number;
  failures: number;
  openedTotal: number;
  /** The same by reason. */
  openedByReason: Record<(typeof BREAKER_REASONS)[number], number>;
  halfOpenedTotal: number;
  closedTotal: number;
  /** Share of 429 among the answers in the window, 0 to 1. */
  throttledShare: number;
}

export interface MoveOptions {
  windowBatches: number;
  windowBytes: number;
  mergeBytes: number;
  weights: Record<PriorityClass, number>;
  maxPicks: number;
  /** How long live and replayed work take turns, in ms. */
  slotMs: number;
}

export interface MoveResult {
  jobs: number;
  items: Record<PriorityClass, number>;
  waiting: { live: Record<PriorityClass, number>; replay: Record<PriorityClass, number> };
  /** Jobs that the export queue could still take. */
  room: number;
  breaker: BreakerState;
  /** Until the earliest probe, in ms, while the breaker is open. */
  probeInMs: number;
}

/** How a batch leaves Redis for good. */
export type Settlement =
  | { outcome: 'delivered'; refusedItems?: number } // refused: by a partial success; counted, not kept
  | { outcome: 'stored' } // on the dlq's disk
  | { outcome: 'rejected' } // on the dlq's disk, in the area that is replayed only on command
  | { outcome: 'dropped'; reason: string }
  | { outcome: 'returned' }; // came from the dlq's disk and stays there

/** A job to be made by a hand-over. `old` names the payload it takes over; without it the payload is new. */
export interface HandOverJob {
  queue: 'spill' | 'export';
  data: JobData;
  payloads: { key: string; old: string }[] | { key: string; bytes: Uint8Array }[];
}

/** A job that a consumer of ours holds. `ended` is set by the step that ends it. */
export interface Held {
  queue: 'export';
  id: string;
  token: string;
  ended: boolean;
  /** Others have places without it, so its end may wait for the next batch that comes by. */
  unhurried?: boolean;
}

export interface TakeLimits {
  /** Names the consumer on the locks of its jobs. */
  token: string;
  lockMs: number;
  maxJobs: number;
  maxBytes: number;
  /** Whether one job may be larger than `maxBytes`. */
  alone: boolean;
  /** Gives back what consumers hold that are gone, first. */
  lookForLost: boolean;
}

export interface Taken {
  jobs: { id: string; data: string; attempts: number; payloads: (Buffer | null)[] }[];
  /** Jobs that still wait. */
  waiting: number;
  /** Until the next delayed job, in ms; negative when there is none. */
  nextInMs: number;
}

/** What a script does; each call is one round trip. */
export type Step = 'enqueue' | 'move' | 'take' | 'settle' | 'leave' | 'hand_over' | 'report' | 'drain';

/** Depth by stage and class, and in all. Units: batches, items, bytes as held. */
export interface Depth {
  stages: Record<Stage, Record<PriorityClass, { batches: number; items: number; bytes: number }>>;
  total: { batches: number; items: number; bytes: number };
}

type Scripted = (Redis | Cluster) & {
  nrdotEnqueue(
    depth: string,
    books: string,
    wake: string,
    scheduler: string,
    breaker: string,
    outcomes: string,
    outcomesForgotten: string,
    ...args: (string | number)[]
  ): Promise<number[]>;
  nrdotReadOutcomes(
    outcomes: string,
    forgotten: string,
    from: number,
    limit: number,
  ): Promise<[number, number, ...string[]]>;
  nrdotForgetOutcomes(outcomes: string, forgotten: string, upTo: number): Promise<number>;
  nrdotBook(books: string, booked: string, ...args: (string | number)[]): Promise<number>;
  nrdotPublish(status: string, instance: string, json: string, keptMs: number): Promise<number>;
  nrdotReport(breaker: string, wake: string, ...args: (string | number)[]): Promise<BreakerState>;
  nrdotDrain(depth: string, books: string, outcomes: string, ...args: (string | number)[]): Promise<number[]>;
  nrdotMove(depth: string, scheduler: string, ...args: (string | number)[]): Promise<number[]>;
  nrdotSettle(
    depth: string,
    books: string,
    wake: string,
    outcomes: string,
    ...args: (string | number)[]
  ): Promise<[settled: number, waiting: number, breakerChanged: number]>;
  nrdotTakeBuffer(
    wait: string,
    active: string,
    delayed: string,
    meta: string,
    marker: string,
    ...args: (string | number)[]
  ): Promise<[number, number, ...[Buffer, Buffer, number, (Buffer | null)[]][]]>;
  nrdotLeave(delayed: string, marker: string, ...args: (string | number)[]): Promise<number>;
  nrdotHandOver(
    depth: string,
    books: string,
    outcomes: string,
    wake: string,
    ...args: (string | number)[]
  ): Promise<number>;
};

/**
 * The pipeline's state in Redis: payloads, jobs in BullMQ's layout, depth and books, changed only by the scripts
 * beside this file, so that each step is whole or did not happen. One store per connection.
 */
export class Store {
  readonly keys: Keys;
  readonly redis: RedisConnection;
  readonly #scripts: Scripted;
  readonly #options: StoreOptions;
  readonly #bells: Bells | undefined;
  readonly #onStep: (step: Step, seconds: number) => void;

  /**
   * @param bells of a process that runs the whole pipeline: each step rings those it may concern
   * @param onStep told of each step that Redis has answered
   */
  constructor(
    redis: RedisConnection,
    options: StoreOptions,
    bells?: Bells,
    onStep: (step: Step, seconds: number) => void = () => {},
  ) {
    if (!/\{[^{}]+\}/.test(options.prefix)) {
      throw new Error(
        `redis.prefix: "${options.prefix}" has no hash tag; expected one such as "{nrdot}", so that all keys share a slot`,
      );
    }
    this.keys = keysOf(options.prefix);
    this.redis = redis;
    this.#options = options;
    this.#bells = bells;
    this.#onStep = onStep;
    const define = (name: string, numberOfKeys: number, lua: string) =>
      redis.defineCommand(name, { numberOfKeys, lua: redis instanceof Cluster ? inOneSlot(lua) : lua });
    define('nrdotEnqueue', 7, enqueue);
    define('nrdotReadOutcomes', 2, readOutcomes);
    define('nrdotForgetOutcomes', 2, forgetOutcomes);
    define('nrdotBook', 2, book);
    define('nrdotPublish', 1, publish);
    define('nrdotReport', 2, report);
    define('nrdotDrain', 3, drain);
    define('nrdotMove', 2, move);
    define('nrdotSettle', 4, settle);
    define('nrdotTake', 5, take);
    define('nrdotLeave', 2, leave);
    define('nrdotHandOver', 4, handOver);
    this.#scripts = redis as Scripted;
  }

  /**
   * Takes batches into their class queues. For want of room a group is refused whole: the parts of one request stand
   * or fall together. All commands leave in one tick on one connection, and Redis and its AOF
   * keep their order: a job implies its payload.
   * @returns one result per batch, in the order and groups in which they came
   * @param outcomesSeen for batches that are replayed: number of the first outcome that was not looked at. One that was
   *   delivered according to those is `held`, and its outcome is still to be read
   * @throws when Redis is away or times out, or too few replicas have it; then some may have been taken, which
   *   at-least-once allows
   */
  async enqueue(
    groups: readonly (readonly Batch[])[],
    nowMs: number,
    outcomesSeen = 0,
  ): Promise<EnqueueResult[][]> {
    // What is replayed stays on the disk until it is done with.
    const live = groups.some((group) => group.some(({ origin }) => origin === 'live'));
    const commit = () => this.#enqueue(groups, nowMs, outcomesSeen);
    return live ? this.#kept(commit) : commit();
  }

  async #enqueue(
    groups: readonly (readonly Batch[])[],
    nowMs: number,
    outcomesSeen: number,
  ): Promise<EnqueueResult[][]> {
    const { exportWindow: window, replicas } = this.#options;
    // One that comes alone may go at once. Several are better merged on their way, and one that replicas are still to
    // confirm must not be at the upstream before its client is told 200.
    const alone = groups.length === 1 && groups[0]!.length === 1 ? groups[0]![0] : undefined;
    const place =
      alone?.origin === 'live' && window && !replicas
        ? this.#bells?.lane.keepPlace(alone.payload.byteLength)
        : undefined;
    const args: (string | number)[] = [
      this.keys.prefix,
      nowMs,
      this.#options.maxBytes,
      this.#options.maxItems,
      JOB_OPTIONS,
      this.#options.spillAt,
      this.#options.spillHysteresis,
      ...CLASSES.flatMap((c) => {
        const limit = this.#options.perClass?.[c];
        return [limit?.maxBytes ?? 0, limit?.maxItems ?? 0];
      }),
      place?.token ?? '',
      place?.lockMs ?? 0,
      window?.batches ?? 0,
      window?.bytes ?? 0,
      outcomesSeen,
    ];
    const uncork = this.#cork();
    this.#bells?.lane.depart(this.#scripts);
    const pending: Promise<unknown>[] = [];
    for (const [batch, group] of groups.flatMap((all) =>
      all.map((one, i) => [one, i === 0 ? all.length : 0] as const),
    )) {
      const data = jobDataOf(batch);
      const payload = this.keys.payload(batch.id);
      // NX: a batch that Redis holds already must not be given a time to live.
      pending.push(this.redis.set(payload, asBuffer(batch.payload), 'EX', UNCLAIMED_PAYLOAD_TTL_S, 'NX'));
      args.push(
        batch.id,
        batch.class,
        batch.origin,
        data.items,
        data.bytes,
        JSON.stringify(data),
        batch.signal,
        group,
      );
    }
    const { depth, books, wake, scheduler, breaker, outcomes, outcomesForgotten } = this.keys;
    // A payload that Redis had no memory for is missed by the script; the others of the group are none the worse.
    const withoutMemory = new Set<number>();
    const sets = pending.map((set, i) =>
      set.catch((error: Error) => {
        if (!isOutOfMemory(error)) throw error;
        withoutMemory.add(i);
      }),
    );
    const answer = this.#scripts
      .nrdotEnqueue(depth, books, wake, scheduler, breaker, outcomes, outcomesForgotten, ...args)
      .catch((error: Error) => {
        if (!isOutOfMemory(error)) throw error;
        return sets.map(() => NO_MEMORY);
      });
    uncork();
    let results: number[];
    try {
      [results] = await Promise.all([this.#timed('enqueue', answer), ...sets]);
    } catch (error) {
      place?.free();
      throw error;
    }
    if (results[0] === TAKEN && alone) {
      place?.start(alone.id, jobDataOf(alone), asBuffer(alone.payload));
      return [['taken']];
    }
    place?.free();
    this.#bells?.scheduler.ring();
    let at = 0;
    const resultAt = (i: number): EnqueueResult => {
      const result = ENQUEUE_RESULTS[(results[i] ?? 0) - 1] ?? 'lost';
      return result === 'lost' && withoutMemory.has(i) ? 'no_memory' : result;
    };
    return groups.map((group) => group.map(() => resultAt(at++)));
  }

  /** Moves a weighted window of batches to the export queue. */
  async move(options: MoveOptions): Promise<MoveResult> {
    const { weights } = options;
    const r = await this.#timed(
      'move',
      this.#scripts.nrdotMove(
        this.keys.depth,
        this.keys.scheduler,
        this.keys.prefix,
        options.windowBatches,
        options.windowBytes,
        options.mergeBytes,
        JOB_OPTIONS,
        weights.critical,
        weights.high,
        weights.normal,
        options.maxPicks,
        options.slotMs,
      ),
    );
    if ((r[0] ?? 0) > 0 || r[11] === BREAKER_STATES.indexOf('half_open')) this.#bells?.exporter.ring();
    const three = (from: number) => ({
      critical: r[from] ?? 0,
      high: r[from + 1] ?? 0,
      normal: r[from + 2] ?? 0,
    });
    return {
      jobs: r[0] ?? 0,
      items: three(1),
      waiting: { live: three(4), replay: three(7) },
      room: r[10] ?? 0,
      breaker: BREAKER_STATES[r[11] ?? 0] ?? 'closed',
      probeInMs: r[12] ?? 0,
    };
  }

  /**
   * Takes one answer of the upstream into the breaker.
   * @returns its state after that
   */
  async report(kind: 'ok' | 'failure' | 'quota' | 'auth', retryAfterMs: number): Promise<BreakerState> {
    const { breaker, wake, prefix } = this.keys;
    const state = await this.#timed(
      'report',
      this.#scripts.nrdotReport(
        breaker,
        wake,
        prefix,
        kind,
        Math.round(retryAfterMs),
        ...this.#breakerArgs(),
      ),
    );
    this.#bells?.scheduler.ring();
    this.#bells?.exporter.ring();
    return state;
  }

  /** Makes a write that somebody relies on as soon as it resolves. */
  #kept<T>(write: () => Promise<T>): Promise<T> {
    const { replicas } = this.#options;
    return replicas ? onReplicas(this.redis, this.keys.prefix, replicas, write) : write();
  }

  /**
   * Holds back what is written until the end of the step, so that payloads and their script leave in one system call, are
   * read by Redis in one turn of its loop, and cost one fsync and not two. A Cluster has a connection per node: there it is left.
   */
  #cork(): () => void {
    const stream = this.redis instanceof Cluster ? undefined : this.redis.stream;
    if (!stream || this.redis.status !== 'ready') return () => {};
    stream.cork();
    return () => stream.uncork();
  }

  async #timed<T>(step: Step, answer: Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const answered = await answer;
    this.#onStep(step, (performance.now() - startedAt) / 1000);
    return answered;
  }

  #breakerArgs(): number[] {
    const { failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs } = this.#options.breaker;
    return [failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs];
  }

  /** The breaker's state. */
  async breaker(): Promise<Breaker> {
    const hash = await this.redis.hgetall(this.keys.breaker);
    // Tenths of the window that nobody has answered in since stay in the hash; they are not of this window.
    const present = Math.floor(Date.now() / (this.#options.breaker.windowMs / 10));
    const sum = (prefix: string) => {
      let all = 0;
      for (let i = 0; i < 10; i++) {
        if (Number(hash[`at:${i}`] ?? 0) > present - 10) all += Number(hash[`${prefix}${i}`] ?? 0);
      }
      return all;
    };
    const state = BREAKER_STATES.find((known) => known === hash.state) ?? 'closed';
    return {
      state,
      reason: hash.reason ?? '',
      sinceMs: Number(hash.since ?? 0),
      retryAtMs: state === 'open' ? Number(hash.retry_at ?? 0) : 0,
      failures: Number(hash.failures ?? 0),
      openedTotal: Number(hash.opened_total ?? 0),
      openedByReason: Object.fromEntries(
        BREAKER_REASONS.map((reason) => [reason, Number(hash[`opened_total:${reason}`] ?? 0)]),
      ) as Breaker['openedByReason'],
      halfOpenedTotal: Number(hash.half_opened_total ?? 0),
      closedTotal: Number(hash.closed_total ?? 0),
      throttledShare: sum('q:') / Math.max(1, sum('n:')),
    };
  }

  /**
   * While the breaker is open: sends what waits to the dlq, at most `maxJobs` jobs.
   * @returns how many it took; fewer than `maxJobs` when nothing is left
   */
  async drain(maxJobs: number, nowMs: number): Promise<number> {
    const { depth, books, prefix } = this.keys;
    const [taken] = await this.#timed(
      'drain',
      this.#scripts.nrdotDrain(depth, books, this.keys.outcomes, prefix, nowMs, JOB_OPTIONS, maxJobs),
    );
    return taken ?? 0;
  }

  /** Payloads of a job's batches, in order; `null` where a batch was settled or handed over already. */
  payloads(batches: readonly BatchRef[]): Promise<(Buffer | null)[]> {
    return this.redis.mgetBuffer(batches.map((batch) => this.keys.payload(batch.key)));
  }

  /**
   * Ends Redis' hold on some batches of a job.
   * @param held completes the job in the same step, and tells the breaker that the upstream answered well
   * @returns items settled now; 0 when it was done before
   */
  async settle(
    job: JobData,
    stage: 'export' | 'spill' | 'queued',
    settlement: Settlement,
    held?: Held,
  ): Promise<number> {
    const { depth, books, wake } = this.keys;
    const { outcome } = settlement;
    const field =
      outcome === 'dropped' ? `dropped:${settlement.reason}` : outcome === 'returned' ? '' : outcome;
    const verdict = job.origin === 'replay' ? (outcome === 'returned' ? 'returned' : 'done') : '';
    const step = (scripts: Scripted) =>
      this.#timed(
        'settle',
        scripts.nrdotSettle(
          depth,
          books,
          wake,
          this.keys.outcomes,
          this.keys.prefix,
          stageField(stage, job.class, job.origin),
          field,
          verdict,
          outcome === 'delivered' ? (settlement.refusedItems ?? 0) : 0,
          held?.queue ?? '',
          held?.id ?? '',
          held?.token ?? '',
          ...this.#breakerArgs(),
          ...job.batches.flatMap((batch) => [batch.key, batch.items, batch.bytes]),
        ),
      );
    const lane = held?.unhurried ? this.#bells?.lane : undefined;
    const [settled, waiting, breakerChanged] = await (lane
      ? lane.ride(this.#scripts, step)
      : step(this.#scripts));
    if (held) held.ended = true;
    if (waiting > 0 || breakerChanged > 0) this.#bells?.scheduler.ring();
    if (breakerChanged > 0) this.#bells?.exporter.ring();
    return settled;
  }

  /** Takes jobs that wait, with their payloads, and locks them for a consumer. */
  async take(queue: 'export', limits: TakeLimits): Promise<Taken> {
    const key = (part: string) => this.keys.queue(queue, part);
    const [waiting, nextInMs, ...jobs] = await this.#timed(
      'take',
      this.#scripts.nrdotTakeBuffer(
        key('wait'),
        key('active'),
        key('delayed'),
        key('meta'),
        key('marker'),
        this.keys.prefix,
        queue,
        limits.token,
        limits.lockMs,
        limits.maxJobs,
        Math.max(0, limits.maxBytes),
        limits.alone ? 1 : 0,
        limits.lookForLost ? 1 : 0,
      ),
    );
    return {
      waiting,
      nextInMs,
      jobs: jobs.map(([id, data, attempts, payloads]) => ({
        id: id.toString(),
        data: data.toString(),
        attempts,
        payloads,
      })),
    };
  }

  /**
   * Ends a job that was taken: done, or again after some ms.
   * @returns false when it was not this consumer's any more
   */
  async leave(held: Held, how: 'done' | number): Promise<boolean> {
    const left = await this.#timed(
      'leave',
      this.#scripts.nrdotLeave(
        this.keys.queue(held.queue, 'delayed'),
        this.keys.queue(held.queue, 'marker'),
        this.keys.prefix,
        held.queue,
        held.id,
        held.token,
        how === 'done' ? -1 : Math.max(1, Math.round(how)),
      ),
    );
    held.ended = true;
    return left === 1;
  }

  /** Keeps a job that takes its time. */
  async extend(queue: 'export', id: string, lockMs: number): Promise<void> {
    await this.redis.pexpire(`${this.keys.queue(queue, id)}:lock`, lockMs);
  }

  /**
   * Passes the payloads of `job` on to new jobs, whole or in pieces, in one step.
   * @returns jobs made; 0 when the payloads had been passed on or settled before
   */
  async handOver(job: JobData, jobs: HandOverJob[], push: 'last' | 'next', nowMs: number): Promise<number> {
    const pending: Promise<unknown>[] = [];
    const spilled = jobs.find((made) => made.queue === 'spill');
    const order = {
      from: stageField('export', job.class, job.origin),
      replay: job.origin === 'replay',
      book: spilled ? `spilled:${spilled.data.class}:${spilled.data.reason}` : '',
      push: push === 'next' ? 'RPUSH' : 'LPUSH',
      old: job.batches.map(({ key, items, bytes }) => ({ key, items, bytes })),
      jobs: jobs.map(({ queue, data, payloads }) => ({
        id: data.batches[0]?.key,
        queue,
        name: data.signal,
        stage: stageField(queue, data.class, data.origin),
        data: JSON.stringify(data),
        batches: data.batches.map((batch, i) => {
          const payload = payloads[i];
          if (payload && 'bytes' in payload) {
            // NX: one that is sent again, for want of an answer, must not give what is held a time to live.
            pending.push(
              this.redis.set(
                this.keys.payload(batch.key),
                asBuffer(payload.bytes),
                'EX',
                UNCLAIMED_PAYLOAD_TTL_S,
                'NX',
              ),
            );
            return { key: batch.key, items: batch.items, bytes: batch.bytes };
          }
          return { key: batch.key, items: batch.items, bytes: batch.bytes, old: payload?.old };
        }),
      })),
    };
    const { depth, books, wake, prefix } = this.keys;
    const [made] = await Promise.all([
      this.#timed(
        'hand_over',
        this.#scripts.nrdotHandOver(
          depth,
          books,
          this.keys.outcomes,
          wake,
          prefix,
          nowMs,
          JOB_OPTIONS,
          JSON.stringify(order),
        ),
      ),
      ...pending,
    ]);
    this.#bells?.scheduler.ring();
    this.#bells?.exporter.ring();
    if (made < 0) throw new Error('a new payload was lost before the hand-over; nothing was changed');
    return made;
  }

  /**
   * Takes back what consumers of an earlier run held when they were killed, without waiting for their locks to expire.
   * Only for an owner of the whole pipeline, before it starts consumers.
   * @returns jobs taken back
   */
  async reclaim(): Promise<number> {
    let taken = 0;
    for (const queue of ['export', 'spill'] as const) {
      const active = this.keys.queue(queue, 'active');
      for (const id of await this.redis.lrange(active, 0, -1)) {
        await this.redis
          .multi()
          .lrem(active, 1, id)
          .del(`${this.keys.queue(queue, id)}:lock`)
          .rpush(this.keys.queue(queue, 'wait'), id)
          .zadd(this.keys.queue(queue, 'marker'), 0, '0')
          .exec();
        taken++;
      }
    }
    return taken;
  }

  /** What Redis holds now. */
  async depth(): Promise<Depth> {
    const hash = await this.redis.hgetall(this.keys.depth);
    const at = (field: string) => Number(hash[field] ?? 0);
    const stages = {} as Depth['stages'];
    for (const stage of STAGES) {
      stages[stage] = {} as Depth['stages'][Stage];
      for (const c of CLASSES) {
        const unit = (u: 'batches' | 'items' | 'bytes') => at(depthField(stage, c, u));
        stages[stage][c] = { batches: unit('batches'), items: unit('items'), bytes: unit('bytes') };
      }
    }
    return {
      stages,
      total: { batches: at('total:batches'), items: at('total:items'), bytes: at('total:bytes') },
    };
  }

  /** The books: items counted since the prefix was first used, by field (`accepted`, `delivered`, …). */
  async books(): Promise<Record<string, number>> {
    const hash = await this.redis.hgetall(this.keys.books);
    return Object.fromEntries(Object.entries(hash).map(([field, n]) => [field, Number(n)]));
  }

  /**
   * Where everything is that was ever accepted. The disk's part is what the dlq last said; the difference is 0 at any
   * quiet moment.
   */
  async accounting(): Promise<Accounting> {
    const [depth, books, disk] = await Promise.all([
      this.depth(),
      this.books(),
      this.redis.hgetall(this.keys.disk),
    ]);
    return accountingOf(depth, books, disk);
  }

  /**
   * Outcomes of replayed batches, oldest first; they stay until they are forgotten.
   * @param from number of the first that is wanted: 0, or what the last call gave as `next`
   * @returns `first`: number of the oldest that Redis has not forgotten
   */
  async replayOutcomes(
    from: number,
    limit: number,
  ): Promise<{ outcomes: { done: boolean; key: string }[]; first: number; next: number }> {
    const { outcomes, outcomesForgotten } = this.keys;
    const [first, given, ...lines] = await this.#scripts.nrdotReadOutcomes(
      outcomes,
      outcomesForgotten,
      from,
      limit,
    );
    // What is done leaves the disk: in a failover Redis must not go back to where it still needed it.
    if (lines.length > 0) await this.#kept(() => this.redis.set(this.keys.fence, lines.length));
    return {
      outcomes: lines.map((line) => ({
        done: line.startsWith('done '),
        key: line.slice(line.indexOf(' ') + 1),
      })),
      first,
      next: given + lines.length,
    };
  }

  /** Forgets the outcomes before a number, once what they say is on the disk. */
  async forgetReplayOutcomes(upTo: number): Promise<void> {
    const { outcomes, outcomesForgotten } = this.keys;
    await this.#scripts.nrdotForgetOutcomes(outcomes, outcomesForgotten, upTo);
  }

  /** Which of these payloads Redis still holds. One that expires is in no job: Redis has forgotten that it was enqueued. */
  async holds(keys: readonly string[]): Promise<boolean[]> {
    const pipeline = this.redis.pipeline();
    for (const key of keys) pipeline.ttl(this.keys.payload(key));
    return ((await pipeline.exec()) ?? []).map(([, seconds]) => seconds === -1);
  }

  /** Whether a person has paused replay; it outlives restarts. */
  async replayPaused(): Promise<boolean> {
    return (await this.redis.hget(this.keys.scheduler, 'replay:paused')) === '1';
  }

  async pauseReplay(paused: boolean): Promise<void> {
    await this.redis.hset(this.keys.scheduler, 'replay:paused', paused ? '1' : '0');
  }

  /** Tells the books what the dlq's disk holds now, in items. */
  async reportDisk(items: DiskItems): Promise<void> {
    await this.redis.hset(this.keys.disk, { ...items });
  }

  /** Books an entry of the dlq's ledger: items by field of the books, once for each id. */
  async book({ id, counts }: { id: string; counts: Record<string, number> }): Promise<void> {
    const args = Object.entries(counts).flat();
    await this.#kept(() => this.#scripts.nrdotBook(this.keys.books, this.keys.booked, id, ...args));
  }

  /** Says how this process is. */
  async publishStatus(status: ProcessStatus): Promise<void> {
    await this.#scripts.nrdotPublish(
      this.keys.status,
      status.instance,
      JSON.stringify(status),
      STATUS_KEPT_MS,
    );
  }

  /** What the processes have said lately, with how old that is, by Redis' clock; ordered by instance. */
  async statuses(): Promise<{ ageMs: number; status: ProcessStatus }[]> {
    const [all, [seconds, micros]] = await Promise.all([
      this.redis.hgetall(this.keys.status),
      this.redis.time(),
    ]);
    const now = Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000);
    return Object.entries(all)
      .flatMap(([, text]) => {
        const ageMs = Math.max(0, now - Number(text.slice(0, text.indexOf(' '))));
        if (!(ageMs <= STATUS_COUNTS_MS)) return [];
        return [{ ageMs, status: JSON.parse(text.slice(text.indexOf(' ') + 1)) as ProcessStatus }];
      })
      .sort((a, b) => a.status.instance.localeCompare(b.status.instance));
  }

  /** The weighted pick's tags, what was moved, and which classes spill. */
  schedulerHash(): Promise<Record<string, string>> {
    return this.redis.hgetall(this.keys.scheduler);
  }

  /** When the oldest batch was received that waits for the scheduler, in Unix ms; undefined when none does. */
  async oldest(priorityClass: PriorityClass, origin: Origin): Promise<number | undefined> {
    const queue = classQueue(priorityClass, origin);
    const [id] = await this.waiting(queue, 1);
    if (id === undefined) return undefined;
    const text = await this.redis.hget(this.keys.queue(queue, id), 'data');
    return text ? (JSON.parse(text) as JobData).batches[0]?.receivedAt : undefined;
  }

  /** Memory Redis uses, and may use (0: no limit), in bytes. */
  async memory(): Promise<{ usedBytes: number; limitBytes: number }> {
    const info = await this.redis.info('memory');
    const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
    return { usedBytes: field('used_memory'), limitBytes: field('maxmemory') };
  }

  /** Waits until there may be something to schedule; false after the timeout. Blocks the connection. */
  async awaitWake(timeoutMs: number): Promise<boolean> {
    return (await this.redis.bzpopmin(this.keys.wake, timeoutMs / 1000)) !== null;
  }

  /** Ids waiting in a queue, oldest first, at most `limit`. */
  async waiting(queue: QueueName, limit: number): Promise<string[]> {
    return (await this.redis.lrange(this.keys.queue(queue, 'wait'), -limit, -1)).reverse();
  }
}

/** Depth field without its unit: the stage, told apart by origin, and the class. */
function stageField(
  stage: 'queued' | 'export' | 'spill',
  priorityClass: PriorityClass,
  origin: Origin,
): string {
  if (origin === 'live') return `${stage}:${priorityClass}`;
  return `${stage === 'queued' ? 'replay' : 'replay-export'}:${priorityClass}`;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export { DEPTH_FIELDS };

function isOutOfMemory(error: Error): boolean {
  return error.message.startsWith('OOM');
}
