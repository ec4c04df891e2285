import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { SIGNALS, type Signal } from '@nrdot/otlp';
import { Cluster } from 'ioredis';
import { assertJobData, type JobData } from './batch.ts';
import type { Bell } from './bell.ts';
import { BLOCK_MAX_MS, type RedisConnection } from './connection.ts';
import { type Consumer, RetryLater } from './consumer.ts';
import type { Place, PlaceKeeper } from './direct-lane.ts';
import type { Held, Taken } from './steps.ts';
import type { Store } from './store.ts';
import { WakeSignal } from './wake-signal.ts';

export interface TakeOptions {
  store: Store;
  /** Of each signal. */
  concurrency: number;
  /** Payload bytes of all jobs in flight; one of each signal passes alone rather than never. */
  maxBytes: number;
  /** Rung when there may be a job; without it a blocking read on a connection of its own tells. */
  bell?: Bell | undefined;
  /**
   * `payloads` are those of the job's batches, in order; `null` where a batch was settled or handed over already.
   * `held` is for a settlement that completes the job in the same step.
   * @throws RetryLater to have it again later; anything else is a fault, and it comes again after `faultDelayMs`
   */
  handle(job: TakenJob): Promise<void>;
  onError(error: Error): void;
  faultDelayMs: number;
}

export interface TakenJob {
  id: string;
  data: JobData;
  /** How often it was tried before. */
  attempts: number;
  payloads: (Buffer | null)[];
  held: Held;
}

const LOCK_MS = 10_000;
const EXTEND_MS = 3_000;
/** Jobs of consumers that are gone are looked for this often. */
const LOST_CHECK_MS = 2_500;
const FAULT_PAUSE_MS = 500;
const TAKE_MAX_JOBS = 16;
/** While one signal has all it may have, others are looked for so often. */
const OTHERS_CHECK_MS = 10;
/** Of the bytes, a signal leaves the others the rest. */
const SIGNAL_SHARE = 0.75;
const NAMES = Object.keys(SIGNALS) as Signal[];

/**
 * The export queue's consumer. It does what BullMQ's worker does, in the same layout and beside such workers, with one
 * round trip to take jobs with their payloads and one to end each (settled, reported to the breaker and completed in
 * one step): four scripts per batch where there were nine, and no blocking reads in one process.
 */
export class Taker implements Consumer, PlaceKeeper {
  readonly #options: TakeOptions;
  readonly #sleeper: RedisConnection | undefined;
  readonly #marker: WakeSignal | undefined;
  readonly #token = randomBytes(12).toString('hex');
  readonly #running = new Map<string, { signal: Signal; bytes: number }>();
  readonly #extender: NodeJS.Timeout;
  readonly #done: Promise<void>;
  readonly #concurrency: Record<Signal, number>;
  #bytes = 0;
  /** What is in flight, or has a place kept while it is on its way into Redis, by signal. */
  readonly #under: Record<Signal, { jobs: number; bytes: number }>;
  #paused = false;
  #closing = false;
  /** Wakes the loop when a slot is free or the state has changed. */
  #change: (() => void) | undefined;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: TakeOptions) {
    this.#options = options;
    const { concurrency } = options;
    this.#concurrency = {
      traces: concurrency,
      metrics: concurrency,
      logs: concurrency,
      profiles: concurrency,
    };
    const none = () => ({ jobs: 0, bytes: 0 });
    this.#under = { traces: none(), metrics: none(), logs: none(), profiles: none() };
    this.#sleeper = options.bell ? undefined : another(options.store.redis);
    this.#sleeper?.on('error', () => {}); // the store's connection says so
    this.#marker =
      this.#sleeper && new WakeSignal(this.#sleeper, options.store.keys.queue('export', 'marker'));
    this.#extender = setInterval(() => void this.#extend(), EXTEND_MS).unref();
    this.#done = this.#run();
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closing = true;
    this.#options.bell?.ring();
    this.#sleeper?.disconnect();
    this.#changed();
    const deadline = performance.now() + timeoutMs;
    // Without Redis the loop may hang in a command: what it took then is another consumer's once the locks run out.
    await Promise.race([this.#done, wait(timeoutMs, undefined, { ref: false })]);
    while (this.#running.size > 0 && performance.now() < deadline) {
      await this.#untilChange(deadline - performance.now());
    }
    clearInterval(this.#extender);
  }

  async pause(): Promise<void> {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#changed();
  }

  /** @param signal without it, for each of them */
  setConcurrency(jobs: number, signal?: Signal): void {
    for (const name of signal ? [signal] : NAMES) this.#concurrency[name] = jobs;
    this.#changed();
  }

  keepPlace(signal: Signal, bytes: number): Place | undefined {
    const { jobs, bytes: room } = this.#roomOf(signal);
    const full = jobs <= 0 || bytes > room || this.#bytes + bytes > this.#options.maxBytes;
    if (this.#paused || this.#closing || full) return undefined;
    this.#count(signal, 1, bytes);
    const free = () => {
      this.#count(signal, -1, -bytes);
      this.#changed();
    };
    return {
      token: this.#token,
      lockMs: LOCK_MS,
      start: (id, data, payload, epoch) => {
        this.#count(signal, -1, -bytes);
        // With the last place taken, the next batch would have to wait for this one's end.
        const unhurried = this.#roomOf(signal).jobs > 1;
        void this.#work({ id, data, attempts: 0, payloads: [payload], epoch }, unhurried);
      },
      free,
    };
  }

  #count(signal: Signal, jobs: number, bytes: number): void {
    this.#bytes += bytes;
    const under = this.#under[signal];
    under.jobs += jobs;
    under.bytes += bytes;
  }

  #roomOf(signal: Signal): { jobs: number; bytes: number; alone: boolean } {
    const { jobs, bytes } = this.#under[signal];
    return {
      jobs: this.#concurrency[signal] - jobs,
      bytes: this.#options.maxBytes * SIGNAL_SHARE - bytes,
      alone: jobs === 0,
    };
  }

  async #run(): Promise<void> {
    while (!this.#closing) {
      const free = NAMES.reduce((sum, signal) => sum + Math.max(0, this.#roomOf(signal).jobs), 0);
      const room = Math.min(TAKE_MAX_JOBS, free);
      if (this.#paused || room <= 0) {
        await this.#untilChange(BLOCK_MAX_MS);
        continue;
      }
      try {
        const { jobs, waiting, nextInMs, heldBack } = await this.#take(room);
        if (this.#closing) return;
        if (jobs.length === room) continue; // there may be more, and more places
        if (waiting === 0) await this.#sleep(nextInMs < 0 ? BLOCK_MAX_MS : Math.min(BLOCK_MAX_MS, nextInMs));
        else if (heldBack > 0) await this.#untilChange(OTHERS_CHECK_MS);
        // Full by bytes before everything was taken: there is more, but not for now.
        else if (this.#running.size > 0) await this.#untilChange(BLOCK_MAX_MS);
      } catch (error) {
        if (this.#closing) return;
        this.#options.onError(error as Error);
        await this.#untilChange(FAULT_PAUSE_MS);
      }
    }
  }

  /** Takes what there is room for and starts it. */
  async #take(room: number): Promise<Taken> {
    const { store, maxBytes } = this.#options;
    const now = performance.now();
    const lookForLost = now - this.#lookedAtMs >= LOST_CHECK_MS;
    if (lookForLost) this.#lookedAtMs = now;
    const taken = await store.take('export', {
      token: this.#token,
      lockMs: LOCK_MS,
      maxJobs: room,
      maxBytes: maxBytes - this.#bytes,
      alone: this.#running.size === 0,
      lookForLost,
      signals: Object.fromEntries(NAMES.map((signal) => [signal, this.#roomOf(signal)])),
    });
    const { jobs, onReplicas } = taken;
    let kept: Promise<void> | undefined;
    for (const job of jobs) {
      // What a failover takes back, its sender sends again: merged totals would have it twice if it had left already.
      const waits = onReplicas !== undefined && signalOf(job.data) === 'metrics';
      if (waits) kept ??= onReplicas();
      void this.#work(job, false, waits ? kept : undefined);
    }
    kept?.catch(() => {}); // those that wait say so; one that cannot be read has ended before it waits
    return taken;
  }

  /**
   * @param unhurried whether its end may wait a moment
   * @param kept when it may be handled
   */
  async #work(
    { id, data: given, attempts, payloads, epoch }: Given,
    unhurried = false,
    kept?: Promise<void>,
  ): Promise<void> {
    const { store, handle, onError, faultDelayMs } = this.#options;
    const bytes = payloads.reduce((sum, payload) => sum + (payload?.byteLength ?? 0), 0);
    const held: Held = { queue: 'export', id, token: this.#token, epoch, ended: false, unhurried };
    const signal = signalOf(given);
    this.#running.set(id, { signal, bytes });
    this.#count(signal, 1, bytes);
    try {
      try {
        const data: unknown = typeof given === 'string' ? JSON.parse(given) : given;
        assertJobData(id, data);
        if (kept) await kept;
        await handle({ id, data, attempts, payloads, held });
        if (!held.ended) await store.leave(held, 'done');
      } catch (error) {
        const later = error instanceof RetryLater;
        if (!later) onError(new Error(`job ${id} on export: ${(error as Error).message}`, { cause: error }));
        if (!held.ended)
          await store.leave(held, later ? error.delayMs : faultDelayMs, (error as Error).message);
        // The delayed set is looked at when the sleep ends: make that soon enough.
        this.#options.bell?.ring();
      }
    } catch (error) {
      onError(error as Error); // Redis is away: the lock runs out, and the job is taken again
    } finally {
      this.#running.delete(id);
      this.#count(signal, -1, -bytes);
      this.#changed();
    }
  }

  async #sleep(timeoutMs: number): Promise<void> {
    const { bell } = this.#options;
    await (bell ?? this.#marker!).wait(timeoutMs);
  }

  /** Waits until a job has ended, the concurrency has changed or it is to close. */
  async #untilChange(timeoutMs: number): Promise<void> {
    if (timeoutMs <= 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      const before = this.#change;
      this.#change = () => {
        clearTimeout(timer);
        before?.();
        resolve();
      };
    });
  }

  #changed(): void {
    const wake = this.#change;
    this.#change = undefined;
    wake?.();
  }

  async #extend(): Promise<void> {
    const { store } = this.#options;
    try {
      await Promise.all([...this.#running.keys()].map((id) => store.extend('export', id, LOCK_MS)));
    } catch {
      // Redis is away; a lock that runs out means a batch may be sent twice, which the promises allow.
    }
  }
}

/** A job as Redis has it, or as it was made. */
type Given = Omit<Taken['jobs'][number], 'data'> & { data: string | JobData };

/** What nobody can read counts as one of the traces. */
function signalOf(given: string | JobData): Signal {
  const name = typeof given === 'string' ? /"signal":"(\w+)"/.exec(given)?.[1] : given.signal;
  return NAMES.find((known) => known === name) ?? 'traces';
}

/** A connection of the same kind, for blocking reads. */
function another(connection: RedisConnection): RedisConnection {
  return connection instanceof Cluster ? connection.duplicate() : connection.duplicate();
}
