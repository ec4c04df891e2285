import type { JobData } from './batch.ts';
import { stageField } from './depth.ts';
import type { HandOverJob } from './steps.ts';

/**
 * Builds the argument of the hand-over script.
 * @returns the order, and the new payloads, which must be written before the script runs
 */
export function handOverOrder(
  job: JobData,
  jobs: readonly HandOverJob[],
  push: 'last' | 'next',
): { order: object; added: { key: string; bytes: Uint8Array }[] } {
  const added: { key: string; bytes: Uint8Array }[] = [];
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
      batches: data.batches.map(({ key, items, bytes }, i) => {
        const payload = payloads[i];
        if (payload && 'bytes' in payload) added.push({ key, bytes: payload.bytes });
        return { key, items, bytes, old: payload && 'old' in payload ? payload.old : undefined };
      }),
    })),
  };
  return { order, added };
}
