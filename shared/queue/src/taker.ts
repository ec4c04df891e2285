import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { SIGNALS, type Signal } from '@nrdot/otlp';
import { BLOCK_MAX_MS } from '@nrdot/redis';
import { assertJobData, type JobData } from './batch.ts';
import type { ReservedSlot, SlotOwner } from './in-process-hand-off.ts';
import type { TakenQueue } from './keys.ts';
import { RedisWakeSignal } from './redis-wake-signal.ts';
import { RetryLater } from './retry-later.ts';
import type { JobLock, Taken } from './steps.ts';
import type { Store } from './store.ts';
import { WakeSignal } from './wake-signal.ts';

export interface TakeOptions {
  store: Store;
  queue: TakenQueue;
  /** Maximum jobs of each signal in flight. */
  concurrency: number;
  /** Maximum jobs of all signals in flight; no limit if absent. */
  maxJobs?: number;
  /** Limit on the payload bytes of all jobs in flight. A larger job of a signal still runs while it is the only one. */
  maxBytes: number;
  /** Notified when there may be a job; without it the taker waits in a blocking read on a connection of its own. */
  wakeSignal?: WakeSignal | undefined;
  /**
   * `payloads` are those of the job's batches, in order; `null` where a batch was settled or handed over already.
   * Pass `lock` to a settlement to complete the job in the same step.
   * @throws RetryLater to retry the job after its delay; after any other error it is retried after `faultDelayMs`
   */
  handle(job: TakenJob): Promise<void>;
  onError(error: Error): void;
  faultDelayMs: number;
}

export interface TakenJob {
  id: string;
  data: JobData;
  attempts: number;
  payloads: (Buffer | null)[];
  lock: JobLock;
}

const LOCK_MS = 10_000;
const EXTEND_MS = 3_000;
const LOST_CHECK_MS = 2_500;
const FAULT_PAUSE_MS = 500;
const TAKE_MAX_JOBS = 16;
/** How often to look for jobs of other signals while one signal is at its limit. */
const OTHERS_CHECK_MS = 10;
/** Share of `maxBytes` that one signal may use. */
const SIGNAL_SHARE = 0.75;
const NAMES = Object.keys(SIGNALS) as Signal[];

/**
 * The consumer of the export queue and of the spill queue: compatible with BullMQ's layout and with BullMQ workers on the same
 * queue. One round trip takes jobs with their payloads and one ends each (of the export queue: settled, reported to the breaker
 * and completed in one step): four scripts per batch instead of nine, and no blocking reads within one process.
 */
export class Taker implements SlotOwner {
  readonly #options: TakeOptions;
  readonly #signal: WakeSignal | RedisWakeSignal;
  readonly #token = randomBytes(12).toString('hex');
  readonly #running = new Set<string>();
  readonly #extender: NodeJS.Timeout;
  readonly #done: Promise<void>;
  readonly #concurrency: Record<Signal, number>;
  #bytes = 0;
  /** Jobs in flight and reserved slots. */
  readonly #inFlight = bySignal(() => ({ jobs: 0, bytes: 0 }));
  #closing = false;
  /** A job has ended, a slot was released, the concurrency has changed, or the taker closes. */
  readonly #change = new WakeSignal();
  #lostCheckAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: TakeOptions) {
    this.#options = options;
    this.#concurrency = bySignal(() => options.concurrency);
    const { redis, keys } = options.store;
    this.#signal = options.wakeSignal ?? new RedisWakeSignal(redis, keys.queue(options.queue, 'marker'));
    this.#extender = setInterval(() => void this.#extend(), EXTEND_MS).unref();
    this.#done = this.#run();
  }

  /** Stops taking jobs and waits for those in flight, at most `timeoutMs`; other consumers take what is left. */
  async close(timeoutMs: number): Promise<void> {
    this.#closing = true;
    this.#signal.close();
    this.#change.notify();
    const deadline = performance.now() + timeoutMs;
    // Without Redis the loop may hang in a command. Jobs it has taken go to another consumer once their locks expire.
    await Promise.race([this.#done, wait(timeoutMs, undefined, { ref: false })]);
    while (this.#running.size > 0 && performance.now() < deadline)
      await this.#change.wait(deadline - performance.now());
    clearInterval(this.#extender);
  }

  /** @param signal the signal to set; all of them if omitted */
  setConcurrency(jobs: number, signal?: Signal): void {
    for (const name of signal ? [signal] : NAMES) this.#concurrency[name] = jobs;
    this.#change.notify();
  }

  reserveSlot(signal: Signal, bytes: number): ReservedSlot | undefined {
    const { jobs, bytes: room } = this.#roomOf(signal);
    const full = jobs <= 0 || bytes > room || this.#bytes + bytes > this.#options.maxBytes;
    if (this.#closing || full) return undefined;
    this.#count(signal, 1, bytes);
    return {
      token: this.#token,
      lockMs: LOCK_MS,
      start: (id, data, payload, epoch) => {
        this.#count(signal, -1, -bytes);
        // Once the last slot is taken, the next batch waits for this settlement: then it must not be deferred.
        const mayDefer = this.#roomOf(signal).jobs > 1;
        void this.#work({ id, data, attempts: 0, payloads: [payload], epoch }, mayDefer);
      },
      release: () => {
        this.#count(signal, -1, -bytes);
        this.#change.notify();
      },
    };
  }

  #count(signal: Signal, jobs: number, bytes: number): void {
    this.#bytes += bytes;
    const inFlight = this.#inFlight[signal];
    inFlight.jobs += jobs;
    inFlight.bytes += bytes;
  }

  #roomOf(signal: Signal): { jobs: number; bytes: number; alone: boolean } {
    const { jobs, bytes } = this.#inFlight[signal];
    return {
      jobs: this.#concurrency[signal] - jobs,
      bytes: this.#options.maxBytes * SIGNAL_SHARE - bytes,
      alone: jobs === 0,
    };
  }

  async #run(): Promise<void> {
    const { queue, maxJobs = Number.POSITIVE_INFINITY } = this.#options;
    while (!this.#closing) {
      const free = NAMES.reduce((sum, signal) => sum + Math.max(0, this.#roomOf(signal).jobs), 0);
      const room = Math.min(TAKE_MAX_JOBS, free, maxJobs - this.#running.size);
      if (room <= 0) {
        await this.#change.wait(BLOCK_MAX_MS);
        continue;
      }
      try {
        const { jobs, waiting, nextInMs, heldBack } = await this.#take(room);
        if (this.#closing) return;
        if (jobs.length === room) continue; // there may be more jobs, and more slots
        if (waiting === 0)
          await this.#signal.wait(nextInMs < 0 ? BLOCK_MAX_MS : Math.min(BLOCK_MAX_MS, nextInMs));
        else if (heldBack > 0 && queue === 'export') await this.#change.wait(OTHERS_CHECK_MS);
        // The byte limit was reached: the jobs that are left have to wait for one in flight.
        else if (this.#running.size > 0) await this.#change.wait(BLOCK_MAX_MS);
      } catch (error) {
        if (this.#closing) return;
        this.#options.onError(error as Error);
        await this.#change.wait(FAULT_PAUSE_MS);
      }
    }
  }

  async #take(room: number): Promise<Taken> {
    const { store, queue, maxBytes } = this.#options;
    const now = performance.now();
    const lookForLost = now - this.#lostCheckAtMs >= LOST_CHECK_MS;
    if (lookForLost) this.#lostCheckAtMs = now;
    const taken = await store.take(queue, {
      token: this.#token,
      lockMs: LOCK_MS,
      maxJobs: room,
      maxBytes: maxBytes - this.#bytes,
      alone: this.#running.size === 0,
      lookForLost,
      signals: bySignal((signal) => this.#roomOf(signal)),
    });
    const { jobs, onReplicas } = taken;
    let kept: Promise<void> | undefined;
    for (const job of jobs) {
      // A failover may lose the enqueue, and its sender then retries: if the batch had been sent by then, merged totals would be counted twice.
      // If it was spilled, the accounting would lack it, yet it would be delivered from the disk.
      const waits = onReplicas !== undefined && (queue === 'spill' || signalOf(job.data) === 'metrics');
      if (waits) kept ??= onReplicas();
      const mayDefer = taken.mayDefer && this.#roomOf(signalOf(job.data)).jobs > 1;
      void this.#work(job, mayDefer, waits ? kept : undefined);
    }
    kept?.catch(() => {}); // each job that awaits it reports the failure; an unreadable one ends before
    return taken;
  }

  /** @param kept resolves when the job may be handled */
  async #work(job: Given, mayDefer: boolean, kept?: Promise<void>): Promise<void> {
    const { id, data: given, attempts, payloads, epoch } = job;
    const { store, queue, handle, onError, faultDelayMs } = this.#options;
    const bytes = payloads.reduce((sum, payload) => sum + (payload?.byteLength ?? 0), 0);
    const lock: JobLock = { queue, id, token: this.#token, epoch, ended: false, mayDefer };
    const signal = signalOf(given);
    this.#running.add(id);
    this.#count(signal, 1, bytes);
    try {
      try {
        const data: unknown = typeof given === 'string' ? JSON.parse(given) : given;
        assertJobData(id, data);
        if (kept) await kept;
        await handle({ id, data, attempts, payloads, lock });
        if (!lock.ended) await store.release(lock, 'done');
      } catch (error) {
        const later = error instanceof RetryLater;
        if (!later)
          onError(new Error(`job ${id} on ${queue}: ${(error as Error).message}`, { cause: error }));
        if (!lock.ended)
          await store.release(lock, later ? error.delayMs : faultDelayMs, (error as Error).message);
        // The loop reads the delayed set only when it wakes up.
        this.#options.wakeSignal?.notify();
      }
    } catch (error) {
      onError(error as Error); // Redis is away: the lock expires, and the job is taken again
    } finally {
      this.#running.delete(id);
      this.#count(signal, -1, -bytes);
      this.#change.notify();
    }
  }

  async #extend(): Promise<void> {
    const { store, queue } = this.#options;
    try {
      await Promise.all([...this.#running].map((id) => store.extend(queue, id, LOCK_MS)));
    } catch {
      // Redis is away. If a lock expires, its batch may be sent twice, which at-least-once allows.
    }
  }
}

/** A job as read from Redis (text), or as handed off within the process. */
type Given = Omit<Taken['jobs'][number], 'data'> & { data: string | JobData };

export function bySignal<T>(value: (signal: Signal) => T): Record<Signal, T> {
  return Object.fromEntries(NAMES.map((name) => [name, value(name)])) as Record<Signal, T>;
}

/** An unreadable job counts as traces. */
function signalOf(given: string | JobData): Signal {
  const name = typeof given === 'string' ? /"signal":"(\w+)"/.exec(given)?.[1] : given.signal;
  return NAMES.find((known) => known === name) ?? 'traces';
}
