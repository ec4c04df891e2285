/**
 * The queues are BullMQ's in both directions: what it writes the pipeline's scripts read, and what they write it reads, for every
 * structure that both touch. What docs/redis.md says of BullMQ's API is what is seen here.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import {
  BULLMQ_MAJOR,
  InProcessHandOff,
  type JobData,
  type JobLock,
  jobDataOf,
  keysOf,
  otherLayouts,
  type QueueName,
  RetryLater,
  Store,
  Taker,
  WakeSignal,
} from '@nrdot/queue';
import { inspectServer } from '@nrdot/redis';
import { waitUntil } from '@nrdot/testbed';
import { Queue, QueueEvents, UnrecoverableError, Worker } from 'bullmq';
import { afterEach, describe, expect, it } from 'vitest';
import { batch, enqueue, MOVE, OPTIONS, open, redis, store, useStore } from './store-on-redis.ts';

useStore();

const keys = keysOf(OPTIONS.prefix);
const LIMITS = { token: 'ours', lockMs: 60_000, maxJobs: 64, maxBytes: 1e6, alone: true, lookForLost: false };
const JOB = {
  attempts: 1_000_000_000,
  backoff: { type: 'retry' },
  removeOnComplete: true,
  stackTraceLimit: 0,
};

const opened: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});
function bull(name: QueueName): Queue {
  const queue = new Queue(name, { connection: redis, prefix: OPTIONS.prefix });
  opened.push(queue);
  return queue;
}
function worker(
  name: QueueName,
  work: (data: JobData, id: string) => Promise<void>,
  lockDuration = 30_000,
): Worker {
  const connection = open();
  const made = new Worker<JobData>(name, async (job) => work(job.data, job.id!), {
    connection,
    prefix: OPTIONS.prefix,
    lockDuration,
    stalledInterval: 50,
    maxStalledCount: 10,
    settings: { backoffStrategy: () => 50 },
  });
  made.on('error', () => {});
  opened.push({ close: () => Promise.resolve(connection.disconnect()) }, made);
  return made;
}
const held = (queue: 'export', id: string): JobLock => ({ queue, id, token: 'ours', ended: false });
const take = () => store.take('export', LIMITS);

/** A payload as an enqueue leaves it, and its job's data. */
async function payload(priorityClass: 'critical' | 'high' | 'normal' = 'high') {
  const one = batch(priorityClass);
  await redis.set(keys.payload(one.id), one.payload as Buffer);
  return { id: one.id, data: jobDataOf(one) };
}
/** One that BullMQ puts into a queue. */
async function added(name: QueueName, options: object = {}) {
  const { id, data } = await payload();
  const queue = bull(name);
  await queue.add(data.signal, data, { ...JOB, jobId: id, ...options });
  return { id, queue };
}
/** One that is in the export queue as the scripts put it there. */
async function exporting(): Promise<string> {
  const one = batch('high');
  await enqueue(one);
  await store.move(MOVE);
  return one.id;
}

it('is tied to the installed version', () => {
  const { version } = JSON.parse(
    readFileSync(createRequire(import.meta.url).resolve('bullmq/package.json'), 'utf8'),
  ) as { version: string };
  expect(version.startsWith(`${BULLMQ_MAJOR}.`)).toBe(true);
});

it('another version of BullMQ on a queue is a warning until that is resolved', async () => {
  const warnings = async () =>
    (
      await inspectServer(redis, OPTIONS.prefix, {
        durability: 'always',
        maxBytes: 1,
        warningsOf: (on) => otherLayouts(on, OPTIONS.prefix),
      })
    ).warnings;
  const before = await warnings();
  await bull('high').waitUntilReady();
  await waitUntil(async () => (await redis.hget(keys.queue('high', 'meta'), 'version')) !== null, {
    what: 'BullMQ has recorded it',
  });
  expect(await warnings()).toEqual(before);
  await redis.hset(keys.queue('normal', 'meta'), 'version', 'bullmq:5.8.2');
  expect(await warnings()).toEqual([
    ...before,
    expect.stringMatching(/^the queue normal was last opened by bullmq:5\.8\.2; expected BullMQ 6/),
  ]);
});

describe('BullMQ writes, the scripts read', () => {
  it('wait: a job of `add` is moved and taken', async () => {
    const { id } = await added('high');
    expect((await store.move(MOVE)).jobs).toBe(1);
    expect((await take()).jobs.map((job) => job.id)).toEqual([id]);
  });

  it('wait in order: the oldest first, `lifo` before it', async () => {
    const first = await added('export');
    const second = await added('export');
    const third = await added('export', { lifo: true });
    expect((await take()).jobs.map((job) => job.id)).toEqual([third.id, first.id, second.id]);
  });

  it('delayed with its marker: a job of `add` with a delay is announced, and taken when due', async () => {
    const { id } = await added('export', { delay: 300 });
    const early = await take();
    expect(early.jobs).toEqual([]);
    expect(early.nextInMs).toBeGreaterThan(0);
    expect(early.nextInMs).toBeLessThanOrEqual(300);
    await waitUntil(async () => (await take()).jobs.some((job) => job.id === id), { what: 'it was taken' });
  });

  it('delayed: a job returned by a worker of BullMQ is taken, with its attempts', async () => {
    const id = await exporting();
    const w = worker('export', async () => {
      throw new Error('not now');
    });
    await waitUntil(async () => (await redis.zcard(keys.queue('export', 'delayed'))) === 1, {
      what: 'it is delayed',
    });
    await w.close();
    let attempts = 0;
    await waitUntil(
      async () => {
        const [job] = (await take()).jobs;
        if (job?.id === id) attempts = job.attempts;
        return attempts > 0;
      },
      { what: 'it was taken' },
    );
    expect(attempts).toBeGreaterThanOrEqual(1);
    expect(await bull('export').getJob(id)).toMatchObject({ failedReason: 'not now' });
  });

  it('lock: a job held by a worker of BullMQ is not taken, but one whose worker is gone is', async () => {
    const id = await exporting();
    let letGo = () => {};
    const works = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const w = worker('export', () => works);
    await waitUntil(async () => (await redis.llen(keys.queue('export', 'active'))) === 1, {
      what: 'it is active',
    });
    expect((await store.take('export', { ...LIMITS, lookForLost: true })).jobs).toEqual([]);
    expect(await store.release(held('export', id), 'done')).toBe(false);
    letGo();
    await w.close();
    // As a worker leaves it that was killed.
    const second = await exporting();
    await redis.rpoplpush(keys.queue('export', 'wait'), keys.queue('export', 'active'));
    expect((await store.take('export', { ...LIMITS, lookForLost: true })).jobs.map((job) => job.id)).toEqual([
      second,
    ]);
  });

  it('paused: nothing enters or leaves a paused export queue, whatever the breaker does', async () => {
    await exporting();
    const queue = bull('export');
    await queue.pause();
    expect((await take()).jobs).toEqual([]);
    await enqueue(batch('high'));
    expect((await store.move(MOVE)).jobs).toBe(0);
    await queue.resume();
    expect((await store.move(MOVE)).jobs).toBe(1);
    expect((await take()).jobs).toHaveLength(2);
  });

  it('paused: a class queue keeps its jobs and new ones, while the others flow', async () => {
    const queue = bull('high');
    await queue.pause();
    await enqueue(batch('high'), batch('normal'));
    expect((await store.move(MOVE)).items).toEqual({ critical: 0, high: 0, normal: 10 });
    const handOff = new InProcessHandOff();
    handOff.owner = {
      reserveSlot: () => ({ token: 'one', lockMs: 60_000, start: () => {}, release: () => {} }),
    };
    const options = { ...OPTIONS, exportWindow: { batches: 9, bytes: 1e6 } };
    const direct = new Store(redis, options, {
      scheduler: new WakeSignal(),
      exporter: new WakeSignal(),
      handOff,
    });
    await redis.del(keys.queue('high', 'wait'), keys.queue('export', 'wait'));
    expect(await direct.enqueue([[batch('high')]], Date.now())).toEqual([['queued']]);
    expect((await store.move(MOVE)).jobs).toBe(0);
    await queue.resume();
    expect((await store.move(MOVE)).items.high).toBe(10);
  });

  it('stalled: a job that BullMQ returns after its worker froze is taken', async () => {
    const id = await exporting();
    await redis.rpoplpush(keys.queue('export', 'wait'), keys.queue('export', 'active'));
    await redis.sadd(keys.queue('export', 'stalled'), id);
    const queue = bull('export');
    await queue.pause(); // its worker looks for stalled jobs and takes none
    const w = worker('export', async () => {});
    await waitUntil(async () => (await redis.llen(keys.queue('export', 'wait'))) === 1, {
      what: 'it waits again',
    });
    await w.close();
    await queue.resume();
    expect((await take()).jobs.map((job) => job.id)).toEqual([id]);
  });

  it('failed: a permanently failed job returns with `retryJobs` of BullMQ', async () => {
    const id = await exporting();
    const w = worker('export', async () => {
      throw new UnrecoverableError('never');
    });
    await waitUntil(async () => (await redis.zcard(keys.queue('export', 'failed'))) === 1, {
      what: 'it has failed',
    });
    await w.close();
    expect((await take()).jobs).toEqual([]);
    await bull('export').retryJobs();
    expect((await take()).jobs.map((job) => job.id)).toEqual([id]);
    await store.settle(
      jobDataOf({ ...batch('high'), id }),
      'export',
      { outcome: 'delivered' },
      held('export', id),
    );
    expect(await redis.exists(keys.queue('export', id))).toBe(0);
  });
});

describe('the scripts write, BullMQ reads', () => {
  const counts = async (name: QueueName) => {
    const all = await bull(name).getJobCounts();
    return Object.fromEntries(Object.entries(all).filter(([, n]) => n > 0));
  };

  it('wait: counts, jobs and their state', async () => {
    const one = batch('high');
    await enqueue(one);
    expect(await counts('high')).toEqual({ waiting: 1 });
    const [job] = await bull('high').getWaiting();
    expect(job).toMatchObject({ id: one.id, name: 'traces', data: jobDataOf(one), attemptsMade: 0 });
    expect(await job!.getState()).toBe('waiting');
    await store.move(MOVE);
    expect(await counts('high')).toEqual({});
    expect(await counts('export')).toEqual({ waiting: 1 });
    expect((await bull('export').getWaiting())[0]).toMatchObject({
      id: one.id,
      opts: { attempts: 1_000_000_000 },
    });
  });

  it('a worker of BullMQ takes jobs from the scripts, woken by their marker', async () => {
    const seen: string[] = [];
    const w = worker('export', async (_, id) => void seen.push(id));
    await w.waitUntilReady();
    const id = await exporting();
    await waitUntil(() => seen.length === 1, { what: 'it was taken' });
    expect(seen).toEqual([id]);
  });

  it('active and lock: a job taken by an exporter is active, with its token', async () => {
    const id = await exporting();
    await take();
    expect(await counts('export')).toEqual({ active: 1 });
    expect(await (await bull('export').getJob(id))!.getState()).toBe('active');
    expect(await redis.get(`${keys.queue('export', id)}:lock`)).toBe('ours');
    // No worker takes it for stalled while the lock holds.
    const seen: string[] = [];
    worker('export', async (_, other) => void seen.push(other));
    await waitUntil(async () => (await redis.exists(keys.queue('export', 'stalled-check'))) === 1, {
      what: 'the worker has checked for stalled jobs',
    });
    expect(seen).toEqual([]);
    expect(await store.release(held('export', id), 1)).toBe(true);
    await waitUntil(() => seen.length === 1, { what: 'it was taken' });
  });

  it('delayed with its marker: a worker of BullMQ takes it when due, and sees the attempts', async () => {
    const id = await exporting();
    await take();
    await store.release(held('export', id), 200);
    expect(await counts('export')).toEqual({ delayed: 1 });
    const [job] = await bull('export').getDelayed();
    expect(job).toMatchObject({ id, attemptsMade: 1, delay: 200 });
    const seen: string[] = [];
    worker('export', async (_, taken) => void seen.push(taken));
    await waitUntil(() => seen.length === 1, { what: 'it was taken' });
    expect(seen).toEqual([id]);
  });

  it('failedReason: a batch that waits for a retry has the reason, also visible in the queue', async () => {
    await exporting();
    const taker = new Taker({
      store,
      queue: 'export',
      concurrency: 1,
      maxBytes: 1e6,
      faultDelayMs: 60_000,
      handle: async () => {
        throw new RetryLater(60_000, `throttled: 429 slow down\u0000${'x'.repeat(1_000)}`);
      },
      onError: () => {},
    });
    await waitUntil(async () => (await redis.zcard(keys.queue('export', 'delayed'))) === 1, {
      what: 'it waits',
    });
    await taker.close(1_000);
    const [job] = await bull('export').getDelayed();
    expect(job!.failedReason).toMatch(/^throttled: 429 slow down x{200,}$/);
    expect(job!.failedReason.length).toBeLessThanOrEqual(300);
  });

  it('failed: foreign jobs, with the reason', async () => {
    await bull('high').add('x', {});
    await store.move(MOVE);
    expect(await counts('high')).toEqual({ failed: 1 });
    const [job] = await bull('high').getFailed();
    expect(job).toMatchObject({
      failedReason: expect.stringMatching(/data\.signal is none of .*; expected a job of the pipeline/),
    });
    expect(job!.finishedOn).toBeGreaterThan(1e12);
    expect(await job!.getState()).toBe('failed');
  });

  it('spill: drained jobs are taken by a worker of BullMQ', async () => {
    await enqueue(batch('high'), batch('normal'));
    await store.move({ ...MOVE, maxPicks: 1 });
    for (let i = 0; i < OPTIONS.breaker.failures; i++) await reportFailure();
    expect(await store.drain(10, Date.now())).toBe(2);
    expect(await counts('spill')).toEqual({ waiting: 2 });
    const reasons: unknown[] = [];
    worker('spill', async (data) => void reasons.push(data.reason));
    await waitUntil(() => reasons.length === 2, { what: 'both were accepted' });
    expect(reasons).toEqual(['breaker:failures', 'breaker:failures']);
  });

  it('completed: nothing is left', async () => {
    const id = await exporting();
    const [job] = (await take()).jobs;
    await store.settle(
      JSON.parse(job!.data) as JobData,
      'export',
      { outcome: 'delivered' },
      held('export', id),
    );
    expect(await counts('export')).toEqual({});
    expect(await redis.keys(`${keys.queue('export', 'b')}*`)).toEqual([]);
  });
});

describe('what docs/redis.md says of BullMQ’s API', () => {
  it('`retryJobs` and `job.retry` return jobs from the failed set of a class queue', async () => {
    const [one, two] = [batch('high'), batch('high')];
    await enqueue(one, two);
    for (const { id } of [one, two]) {
      await redis.lrem(keys.queue('high', 'wait'), 1, id);
      await redis.zadd(keys.queue('high', 'failed'), Date.now(), id);
    }
    await (await bull('high').getJob(one.id))!.retry();
    await bull('high').retryJobs();
    expect((await store.move(MOVE)).jobs).toBe(2);
  });

  it('`pause` of the spill queue holds what is in it', async () => {
    const queue = bull('spill');
    await queue.pause();
    await enqueue(batch('high'), batch('high'));
    await redis.hset(keys.breaker('traces'), { state: 'open', retry_at: Date.now() + 60_000 });
    expect(await store.drain(10, Date.now())).toBe(2);
    expect((await store.take('spill', LIMITS)).jobs).toEqual([]);
    await queue.resume();
    expect((await store.take('spill', LIMITS)).jobs).toHaveLength(2);
  });

  it('`remove` leaves the payload without a job, until the doctor repairs it', async () => {
    const one = batch('high');
    await enqueue(one);
    await bull('high').remove(one.id);
    expect((await store.move(MOVE)).jobs).toBe(0);
    expect(await redis.exists(keys.payload(one.id))).toBe(1);
  });

  it('`changePriority` hides a job from the scripts', async () => {
    const one = batch('high');
    await enqueue(one);
    await (await bull('high').getJob(one.id))!.changePriority({ priority: 1 });
    expect((await store.move(MOVE)).jobs).toBe(0);
  });

  it('`QueueEvents` reports what BullMQ does, not what the scripts do', async () => {
    const connection = open();
    const events = new QueueEvents('high', { connection, prefix: OPTIONS.prefix });
    opened.push({ close: () => Promise.resolve(connection.disconnect()) }, events);
    await events.waitUntilReady();
    const heard: string[] = [];
    events.on('waiting', ({ jobId }) => heard.push(jobId));
    await enqueue(batch('high'));
    const { id } = await added('high');
    await waitUntil(() => heard.length > 0, { what: 'one was reported' });
    expect(heard).toEqual([id]);
  });

  it('`setGlobalConcurrency` is ignored', async () => {
    await bull('export').setGlobalConcurrency(1);
    await enqueue(batch('high'), batch('high'));
    await store.move(MOVE);
    expect((await take()).jobs).toHaveLength(2);
  });
});

async function reportFailure(): Promise<void> {
  await store.report('traces', 'failure', 0);
}
