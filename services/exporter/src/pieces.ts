import { type BatchRef, type HandOverJob, type JobData, nextKey } from '@nrdot/queue';
import type { Part } from './divider.ts';

/** Jobs for the parts of a job's only batch. */
export function partsOf(job: JobData, parts: readonly Part[], names: readonly string[]): HandOverJob[] {
  const [batch] = job.batches;
  return parts.map(({ bytes, items }, i) => {
    const key = nextKey(batch!.key, names[i]!);
    return {
      queue: 'export' as const,
      data: pieceOf(job, [{ key, items, bytes: bytes.byteLength, receivedAt: batch!.receivedAt }]),
      payloads: [{ key, bytes }],
    };
  });
}

/** One job per batch. `suffix` is added to the keys, so that whoever has the old keys finds nothing. */
export function apart(job: JobData, suffix = 'm'): HandOverJob[] {
  return grouped(job, 0, suffix);
}

/** Jobs of as many batches as fit into `maxBytes`, at least one each. */
export function grouped(job: JobData, maxBytes: number, suffix = 'm'): HandOverJob[] {
  const groups: BatchRef[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const batch of job.batches) {
    if (bytes + batch.bytes > maxBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(batch);
    bytes += batch.bytes;
  }
  return groups.map((batches) => {
    const renamed = batches.map((batch) => ({ ...batch, key: nextKey(batch.key, suffix) }));
    return {
      queue: 'export' as const,
      data: pieceOf(job, renamed),
      payloads: renamed.map(({ key }, i) => ({ key, old: batches[i]!.key })),
    };
  });
}

/** The same job with some of its batches. */
export function jobOf(job: JobData, batches: BatchRef[]): JobData {
  const sum = (unit: 'items' | 'bytes') => batches.reduce((all, batch) => all + batch[unit], 0);
  return { ...job, batches, items: sum('items'), bytes: sum('bytes') };
}

/** After a hand-over the batch belongs to Redis, whatever its origin. */
function pieceOf(job: JobData, batches: BatchRef[]): JobData {
  return { ...jobOf(job, batches), origin: 'live' };
}
