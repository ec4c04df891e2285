import type { Signal } from '@nrdot/otlp';
import { Cluster } from 'ioredis';
import { type Batch, JOB_OPTIONS, type JobData, jobDataOf } from './batch.ts';
import type { Bells } from './bell.ts';
import { BREAKER_STATES, type BreakerState, breakerArgs, type Verdict } from './breaker-state.ts';
import type { RedisConnection } from './connection.ts';
import { stageField } from './depth.ts';
import { handOverOrder } from './hand-over-order.ts';
import { claimAnswer, claimArgs } from './limiter-state.ts';
import { LARGE_PAYLOAD_BYTES, PayloadCommand } from './payload-command.ts';
import { CLASSES } from './priority-class.ts';
import { writingOn } from './replicas.ts';
import type { Scripted } from './scripted.ts';
import { MESSAGE_MAX } from './status.ts';
import type {
  EnqueueResult,
  Group,
  GroupResult,
  HandOverJob,
  Held,
  MoveOptions,
  MoveResult,
  Settlement,
  StepEvents,
  TakeLimits,
  Taken,
} from './steps.ts';
import type { StoreOptions } from './store-options.ts';
import { StoreState } from './store-state.ts';

/** As numbered by the script; the last is never its answer. */
const ENQUEUE_RESULTS: EnqueueResult[] = [
  'queued',
  'held',
  'lost',
  'full',
  'spilled',
  'taken',
  'again',
  'moved',
  'no_memory',
];
const TAKEN = ENQUEUE_RESULTS.indexOf('taken') + 1;
/** So many numbers begin what a move answers, and so many what a drain does. */
const MOVE_NUMBERS = 14;
const DRAIN_NUMBERS = 4;
/** Characters of why a job waits. */
const REASON_MAX = 300;
/** More than a worker holds at once. */
const SIFT_JOBS = 1_000;
const NO_MEMORY = ENQUEUE_RESULTS.indexOf('no_memory') + 1;

/**
 * How long an unclaimed payload lives. It becomes permanent in the same step as its job appears, a few ms later;
 * what a kill in between leaves behind expires by itself. Long enough for any stall that a client waits out.
 */
const UNCLAIMED_PAYLOAD_TTL_S = 600;

/**
 * The pipeline's state in Redis: payloads, jobs in BullMQ's layout, depth and books, changed only by the scripts
 * beside this file, so that each step is whole or did not happen. One store per connection.
 */
export class Store extends StoreState {
  readonly #bells: Bells | undefined;

  /**
   * @param bells of a process that runs the whole pipeline: each step rings those it may concern
   */
  constructor(redis: RedisConnection, options: StoreOptions, bells?: Bells, events: StepEvents = {}) {
    super(redis, options, events);
    this.#bells = bells;
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
    const all = await this.enqueueGroups(
      groups.map((batches) => ({ batches })),
      nowMs,
      outcomesSeen,
    );
    return all.map(({ results }) => results);
  }

  /** The same for groups that may have a claim: one that is refused has nothing of it kept, nor of those with claims after it. */
  async enqueueGroups(groups: readonly Group[], nowMs: number, outcomesSeen = 0): Promise<GroupResult[]> {
    // What is replayed stays on the disk until it is settled.
    const live = groups.some(({ batches }) => batches.some(({ origin }) => origin === 'live'));
    const commit = () => this.#enqueue(groups, nowMs, outcomesSeen);
    return live ? this.kept(commit) : commit();
  }

  async #enqueue(groups: readonly Group[], nowMs: number, outcomesSeen: number): Promise<GroupResult[]> {
    const { exportWindow: window, replicas } = this.options;
    // One that comes alone may go at once. Several are better merged on their way, and one that replicas are still to
    // confirm must not be at the upstream before its client is told 200.
    const alone = groups.length === 1 && groups[0]!.batches.length === 1 ? groups[0]!.batches[0] : undefined;
    const place =
      alone?.origin === 'live' && window && !replicas
        ? this.#bells?.lane.keepPlace(alone.signal, alone.payload.byteLength)
        : undefined;
    const args: (string | number | Buffer)[] = [
      this.keys.prefix,
      nowMs,
      this.options.maxBytes,
      this.options.maxItems,
      JOB_OPTIONS,
      this.options.spillAt,
      this.options.spillHysteresis,
      ...CLASSES.flatMap((c) => {
        const limit = this.options.perClass?.[c];
        return [limit?.maxBytes ?? 0, limit?.maxItems ?? 0];
      }),
      place?.token ?? '',
      place?.lockMs ?? 0,
      window?.batches ?? 0,
      window?.bytes ?? 0,
      outcomesSeen,
      alone?.origin === 'live' && window && !replicas && !this.#bells ? 1 : 0,
      groups.reduce((sum, { batches }) => sum + Math.max(1, batches.length), 0),
    ];
    const uncork = this.#cork();
    this.#bells?.lane.depart(this.scripts);
    const pending: (Promise<unknown> | undefined)[] = [];
    let claims = 0;
    for (const { batches, claim } of groups) {
      const number = claim ? ++claims : 0;
      if (batches.length === 0) {
        args.push('', '', '', 0, 0, '', '', 1, number);
        pending.push(undefined);
      }
      for (const [i, batch] of batches.entries()) {
        const data = jobDataOf(batch);
        const payload = this.keys.payload(batch.id);
        // NX: a batch that Redis holds already must not be given a time to live.
        pending.push(this.#setPayload(payload, asBuffer(batch.payload)));
        args.push(
          batch.id,
          batch.class,
          batch.origin,
          data.items,
          data.bytes,
          JSON.stringify(data),
          batch.signal,
          i === 0 ? batches.length : 0,
          number,
        );
      }
    }
    for (const { claim } of groups) if (claim) args.push(...claimArgs(claim.claim, claim.claimant));
    const { depth, books, wake, scheduler, outcomes, outcomesForgotten } = this.keys;
    // A payload that Redis had no memory for is missed by the script; the others of the group are none the worse.
    const withoutMemory = new Set<number>();
    const sets = pending.map((set, i) =>
      set?.catch((error: Error) => {
        if (!isOutOfMemory(error)) throw error;
        withoutMemory.add(i);
      }),
    );
    const answer = this.scripts
      .nrdotEnqueueBuffer(depth, books, wake, scheduler, outcomes, outcomesForgotten, ...args)
      .catch((error: Error) => {
        if (!isOutOfMemory(error)) throw error;
        return sets.map(() => NO_MEMORY);
      });
    uncork();
    let results: unknown[];
    try {
      [results] = await Promise.all([this.timed('enqueue', answer), ...sets]);
    } catch (error) {
      place?.free();
      throw error;
    }
    if (results[0] === TAKEN && alone) {
      place?.start(alone.id, jobDataOf(alone), asBuffer(alone.payload), String(results[1 + claims] ?? ''));
      return [{ results: ['taken'], ...(claims > 0 ? { answer: claimAnswer(results[1]) } : {}) }];
    }
    place?.free();
    this.#bells?.scheduler.ring();
    let at = 0;
    const resultAt = (i: number): EnqueueResult => {
      const result = ENQUEUE_RESULTS[Number(results[i] ?? 0) - 1] ?? 'lost';
      return result === 'lost' && withoutMemory.has(i) ? 'no_memory' : result;
    };
    let answerAt = pending.length;
    return groups.map(({ batches, claim }) => {
      const own = batches.map(() => resultAt(at++));
      if (batches.length === 0) at++;
      const reply = claim ? results[answerAt++] : undefined;
      return { results: own, ...(reply ? { answer: claimAnswer(reply) } : {}) };
    });
  }

  /** Moves a weighted window of batches to the export queue. */
  async move(options: MoveOptions): Promise<MoveResult> {
    const { weights } = options;
    const answer = await this.timed(
      'move',
      this.scripts.nrdotMove(
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
    const r = answer.slice(0, MOVE_NUMBERS).map(Number);
    this.tellOdd(answer.slice(MOVE_NUMBERS));
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
      more: r[13] === 1,
    };
  }

  /**
   * Takes one answer of the upstream into the breaker.
   * @param epoch of the state in which it was asked; the present one when there is none
   * @returns the state of the signal's breaker after that
   */
  async report(
    signal: Signal,
    kind: Verdict,
    retryAfterMs: number,
    { said = '', epoch = '' }: { said?: string; epoch?: string | undefined } = {},
  ): Promise<BreakerState> {
    const { breaker, wake, prefix } = this.keys;
    const state = await this.timed(
      'report',
      this.scripts.nrdotReport(
        breaker(signal),
        wake,
        prefix,
        signal,
        epoch,
        kind,
        Math.round(retryAfterMs),
        ...breakerArgs(this.options.breaker),
        said.slice(0, MESSAGE_MAX),
      ),
    );
    this.#bells?.scheduler.ring();
    this.#bells?.exporter.ring();
    return state;
  }

  #setPayload(key: string, payload: Buffer): Promise<unknown> {
    if (payload.byteLength <= LARGE_PAYLOAD_BYTES)
      return this.redis.set(key, payload, 'EX', UNCLAIMED_PAYLOAD_TTL_S, 'NX');
    return this.redis.sendCommand(
      new PayloadCommand(key, payload, 'EX', String(UNCLAIMED_PAYLOAD_TTL_S), 'NX'),
    ) as Promise<unknown>;
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

  /**
   * While the breaker is open: sends what waits to the dlq, at most `maxJobs` jobs.
   * @returns how many it took; fewer than `maxJobs` when nothing is left
   */
  async drain(maxJobs: number, nowMs: number): Promise<number> {
    const { depth, books, prefix } = this.keys;
    const answer = await this.timed(
      'drain',
      this.scripts.nrdotDrain(depth, books, this.keys.outcomes, prefix, nowMs, JOB_OPTIONS, maxJobs),
    );
    this.tellOdd(answer.slice(DRAIN_NUMBERS));
    return Number(answer[0] ?? 0);
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
    const verdict = job.origin === 'replay' ? (outcome === 'returned' ? 'failed' : 'done') : '';
    const said =
      outcome === 'returned'
        ? ` ${settlement.failed.attempts} ${settlement.failed.message.slice(0, MESSAGE_MAX)}`
        : '';
    const step = (scripts: Scripted) =>
      this.timed(
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
          ...breakerArgs(this.options.breaker),
          said,
          job.signal,
          held?.epoch ?? '',
          JSON.stringify(job.batches.flatMap(({ key, items, bytes }) => [key, items, bytes])),
        ),
      );
    const lane = held?.unhurried ? this.#bells?.lane : undefined;
    const [settled, waiting, breakerChanged] = await (lane
      ? lane.ride(this.scripts, step)
      : step(this.scripts));
    if (held) held.ended = true;
    if (waiting > 0 || breakerChanged > 0) this.#bells?.scheduler.ring();
    if (breakerChanged > 0) this.#bells?.exporter.ring();
    return settled;
  }

  /** Takes jobs that wait, with their payloads, and locks them for a consumer. */
  async take(queue: 'export', limits: TakeLimits): Promise<Taken> {
    const key = (part: string) => this.keys.queue(queue, part);
    const { replicas } = this.options;
    const script = () =>
      this.scripts.nrdotTakeBuffer(
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
        ...Object.entries(limits.signals ?? {}).flatMap(([signal, { jobs, bytes, alone }]) => [
          signal,
          jobs,
          Math.max(0, bytes),
          alone ? 1 : 0,
        ]),
      );
    const { result, onReplicas } = replicas
      ? await writingOn(this.redis, this.keys.prefix, replicas, () => this.timed('take', script()))
      : { result: await this.timed('take', script()), onReplicas: undefined };
    const [waiting, nextInMs, heldBack, odd, ...jobs] = result;
    this.tellOdd(odd);
    return {
      waiting,
      nextInMs,
      heldBack,
      jobs: jobs.map(([id, data, attempts, payloads, epoch]) => ({
        id: id.toString(),
        data: data.toString(),
        attempts,
        payloads,
        epoch: epoch.toString(),
      })),
      ...(onReplicas ? { onReplicas } : {}),
    };
  }

  /**
   * Ends a job that was taken: done, or again after some ms.
   * @param reason why it waits: BullMQ's `failedReason`
   * @returns false when it was not this consumer's any more
   */
  async leave(held: Held, how: 'done' | number, reason = ''): Promise<boolean> {
    const left = await this.timed(
      'leave',
      this.scripts.nrdotLeave(
        this.keys.queue(held.queue, 'delayed'),
        this.keys.queue(held.queue, 'marker'),
        this.keys.prefix,
        held.queue,
        held.id,
        held.token,
        how === 'done' ? -1 : Math.max(1, Math.round(how)),
        printable(reason),
      ),
    );
    held.ended = true;
    return left === 1;
  }

  /** Puts jobs that are none of the pipeline's out of the way of BullMQ's worker. */
  async sift(queue: 'spill', nowMs: number): Promise<void> {
    const key = (part: string) => this.keys.queue(queue, part);
    this.tellOdd(
      await this.timed(
        'sift',
        this.scripts.nrdotSift(key('wait'), key('active'), this.keys.prefix, queue, nowMs, SIFT_JOBS),
      ),
    );
  }

  /**
   * Passes the payloads of `job` on to new jobs, whole or in pieces, in one step.
   * @returns jobs made; 0 when the payloads had been passed on or settled before
   */
  async handOver(job: JobData, jobs: HandOverJob[], push: 'last' | 'next', nowMs: number): Promise<number> {
    const { order, added } = handOverOrder(job, jobs, push);
    // NX: one that is sent again, for want of an answer, must not give what is held a time to live.
    const pending = added.map(({ key, bytes }) =>
      this.redis.set(this.keys.payload(key), asBuffer(bytes), 'EX', UNCLAIMED_PAYLOAD_TTL_S, 'NX'),
    );
    const { depth, books, wake, prefix } = this.keys;
    const [made] = await Promise.all([
      this.timed(
        'hand_over',
        this.scripts.nrdotHandOver(
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
}

/** BullMQ and its dashboards show it; what an upstream said is in it. */
function printable(reason: string): string {
  return reason.replace(/\p{Cc}+/gu, ' ').slice(0, REASON_MAX);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isOutOfMemory(error: Error): boolean {
  return error.message.startsWith('OOM');
}
