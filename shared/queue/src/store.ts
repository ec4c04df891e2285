import { claimAnswer, claimArgs } from '@nrdot/key-budget';
import type { Signal } from '@nrdot/otlp';
import { type RedisConnection, writingOn } from '@nrdot/redis';
import { Cluster } from 'ioredis';
import { type Batch, type BatchRef, JOB_OPTIONS, type JobData, jobDataOf, nextKey } from './batch.ts';
import {
  BREAKER_STATES,
  type BreakerState,
  breakerArgs,
  MESSAGE_MAX,
  type Verdict,
} from './breaker-state.ts';
import { DeferredSettlements } from './deferred-settlements.ts';
import { stageField } from './depth.ts';
import type { TakenQueue } from './keys.ts';
import { LARGE_PAYLOAD_BYTES, PayloadCommand } from './payload-command.ts';
import { CLASSES, isPriorityClass } from './priority-class.ts';
import type { Scripted } from './scripted.ts';
import {
  ENQUEUE_RESULTS,
  type EnqueueResult,
  type Group,
  type GroupResult,
  type HandOverJob,
  type JobLock,
  type MoveOptions,
  type MoveResult,
  type Settlement,
  type StepEvents,
  type TakeLimits,
  type Taken,
} from './steps.ts';
import type { StoreOptions } from './store-options.ts';
import { StoreState } from './store-state.ts';
import type { InProcess } from './wake-signal.ts';

const TAKEN = ENQUEUE_RESULTS.indexOf('taken') + 1;
const NO_MEMORY = ENQUEUE_RESULTS.indexOf('no_memory') + 1;
/** The answers of move and drain begin with so many numbers; lines for the log follow. */
const [MOVE_NUMBERS, DRAIN_NUMBERS] = [14, 4];
/** Characters of a job's `failedReason`. */
const REASON_MAX = 300;
/** Minimum export window, in batches, for deferring settlements: in a smaller one, a batch not yet settled would block the next. */
const DEFER_MIN_WINDOW = 4;

/** TTL of a payload until the script adds its job, usually a few ms later; longer than a client waits for its answer. */
const UNCLAIMED_PAYLOAD_TTL_S = 600;

/**
 * The pipeline's state in Redis: payloads, jobs in BullMQ's layout, depth and accounting. Only the files in `scripts`
 * change it, so that each step is atomic. One store per connection.
 */
export class Store extends StoreState {
  readonly #inProcess: InProcess | undefined;
  readonly #deferred: DeferredSettlements;

  /** @param inProcess set if this process runs the whole pipeline: steps then notify the services that they concern */
  constructor(redis: RedisConnection, options: StoreOptions, inProcess?: InProcess, events: StepEvents = {}) {
    super(redis, options, events);
    this.#inProcess = inProcess;
    this.#deferred = inProcess?.handOff.deferred ?? new DeferredSettlements();
  }

  /**
   * Adds batches to their class queues. If the queue is full, all batches of a group, the parts of one request, are rejected
   * together. All commands are written in one tick on one connection, and Redis and its AOF keep that order, so that a job in
   * the AOF implies its payload.
   * @param outcomesSeen for replayed batches: index of the first outcome that the caller has not read. A batch with a `done` outcome
   *   at or after this index gets the result `held`: the pipeline has finished with its record
   * @returns one result per batch, grouped as `groups`
   * @throws when Redis is away or times out, or too few replicas acknowledge; some batches may have been enqueued by then, which
   *   at-least-once allows
   */
  async enqueue(
    groups: readonly (readonly Batch[])[],
    nowMs: number,
    outcomesSeen = 0,
  ): Promise<EnqueueResult[][]> {
    const plain = groups.map((batches) => ({ batches }));
    return (await this.enqueueGroups(plain, nowMs, outcomesSeen)).map(({ results }) => results);
  }

  /** `enqueue` for groups with claims: if a claim is refused, its group and all later groups with claims are dropped. */
  async enqueueGroups(groups: readonly Group[], nowMs: number, outcomesSeen = 0): Promise<GroupResult[]> {
    // Replayed batches need no replicas: they stay on the disk until they are settled.
    const live = groups.some(({ batches }) => batches.some(({ origin }) => origin === 'live'));
    const commit = () => this.#enqueue(groups, nowMs, outcomesSeen);
    return live ? this.kept(commit) : commit();
  }

  async #enqueue(groups: readonly Group[], nowMs: number, outcomesSeen: number): Promise<GroupResult[]> {
    const { maxBytes, maxItems, perClass, spillAt, spillHysteresis, exportWindow, replicas } = this.options;
    // A single batch may go to the exporter at once. Several are better merged by the scheduler, and a batch that replicas have yet
    // to acknowledge must not reach the upstream before its client gets its 200.
    const alone = groups.length === 1 && groups[0]!.batches.length === 1 ? groups[0]!.batches[0] : undefined;
    const bypasses = alone?.origin === 'live' && exportWindow !== undefined && !replicas;
    const slot = bypasses
      ? this.#inProcess?.handOff.owner?.reserveSlot(alone.signal, alone.payload.byteLength)
      : undefined;
    const args: (string | number | Buffer)[] = [
      ...[this.keys.prefix, nowMs, maxBytes, maxItems, JOB_OPTIONS, spillAt, spillHysteresis],
      ...CLASSES.flatMap((c) => [perClass?.[c].maxBytes ?? 0, perClass?.[c].maxItems ?? 0]),
      ...[slot?.token ?? '', slot?.lockMs ?? 0, exportWindow?.batches ?? 0, exportWindow?.bytes ?? 0],
      ...[outcomesSeen, bypasses && !this.#inProcess ? 1 : 0],
      groups.reduce((sum, { batches }) => sum + Math.max(1, batches.length), 0),
    ];
    const { depth, books, wake, scheduler, outcomes, outcomesForgotten } = this.keys;
    // The script reports a payload that did not fit into Redis' memory as lost. Without a claim, the rest of its group is kept.
    const withoutMemory = new Set<number>();
    let claims = 0;
    const [answer, sets] = this.#corked(() => {
      this.#deferred.sendOn(this.scripts);
      const pending: (Promise<unknown> | undefined)[] = [];
      for (const { batches, claim } of groups) {
        const number = claim ? ++claims : 0;
        if (batches.length === 0) {
          args.push('', '', '', 0, 0, '', '', 1, number);
          pending.push(undefined);
        }
        for (const [i, batch] of batches.entries()) {
          const data = jobDataOf(batch);
          // NX: a batch that Redis has already must not get a TTL.
          pending.push(this.#setPayload(batch.id, batch.payload));
          args.push(batch.id, batch.class, batch.origin, data.items, data.bytes, JSON.stringify(data));
          args.push(batch.signal, i === 0 ? batches.length : 0, number);
        }
      }
      for (const { claim } of groups) if (claim) args.push(...claimArgs(claim.claim, claim.claimant));
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
      return [answer, sets] as const;
    });
    let results: unknown[];
    try {
      [results] = await Promise.all([this.timed('enqueue', answer), ...sets]);
    } catch (error) {
      slot?.release();
      throw error;
    }
    if (results[0] === TAKEN && alone) {
      slot?.start(alone.id, jobDataOf(alone), asBuffer(alone.payload), String(results[1 + claims] ?? ''));
      return [{ results: ['taken'], ...(claims > 0 ? { answer: claimAnswer(results[1]) } : {}) }];
    }
    slot?.release();
    this.#inProcess?.scheduler.notify();
    let at = 0;
    const resultAt = (i: number): EnqueueResult => {
      const result = ENQUEUE_RESULTS[Number(results[i] ?? 0) - 1] ?? 'lost';
      return result === 'lost' && withoutMemory.has(i) ? 'no_memory' : result;
    };
    let answerAt = sets.length;
    return groups.map(({ batches, claim }) => {
      const own = batches.map(() => resultAt(at++));
      if (batches.length === 0) at++;
      const reply = claim ? results[answerAt++] : undefined;
      return { results: own, ...(reply ? { answer: claimAnswer(reply) } : {}) };
    });
  }

  async move(options: MoveOptions): Promise<MoveResult> {
    const { windowBatches, windowBytes, mergeBytes, weights, maxPicks, slotMs } = options;
    const { depth, scheduler, prefix } = this.keys;
    const answer = await this.timed(
      'move',
      this.scripts.nrdotMove(
        ...[depth, scheduler, prefix, windowBatches, windowBytes, mergeBytes, JOB_OPTIONS],
        ...[weights.critical, weights.high, weights.normal, maxPicks, slotMs],
      ),
    );
    const numbers = answer.slice(0, MOVE_NUMBERS).map(Number);
    this.tellOdd(answer.slice(MOVE_NUMBERS));
    const next = () => numbers.shift()!;
    const three = () => ({ critical: next(), high: next(), normal: next() });
    const result: MoveResult = {
      jobs: next(),
      items: three(),
      waiting: { live: three(), replay: three() },
      room: next(),
      breaker: BREAKER_STATES[next()]!,
      probeInMs: next(),
      more: next() === 1,
    };
    if (result.jobs > 0 || result.breaker === 'half_open') this.#inProcess?.exporter.notify();
    return result;
  }

  /**
   * Reports one answer of the upstream to the breaker.
   * @param epoch the breaker's epoch when the request was sent, so that a late answer counts in no other; the current one if empty
   * @returns the state of the signal's breaker afterwards
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
        ...[breaker(signal), wake, prefix, signal, epoch, kind, Math.round(retryAfterMs)],
        ...breakerArgs(this.options.breaker),
        said.slice(0, MESSAGE_MAX),
      ),
    );
    this.#notifyBoth();
    return state;
  }

  #notifyBoth(): void {
    this.#inProcess?.scheduler.notify();
    this.#inProcess?.exporter.notify();
  }

  /** @param together bytes of all payloads written in the same step, this one included */
  #setPayload(id: string, bytes: Uint8Array, together = bytes.byteLength): Promise<unknown> {
    const [key, payload] = [this.keys.payload(id), asBuffer(bytes)];
    if (together <= LARGE_PAYLOAD_BYTES)
      return this.redis.set(key, payload, 'EX', UNCLAIMED_PAYLOAD_TTL_S, 'NX');
    return this.redis.sendCommand(
      new PayloadCommand(key, payload, 'EX', String(UNCLAIMED_PAYLOAD_TTL_S), 'NX'),
    ) as Promise<unknown>;
  }

  /**
   * Corks the socket while a step's commands are written, so that payloads and their script leave in one system call, are read
   * in one turn of Redis' event loop and cost one fsync instead of two. Not on a Cluster, which has a connection per node.
   */
  #corked<T>(write: () => T): T {
    const stream = this.redis instanceof Cluster ? undefined : this.redis.stream;
    if (!stream || this.redis.status !== 'ready') return write();
    stream.cork();
    try {
      return write();
    } finally {
      stream.uncork();
    }
  }

  /**
   * While the breaker is open: spills waiting batches to the dlq, at most `maxJobs` jobs.
   * @returns the number of jobs; less than `maxJobs` when none is left
   */
  async drain(maxJobs: number, nowMs: number): Promise<number> {
    const { depth, books, outcomes, prefix } = this.keys;
    const answer = await this.timed(
      'drain',
      this.scripts.nrdotDrain(depth, books, outcomes, prefix, nowMs, JOB_OPTIONS, maxJobs),
    );
    this.tellOdd(answer.slice(DRAIN_NUMBERS));
    return Number(answer[0] ?? 0);
  }

  /**
   * Settles batches of a job.
   * @param lock if given, the job is completed in the same step and a success is reported to the breaker
   * @returns the number of items settled; 0 if they had been settled before
   */
  async settle(
    job: JobData,
    stage: 'export' | 'spill' | 'queued',
    settlement: Settlement,
    lock?: JobLock,
  ): Promise<number> {
    const { depth, books, wake, outcomes, prefix } = this.keys;
    const { outcome } = settlement;
    const failed = outcome === 'returned' ? settlement.failed : undefined;
    const field = outcome === 'dropped' ? `dropped:${settlement.reason}` : failed ? '' : outcome;
    const verdict = job.origin === 'replay' ? (failed ? 'failed' : 'done') : '';
    const refused = outcome === 'delivered' ? (settlement.refusedItems ?? 0) : 0;
    const said = failed ? ` ${failed.attempts} ${failed.message.slice(0, MESSAGE_MAX)}` : '';
    const step = (scripts: Scripted) =>
      this.timed(
        'settle',
        scripts.nrdotSettle(
          ...[depth, books, wake, outcomes, prefix],
          ...[stageField(stage, job.class, job.origin), field, verdict, refused],
          ...[lock?.queue ?? '', lock?.id ?? '', lock?.token ?? ''],
          ...breakerArgs(this.options.breaker),
          ...[said, job.signal, lock?.epoch ?? ''],
          JSON.stringify(job.batches.flatMap(({ key, items, bytes }) => [key, items, bytes])),
        ),
      );
    const [settled, waiting, breakerChanged] = await (lock?.mayDefer
      ? this.#deferred.defer(this.scripts, step)
      : step(this.scripts));
    if (lock) lock.ended = true;
    if (waiting > 0 || breakerChanged > 0) this.#inProcess?.scheduler.notify();
    if (breakerChanged > 0) this.#inProcess?.exporter.notify();
    return settled;
  }

  /** Takes jobs that wait, with their payloads, and locks them for a consumer. */
  async take(queue: TakenQueue, limits: TakeLimits): Promise<Taken> {
    const { replicas, exportWindow } = this.options;
    const { token, lockMs, maxJobs, maxBytes, alone, lookForLost, signals = {} } = limits;
    const script = () =>
      this.scripts.nrdotTakeBuffer(
        ...['wait', 'active', 'delayed', 'meta', 'marker'].map((part) => this.keys.queue(queue, part)),
        ...[this.keys.prefix, queue, token, lockMs],
        ...[maxJobs, Math.max(0, maxBytes), alone ? 1 : 0, lookForLost ? 1 : 0],
        ...Object.entries(signals).flatMap(([signal, own]) => [
          signal,
          own.jobs,
          Math.max(0, own.bytes),
          own.alone ? 1 : 0,
        ]),
      );
    const { result, onReplicas } = await this.#corked(() => {
      this.#deferred.sendOn(this.scripts);
      return replicas
        ? writingOn(this.redis, this.keys.prefix, replicas, () => this.timed('take', script()))
        : this.timed('take', script()).then((result) => ({ result, onReplicas: undefined }));
    });
    const [waiting, nextInMs, heldBack, odd, queued, ...jobs] = result;
    this.tellOdd(odd);
    return {
      waiting,
      nextInMs,
      heldBack,
      mayDefer: queued === 0 && (exportWindow?.batches ?? 0) >= DEFER_MIN_WINDOW,
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
   * Releases a job that was taken: as done, or for another attempt after so many ms.
   * @param reason why it is retried: BullMQ's `failedReason`
   * @returns false if the consumer no longer had the job's lock
   */
  async release(lock: JobLock, how: 'done' | number, reason = ''): Promise<boolean> {
    const delayMs = how === 'done' ? -1 : Math.max(1, Math.round(how));
    const left = await this.timed(
      'leave',
      this.scripts.nrdotRelease(
        ...[this.keys.queue(lock.queue, 'delayed'), this.keys.queue(lock.queue, 'marker')],
        ...[this.keys.prefix, lock.queue, lock.id, lock.token, delayMs, printable(reason)],
      ),
    );
    lock.ended = true;
    return left === 1;
  }

  /**
   * Hands the payloads of `job` over to new jobs, whole or in pieces, in one step.
   * @returns the number of jobs created; 0 if the payloads had been handed over or settled before
   */
  handOver(job: JobData, jobs: HandOverJob[], push: 'last' | 'next', nowMs: number): Promise<number> {
    return this.#handOver('export', job, jobs, push, nowMs);
  }

  /**
   * Returns a batch that the disk does not take from the spill queue to the queue of its class, if it may be sent: if the breaker
   * of its signal is closed, or is half-open and has no other batch for its probe.
   * @param job of the spill queue, to which `batch` belongs
   * @returns whether it was returned
   */
  async takeBack(job: JobData, batch: BatchRef, nowMs: number): Promise<boolean> {
    const { signal, class: queue, encoding } = job;
    const [state, others] = await Promise.all([
      this.redis.hget(this.keys.breaker(signal), 'state'),
      this.redis.hmget(this.keys.signals, `waiting:${signal}`, `out:${signal}`),
    ]);
    if (state === 'open') return false;
    if (state === 'half_open' && others.some((jobs) => Number(jobs) > 0)) return false;
    const { items, bytes } = batch;
    const batches = [{ ...batch, key: nextKey(batch.key, 'q') }];
    const sums = { items, bytes, batches };
    // With its attempts it is not merged with others, which it might make fail.
    const data: JobData = {
      signal,
      class: queue,
      origin: 'live',
      encoding,
      attempts: job.attempts ?? 0,
      ...sums,
    };
    const payloads = [{ key: batches[0]!.key, old: batch.key }];
    const left = { ...job, batches: [batch] };
    return (await this.#handOver('spill', left, [{ queue, data, payloads }], 'last', nowMs)) > 0;
  }

  async #handOver(
    from: TakenQueue,
    job: JobData,
    jobs: HandOverJob[],
    push: 'last' | 'next',
    nowMs: number,
  ): Promise<number> {
    const { order, added } = handOverOrder(from, job, jobs, push);
    // NX: a SET that is repeated because its answer was lost must not put a TTL on a payload that a job owns.
    const together = added.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
    const { depth, books, outcomes, wake, prefix } = this.keys;
    const args = [prefix, nowMs, JOB_OPTIONS, JSON.stringify(order)];
    const [pending, answer] = this.#corked(() => [
      added.map(({ key, bytes }) => this.#setPayload(key, bytes, together)),
      this.timed('hand_over', this.scripts.nrdotHandOver(depth, books, outcomes, wake, ...args)),
    ]);
    const [made] = await Promise.all([answer, ...pending]);
    this.#notifyBoth();
    if (made < 0) throw new Error('a new payload was lost before the hand-over; nothing was changed');
    return made;
  }
}

/** BullMQ's dashboards show the reason, which contains text from the upstream. */
function printable(reason: string): string {
  return reason.replace(/\p{Cc}+/gu, ' ').slice(0, REASON_MAX);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isOutOfMemory(error: Error): boolean {
  return error.message.startsWith('OOM');
}

/**
 * Builds the argument of the hand-over script.
 * @returns the order, and the new payloads, which must be written before the script runs
 */
function handOverOrder(
  from: TakenQueue,
  job: JobData,
  jobs: readonly HandOverJob[],
  push: 'last' | 'next',
): { order: object; added: { key: string; bytes: Uint8Array }[] } {
  const added: { key: string; bytes: Uint8Array }[] = [];
  const spilled = jobs.find((made) => made.queue === 'spill');
  const order = {
    from: stageField(from, job.class, job.origin),
    replay: job.origin === 'replay',
    book: spilled ? `spilled:${spilled.data.class}:${spilled.data.reason}` : '',
    push: push === 'next' ? 'RPUSH' : 'LPUSH',
    old: job.batches.map(({ key, items, bytes }) => ({ key, items, bytes })),
    jobs: jobs.map(({ queue, data, payloads }) => ({
      id: data.batches[0]?.key,
      queue,
      name: data.signal,
      stage: stageField(isPriorityClass(queue) ? 'queued' : queue, data.class, data.origin),
      data: JSON.stringify(data),
      batches: data.batches.map(({ key, items, bytes }, i) => {
        const payload = payloads[i];
        if (payload && 'bytes' in payload) added.push({ key, bytes: payload.bytes });
        return { key, items, bytes, old: payload && 'old' in payload ? payload.old : undefined };
      }),
    })),
  };
  return { order, added };
}
