import { createHash } from 'node:crypto';
import type { ContentEncoding, Signal } from '@nrdot/otlp';
import { isPriorityClass, type PriorityClass } from './priority-class.ts';

export type Origin = 'live' | 'replay';

/** One batch of a job: its share of the accounting, and the key of its payload. */
export interface BatchRef {
  /**
   * The payload is at `<prefix>:payload:<key>`. The key changes with every hand-over, so that a consumer whose lock has expired
   * finds nothing.
   */
  key: string;
  items: number;
  /** Size in Redis, in the job's `encoding`. */
  bytes: number;
  /** Unix ms at which the receiver had read the whole request. */
  receivedAt: number;
}

/**
 * The data of every BullMQ job of the pipeline: small, and readable in `redis-cli`. Payloads are plain binary strings beside it
 * (the claim check). A job has one batch, or several of one signal, class, origin and encoding that the scheduler merged: their
 * requests concatenate into one.
 */
export interface JobData {
  signal: Signal;
  class: PriorityClass;
  origin: Origin;
  encoding: ContentEncoding;
  /** Sums over `batches`. */
  items: number;
  bytes: number;
  batches: BatchRef[];
  /** Why the batch was spilled; set when it goes to the dlq. */
  reason?: string;
  /** Last HTTP status of the upstream, if it answered. */
  status?: number;
  /** The upstream's last error message, shortened. */
  message?: string;
  /** Attempts of exporters before the batch was spilled. */
  attempts?: number;
}

/**
 * Options stored with every job. Attempts are unlimited here: the exporter counts them and hands the batch over when they are
 * used up. `backoff` names the exporter's own strategy.
 */
export const JOB_OPTIONS = JSON.stringify({
  attempts: 1_000_000_000,
  backoff: { type: 'retry' },
  removeOnComplete: true,
  stackTraceLimit: 0,
});

export interface Batch
  extends Pick<JobData, 'signal' | 'class' | 'origin' | 'encoding' | 'items' | 'attempts'>,
    Pick<BatchRef, 'receivedAt'> {
  /** Starts with a letter and has no colon (a BullMQ job id). */
  id: string;
  payload: Uint8Array;
}

export function jobDataOf(batch: Batch): JobData {
  const { signal, class: priorityClass, origin, encoding, items, attempts } = batch;
  const bytes = batch.payload.byteLength;
  const batches = [{ key: batch.id, items, bytes, receivedAt: batch.receivedAt }];
  const data = { signal, class: priorityClass, origin, encoding, items, bytes, batches };
  return attempts ? { ...data, attempts } : data;
}

/** Validates job data from Redis, where others may have written it. @throws Error naming the job and the field */
export function assertJobData(id: string, data: unknown): asserts data is JobData {
  const job = data as Partial<JobData> | null;
  const fail = (field: string): never => {
    throw new Error(`job ${id}: field "${field}" is missing or malformed; expected the pipeline's job data`);
  };
  if (typeof job !== 'object' || job === null) return fail('(root)');
  if (typeof job.signal !== 'string') fail('signal');
  if (!isPriorityClass(job.class)) fail('class');
  if (typeof job.encoding !== 'string') fail('encoding');
  if (!Array.isArray(job.batches) || job.batches.length === 0) return fail('batches');
  for (const batch of job.batches) if (typeof batch?.key !== 'string') fail('batches[].key');
}

const KEY_MAX_CHARS = 64;

/** Replaces a too long key by its beginning and a hash of the whole: unique, with the first letter, which tells its origin. */
export function foldKey(key: string): string {
  if (key.length <= KEY_MAX_CHARS) return key;
  return `${key.slice(0, KEY_MAX_CHARS / 2)}-${createHash('sha256').update(key).digest('hex').slice(0, 20)}`;
}

/** The key of a payload after a hand-over. `suffix` is one lower-case letter, which tells what it was handed over for. */
export function nextKey(key: string, suffix: string): string {
  return foldKey(key.includes('-') ? key + suffix : `${key}-${suffix}`);
}

let sequence = Math.floor(Math.random() * 36 ** 4);

/** `b`, the time in ms, a per-process sequence and 40 random bits: ids sort by time and are unique across receivers. */
export function newBatchId(nowMs: number): string {
  sequence = (sequence + 1) % 36 ** 4;
  const random = Math.floor(Math.random() * 2 ** 40);
  return `b${nowMs.toString(36).padStart(9, '0')}${sequence.toString(36).padStart(4, '0')}${random.toString(36).padStart(8, '0')}`;
}

/** When a batch was received, Unix ms, from its id or a key derived from it; undefined for ids in another format. */
export function timeOfBatch(key: string): number | undefined {
  const [, digits] = /^[rx]?b([0-9a-z]{9})[0-9a-z]{12}/.exec(key) ?? [];
  return digits === undefined ? undefined : Number.parseInt(digits, 36);
}
