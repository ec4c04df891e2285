import { BLOCK_MAX_MS, type RedisConnection } from '@nrdot/redis';
import { UnrecoverableError, Worker } from 'bullmq';
import { assertJobData, type JobData } from './batch.ts';
import { type Consumer, RetryLater } from './consumer.ts';

export interface ConsumeOptions {
  queue: 'export' | 'spill';
  prefix: string;
  concurrency: number;
  /** Consumer connection; the worker opens another one for blocking reads. */
  connection: RedisConnection;
  /**
   * `attempts` is the number of earlier attempts.
   * @throws RetryLater to retry the job after its delay; after any other error it is retried after `faultDelayMs`
   */
  handle(id: string, job: JobData, attempts: number): Promise<void>;
  /** For errors of Redis and of handlers, to be logged. */
  onError(error: Error): void;
  faultDelayMs: number;
}

// A worker that is frozen for longer than its lock may have its batch delivered twice. The stalled limit is out of reach, so
// that a batch never fails because of two crashes.
const LOCK_MS = 10_000;
const STALLED_CHECK_MS = 2_500;
const STALLED_LIMIT = 1_000_000;

/** Starts a BullMQ worker on one of the pipeline's queues. Not in the index: BullMQ is 3 MB that most services do not use. */
export function consume(options: ConsumeOptions): Consumer {
  const worker = new Worker<JobData>(
    options.queue,
    async (job) => {
      try {
        assertJobData(job.id ?? '?', job.data);
      } catch (error) {
        throw new UnrecoverableError((error as Error).message); // stays in the failed set with this as the reason
      }
      await options.handle(job.id ?? '', job.data, job.attemptsMade);
    },
    {
      connection: options.connection,
      prefix: options.prefix,
      concurrency: options.concurrency,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_MS,
      maxStalledCount: STALLED_LIMIT,
      drainDelay: BLOCK_MAX_MS / 1000,
      removeOnComplete: { count: 0 },
      settings: {
        backoffStrategy: (_attempts, _type, error) =>
          error instanceof RetryLater ? Math.max(1, Math.round(error.delayMs)) : options.faultDelayMs,
      },
    },
  );
  worker.on('error', options.onError);
  worker.on('failed', (job, error) => {
    if (!(error instanceof RetryLater)) {
      options.onError(
        new Error(`job ${job?.id ?? '?'} on ${options.queue}: ${error.message}`, { cause: error }),
      );
    }
  });
  return {
    close: async (timeoutMs) => {
      const deadline = new Promise<'late'>((resolve) => setTimeout(() => resolve('late'), timeoutMs).unref());
      const closed = worker.close().then(() => 'closed' as const);
      closed.catch(() => {}); // the connection may be closed first
      // Without Redis, closing may never finish; it ends when the connection is closed.
      if ((await Promise.race([closed, deadline])) === 'late') worker.close(true).catch(() => {});
    },
    pause: () => worker.pause(true),
    resume: () => worker.resume(),
    setConcurrency: (jobs) => {
      worker.concurrency = jobs;
    },
  };
}
