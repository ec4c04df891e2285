import { Inflation } from '@nrdot/otlp';
import { type JobData, RetryLater, type Store, type TakenJob, Taker, type WakeSignal } from '@nrdot/queue';
import { type Area, type Envelope, type SegmentLog, SegmentLogError } from '@nrdot/segment-log';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { Crossing } from './crossing.ts';

export interface IntakeDeps {
  store: Store;
  concurrency: number;
  log: Logger;
  metrics: Metrics;
  segments: SegmentLog;
  /** The ledger's: batches from Redis that are on the disk, until they are settled. */
  unsettled: Set<string>;
  /** Maximum size of a payload after decompression. */
  maxBodyBytes: number;
  /** Maximum bytes of payloads in memory, as taken and of those that had to be decompressed; a larger one is written alone. */
  maxInflightBytes: number;
  /** Called when something on disk has changed. */
  changed(): void;
  /** Tests replace the blocking read of the spill queue. */
  wakeSignal?: WakeSignal;
}

/** A batch that is to be written to disk. */
export interface Spilled extends Omit<Envelope, 'class' | 'encoding'>, Pick<JobData, 'class' | 'encoding'> {
  payload: Buffer;
}

interface Written {
  area: Area;
  fresh: boolean;
}

/** When a batch that the disk has refused is tried again: after so long, and at most so many of all together per second. */
const FULL_DELAY_MS = 1_000;
const REFUSED_PER_SECOND = 200;
/** An upstream that has rejected a batch may take it when it is another one, or repaired, but is not asked often. */
const REJECTED_DELAY_MS = 6_000;
const FAULT_DELAY_MS = 1_000;
/** How often the disk refuses a batch that exporters have sent before the batch returns to the queue of its class. */
const TRIED_REFUSALS = 10;
/** Number of last ids that are remembered, so that a job that comes again after a crash is not written twice. */
const REMEMBERED_IDS = 20_000;
const REJECTED = 'rejected:';

/** Writes batches from the spill queue to the disk: append, fsync, and only then complete the job. */
export class Intake {
  readonly #d: IntakeDeps;
  readonly #taker: Taker;
  readonly #written: Set<string>;
  readonly #inflation: Inflation;
  /** By id. If the machine was frozen and a job's lock expired, the job may come again while it is being written. */
  readonly #writing = new Map<string, Promise<Written>>();
  /** When the batch that the disk has refused last is tried again, by the process's clock. */
  #nextTryMs = 0;
  /** Passed by all writes from Redis to the disk. */
  readonly crossing = new Crossing();

  constructor(deps: IntakeDeps) {
    this.#d = deps;
    this.#written = new Set(deps.segments.lastIds);
    this.#inflation = new Inflation(deps.maxInflightBytes);
    this.#taker = new Taker({
      store: deps.store,
      queue: 'spill',
      concurrency: deps.concurrency,
      maxJobs: deps.concurrency,
      maxBytes: deps.maxInflightBytes,
      wakeSignal: deps.wakeSignal,
      faultDelayMs: FAULT_DELAY_MS,
      handle: (job) => this.crossing.pass(() => this.#handle(job)),
      onError: (error) => deps.log.debug({ err: error.message }, 'spill queue'),
    });
  }

  async stop(timeoutMs: number): Promise<void> {
    await this.#taker.close(timeoutMs);
  }

  /**
   * Writes a batch, once per id.
   * @returns when it is on the disk: its position, and whether it was new
   * @throws SegmentLogError if it cannot be written
   */
  async write(spilled: Spilled): Promise<Written> {
    const { id } = spilled;
    const before = this.#writing.get(id);
    if (before) return { area: (await before).area, fresh: false };
    const bodies = [spilled.payload];
    const writing = this.#write(spilled, bodies).finally(() => {
      this.#inflation.release(bodies);
      this.#writing.delete(id);
    });
    this.#writing.set(id, writing);
    return writing;
  }

  /** Whether the batch is among the last that were written, or was written and not settled. */
  has(id: string): boolean {
    return this.#written.has(id) || this.#d.unsettled.has(id);
  }

  async #write(spilled: Spilled, bodies: Buffer[]): Promise<Written> {
    const { metrics, segments, maxBodyBytes } = this.#d;
    const endTimer = metrics.dlqCommitSeconds.startTimer();
    const { payload: held, ...rest } = spilled;
    let envelope: Envelope = rest;
    let payload = held;
    try {
      payload = await this.#inflation.decode(bodies, spilled.encoding, { maxBytes: maxBodyBytes });
    } catch (error) {
      // It was readable when it was accepted. Whatever has happened to it, keep it as it is.
      const { message } = error as Error;
      envelope = { ...rest, encoding: 'identity', reason: `${REJECTED}undecodable`, message };
    }
    const area = envelope.reason.startsWith(REJECTED) ? 'rejected' : spilled.class;
    if (this.has(spilled.id)) return { area, fresh: false };
    await segments.append(area, { envelope, payload });
    endTimer();
    this.#remember(spilled.id);
    metrics.dlqStoredItems.inc({ class: spilled.class }, spilled.items);
    metrics.dlqStoredBytes.inc(payload.byteLength);
    this.#d.changed();
    return { area, fresh: true };
  }

  async #handle({ id, data: job, payloads, attempts: refusals }: TakenJob): Promise<void> {
    const { store, log, unsettled } = this.#d;
    for (const [i, batch] of job.batches.entries()) {
      const payload = payloads[i];
      if (!payload) continue; // settled before a crash kept the job from completing
      const spilled = spilledOf(job, batch, payload);
      const written = await this.write(spilled).catch((error: unknown) => {
        if (error instanceof SegmentLogError) return error;
        throw error;
      });
      if (written instanceof SegmentLogError) {
        // It stays in Redis. Once that is full too, clients get 503 and keep their data.
        log.debug({ job: id, code: written.code }, 'the disk does not accept it now');
        // Without this, a full Redis would have nothing to try the upstream with when that works again. One that may itself have
        // made it fail, or was rejected, comes after the others.
        const isRejected = spilled.reason.startsWith(REJECTED);
        const mayGo = (!job.attempts && !isRejected) || refusals >= TRIED_REFUSALS;
        if (mayGo && (await store.takeBack(job, batch, Date.now()))) continue;
        throw new RetryLater(this.#refused(isRejected), written.message);
      }
      unsettled.add(batch.key);
      const { area } = written;
      const outcome = area === 'rejected' ? 'rejected' : 'stored';
      const settled = await store.settle({ ...job, batches: [batch] }, 'spill', { outcome });
      unsettled.delete(batch.key);
      if (settled === 0) this.#d.metrics.duplicateHandOvers.inc();
    }
  }

  /** @returns in how many ms a batch that the disk has just refused is tried again */
  #refused(isRejected: boolean): number {
    const now = performance.now();
    this.#nextTryMs = Math.max(this.#nextTryMs + 1_000 / REFUSED_PER_SECOND, now + FULL_DELAY_MS);
    return Math.max(Math.round(this.#nextTryMs - now), isRejected ? REJECTED_DELAY_MS : 0);
  }

  #remember(id: string): void {
    this.#written.add(id);
    if (this.#written.size > REMEMBERED_IDS) this.#written.delete(this.#written.values().next().value!);
  }
}

/** Why a batch was spilled is not checked when its job is taken: in a wrong type it would make the record unreadable. */
export function spilledOf(job: JobData, batch: JobData['batches'][number], payload: Buffer): Spilled {
  const { signal, class: priorityClass, encoding, reason, status, message, attempts } = job;
  return {
    ...{ id: batch.key, signal, class: priorityClass, items: batch.items, encoding },
    ...{ receivedAt: batch.receivedAt, reason: typeof reason === 'string' ? reason : 'unknown', payload },
    ...(typeof status === 'number' ? { status } : {}),
    ...(typeof message === 'string' && message !== '' ? { message } : {}),
    ...(attempts ? { attempts } : {}),
  };
}
