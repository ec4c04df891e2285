import { SIGNALS, type Signal } from '@nrdot/otlp';
import { pairsOf, type RedisConnection, writingOn } from '@nrdot/redis';
import { type Accounting, accountingOf, booksOf, type DiskReport, type DiskReported } from './accounting.ts';
import type { JobData, Origin } from './batch.ts';
import { type Breaker, breakerOf } from './breaker-state.ts';
import { type Depth, depthOf } from './depth.ts';
import { classQueue, type Keys, keysOf, type QueueName, type TakenQueue } from './keys.ts';
import { numberField } from './number-field.ts';
import type { PriorityClass } from './priority-class.ts';
import { type Scripted, scripted } from './scripted.ts';
import type { ReplayOutcome, Step, StepEvents } from './steps.ts';
import type { StoreOptions } from './store-options.ts';

/** How long the last status of a process counts, and how long it is kept. */
const STATUS_COUNTS_MS = 10_000;
const STATUS_KEPT_MS = 60_000;
export const EVENTS_MAX = 1_000;
/** After so long without a report, another scheduler takes over reporting. */
const TELLER_MS = 15_000;

/** What is read and told; the steps that move batches are in `Store`. */
export abstract class StoreState {
  readonly keys: Keys;
  readonly redis: RedisConnection;
  protected readonly scripts: Scripted;
  protected readonly options: StoreOptions;
  readonly #events: StepEvents;

  constructor(redis: RedisConnection, options: StoreOptions, events: StepEvents = {}) {
    if (!/\{[^{}]+\}/.test(options.prefix))
      throw new Error(
        `redis.prefix: "${options.prefix}" has no hash tag; expected one such as "{nrdot}", so that all keys share a slot`,
      );
    this.keys = keysOf(options.prefix);
    this.redis = redis;
    this.options = options;
    this.scripts = scripted(redis);
    this.#events = events;
  }

  async timed<T>(step: Step, answer: Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      const answered = await answer;
      this.#events.took?.(step, (performance.now() - startedAt) / 1000);
      return answered;
    } catch (error) {
      this.#events.failed?.(step, error as Error);
      throw error;
    }
  }

  protected tellOdd(lines: readonly unknown[]): void {
    for (const line of lines) this.#events.odd?.(String(line));
  }

  /** Makes a write that must be durable when the promise resolves. @throws NotReplicated; the error of the write */
  protected async kept<T>(write: () => Promise<T>): Promise<T> {
    const { replicas } = this.options;
    if (!replicas) return write();
    const { result, onReplicas } = await writingOn(this.redis, this.keys.prefix, replicas, write);
    await onReplicas();
    return result;
  }

  async breakers(): Promise<Breaker[]> {
    const signals = Object.keys(SIGNALS) as Signal[];
    const hashes = await Promise.all(signals.map((signal) => this.redis.hgetall(this.keys.breaker(signal))));
    return hashes.map((hash, i) => breakerOf(signals[i]!, hash, this.options.breaker.windowMs, Date.now()));
  }

  async depth(): Promise<Depth> {
    return depthOf(await this.redis.hgetall(this.keys.depth));
  }

  /** The accounting: items since the prefix was first used, by field (`accepted`, `delivered`, …). */
  async books(): Promise<Record<string, number>> {
    return booksOf(Object.entries(await this.redis.hgetall(this.keys.books)));
  }

  /** The disk's part is from the dlq's last report; the difference is 0 at any quiet moment. */
  async accounting(): Promise<Accounting> {
    const reads = [this.depth(), this.books(), this.redis.hgetall(this.keys.disk)] as const;
    return accountingOf(...(await Promise.all(reads)));
  }

  /**
   * Outcomes of replayed batches, oldest first; they stay until they are forgotten.
   * @param from index of the first one wanted: 0, or `next` of the last call
   * @returns `first`: index of the oldest one that Redis still has
   */
  async replayOutcomes(
    from: number,
    limit: number,
  ): Promise<{ outcomes: ReplayOutcome[]; first: number; next: number }> {
    const { outcomes, outcomesForgotten } = this.keys;
    const [first, given, ...lines] = await this.timed(
      'read_outcomes',
      this.scripts.nrdotReadOutcomes(outcomes, outcomesForgotten, from, limit),
    );
    // Records of `done` outcomes are deleted from the disk, so a failover must not undo the outcome.
    if (lines.length > 0 && this.options.replicas)
      await this.kept(() => this.scripts.nrdotFence(this.keys.fence, lines.length));
    return { outcomes: lines.map(outcomeIn), first, next: given + lines.length };
  }

  async forgetReplayOutcomes(upTo: number): Promise<void> {
    const { outcomes, outcomesForgotten } = this.keys;
    await this.timed('forget_outcomes', this.scripts.nrdotForgetOutcomes(outcomes, outcomesForgotten, upTo));
  }

  /** Which of these payloads belong to a job. A payload that still has a TTL was never claimed by one. */
  async holds(keys: readonly string[]): Promise<boolean[]> {
    const pipeline = this.redis.pipeline();
    for (const key of keys) pipeline.ttl(this.keys.payload(key));
    return ((await pipeline.exec()) ?? []).map(([error, seconds]) => {
      if (error) throw error; // says nothing about the payload
      return seconds === -1;
    });
  }

  async replayPaused(): Promise<boolean> {
    return (await this.redis.hget(this.keys.scheduler, 'replay:paused')) === '1';
  }

  async pauseReplay(paused: boolean): Promise<void> {
    await this.redis.hset(this.keys.scheduler, 'replay:paused', paused ? '1' : '0');
  }

  /** Reports the dlq's disk to the accounting and returns the state of Redis. */
  async reportDisk(report: DiskReport): Promise<DiskReported> {
    const { books, depth, disk, outcomes, outcomesForgotten, scheduler, losses } = this.keys;
    const { waiting, rejected, unbooked, undropped, outcomesSeen, seen, freshEpoch } = report;
    const [state, epoch, lost, , at, paused, live, flat] = await this.timed(
      'report_disk',
      this.scripts.nrdotReportDisk(
        ...[books, depth, disk, outcomes, outcomesForgotten, scheduler, losses],
        ...[waiting, rejected, unbooked, undropped, outcomesSeen],
        ...[seen?.epoch ?? '', freshEpoch, JSON.stringify(seen ?? {})],
      ),
    );
    return {
      state: state as DiskReported['state'],
      lostItems: Number(lost),
      seen: {
        epoch,
        at: Number(at),
        books: booksOf(pairsOf(flat)),
        live: Number(live),
        paused: paused === '1',
      },
    };
  }

  /** Age of the dlq's last report of its disk, in ms by Redis' clock; undefined if there is none. */
  async diskReportAgeMs(): Promise<number | undefined> {
    const [reported, now] = await Promise.all([this.redis.hget(this.keys.disk, 'reported'), this.#nowMs()]);
    return reported === null ? undefined : Math.max(0, now - numberField(reported));
  }

  async #nowMs(): Promise<number> {
    const [seconds, micros] = await this.redis.time();
    return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000);
  }

  /** When Redis was last found to have lost its data, and to have an older state; each absent if never. */
  async losses(): Promise<{ lost?: { at: number; items: number; seenAt: number }; olderAt?: number }> {
    const { at, items, seen_at: seenAt, older_at: olderAt } = await this.redis.hgetall(this.keys.losses);
    return {
      ...(at
        ? { lost: { at: numberField(at), items: numberField(items), seenAt: numberField(seenAt) } }
        : {}),
      ...(olderAt ? { olderAt: numberField(olderAt) } : {}),
    };
  }

  /** Adds a ledger entry of the dlq to the accounting: items by field, once per id. */
  async book({ id, counts }: { id: string; counts: Record<string, number> }): Promise<void> {
    const { books, booked } = this.keys;
    await this.kept(() =>
      this.timed('book', this.scripts.nrdotBook(books, booked, id, ...Object.entries(counts).flat())),
    );
  }

  /** Publishes the status of this process, which becomes JSON; its shape is the caller's. */
  async publishStatus(status: { readonly instance: string }): Promise<void> {
    const args = [status.instance, JSON.stringify(status), STATUS_KEPT_MS];
    await this.timed('publish', this.scripts.nrdotPublish(this.keys.status, ...args));
  }

  /** The current statuses of all processes as published, with their age by Redis' clock; ordered by instance. */
  async statuses(): Promise<{ ageMs: number; status: unknown }[]> {
    const [all, now] = await Promise.all([this.redis.hgetall(this.keys.status), this.#nowMs()]);
    const byInstance = Object.entries(all).sort(([a], [b]) => a.localeCompare(b));
    return byInstance.flatMap(([, text]) => {
      const end = text.indexOf(' ');
      const ageMs = Math.max(0, now - Number(text.slice(0, end)));
      return ageMs <= STATUS_COUNTS_MS ? [{ ageMs, status: JSON.parse(text.slice(end + 1)) as unknown }] : [];
    });
  }

  /** Appends events, each a JSON text; only the last `EVENTS_MAX` are kept. */
  async appendEvents(events: readonly string[]): Promise<void> {
    await this.redis.rpush(this.keys.events, ...events);
    await this.redis.ltrim(this.keys.events, -EVENTS_MAX, -1);
  }

  events(limit: number): Promise<string[]> {
    return this.redis.lrange(this.keys.events, -limit, -1);
  }

  /** Whether this scheduler reports changes of the whole pipeline; it keeps that role as long as it asks. */
  async isTeller(instance: string): Promise<boolean> {
    const before = await this.redis.set(this.keys.teller, instance, 'PX', TELLER_MS, 'NX', 'GET');
    if (before !== null && before !== instance) return false;
    if (before !== null) await this.redis.pexpire(this.keys.teller, TELLER_MS);
    return true;
  }

  /** Tags of the weighted pick, what was moved, and which classes spill. */
  schedulerHash(): Promise<Record<string, string>> {
    return this.redis.hgetall(this.keys.scheduler);
  }

  /** Unix ms at which the oldest batch that waits for the scheduler was received; undefined if none waits. */
  async oldest(priorityClass: PriorityClass, origin: Origin): Promise<number | undefined> {
    const queue = classQueue(priorityClass, origin);
    const [id] = await this.waiting(queue, 1);
    if (id === undefined) return undefined;
    const text = await this.redis.hget(this.keys.queue(queue, id), 'data');
    return text ? (JSON.parse(text) as JobData).batches[0]?.receivedAt : undefined;
  }

  /** Memory that Redis uses, and its limit (0 for none), in bytes. */
  async memory(): Promise<{ usedBytes: number; limitBytes: number }> {
    const info = await this.redis.info('memory');
    const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
    return { usedBytes: field('used_memory'), limitBytes: field('maxmemory') };
  }

  /** Ids waiting in a queue, oldest first, at most `limit`. */
  async waiting(queue: QueueName, limit: number): Promise<string[]> {
    return (await this.redis.lrange(this.keys.queue(queue, 'wait'), -limit, -1)).reverse();
  }

  async extend(queue: TakenQueue, id: string, lockMs: number): Promise<void> {
    await this.redis.pexpire(`${this.keys.queue(queue, id)}:lock`, lockMs);
  }
}

function outcomeIn(line: string): ReplayOutcome {
  const [verdict, key = '', attempts = '', ...words] = line.split(' ');
  if (verdict !== 'failed') return { key, done: verdict === 'done' };
  return { key, done: false, failed: { attempts: Number(attempts) || 0, message: words.join(' ') } };
}
