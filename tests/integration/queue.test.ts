/** On a real redis-server: how jobs lie in Redis, change hands and outlive crashes. */
import { type JobData, jobDataOf, reclaim } from '@nrdot/queue';
import { waitUntil } from '@nrdot/testbed';
import { Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import {
  batch,
  enqueue,
  exported,
  MOVE,
  OPTIONS,
  open,
  payloads,
  redis,
  server,
  store,
  useStore,
} from './store-on-redis.ts';

interface Outlet {
  _write(chunk: Buffer, encoding: string, done: () => void): void;
  _writev(chunks: { chunk: Buffer }[], done: () => void): void;
}

useStore();

describe('jobs', () => {
  it('have the same layout in Redis as those of BullMQ', async () => {
    const [ours, theirs] = [batch('high'), batch('high')];
    await enqueue(ours);
    const queue = new Queue('high', { connection: redis, prefix: OPTIONS.prefix });
    await queue.add('traces', jobDataOf(theirs), {
      jobId: theirs.id,
      attempts: 1_000_000_000,
      backoff: { type: 'retry' },
      removeOnComplete: true,
      stackTraceLimit: 0,
    });
    const hash = async (id: string) => {
      const { data, timestamp, ...rest } = await redis.hgetall(store.keys.queue('high', id));
      return {
        ...rest,
        data: { ...JSON.parse(data!), batches: 1 },
        timed: Number(timestamp) > 1e12,
        opts: { ...JSON.parse(rest.opts!), jobId: undefined },
      };
    };
    expect(await hash(ours.id)).toEqual(await hash(theirs.id));
    expect(await redis.type(store.keys.queue('high', 'wait'))).toBe('list');
    expect(await queue.getJobCounts('wait')).toEqual({ wait: 2 });
    expect((await queue.getJob(ours.id))?.data).toEqual(jobDataOf(ours));
    expect(await queue.getWaiting()).toHaveLength(2);
    await queue.close();
  });

  it('are taken by BullMQ workers, released for a retry, and gone when completed', async () => {
    await enqueue(batch('normal'));
    await store.move(MOVE);
    const seen: number[] = [];
    const connection = open();
    const worker = new Worker<JobData>(
      'export',
      async ({ data, attemptsMade }) => {
        seen.push(attemptsMade);
        if (attemptsMade < 2) throw new Error('not now');
        await store.settle(data, 'export', { outcome: 'delivered' });
      },
      { connection, prefix: OPTIONS.prefix, settings: { backoffStrategy: () => 20 } },
    );
    await waitUntil(async () => (await store.books()).delivered === 10, { what: 'it was delivered' });
    expect(seen).toEqual([0, 1, 2]);
    await waitUntil(async () => (await redis.keys('{test}:export:b*')).length === 0, {
      what: 'the job is gone',
    });
    expect((await store.depth()).total).toEqual({ batches: 0, items: 0, bytes: 0 });
    await worker.close();
    connection.disconnect();
  });
});

describe('a batch that the disk does not take', () => {
  /** Spills a batch. @returns its job */
  const spilled = async (attempts: number): Promise<JobData> => {
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [{ batches, ...job }] = await exported();
    const key = `${batches[0].key}-s`;
    const data = { ...job, batches: [{ ...batches[0], key }], reason: 'retries_exhausted', attempts };
    const payloads = [{ key, old: batches[0].key }];
    expect(
      await store.handOver({ ...job, batches }, [{ queue: 'spill', data, payloads }], 'last', Date.now()),
    ).toBe(1);
    await redis.del(store.keys.queue('export', 'wait'), store.keys.signals);
    return data;
  };
  const takeBack = (job: JobData) => store.takeBack(job, job.batches[0]!, Date.now());
  const breakerIs = (state: string) => redis.hset(store.keys.breaker('traces'), 'state', state);

  it('stays while the breaker is open, and is the only one to return for a probe', async () => {
    const [one, other] = [await spilled(0), await spilled(0)];
    await breakerIs('open');
    expect(await takeBack(one)).toBe(false);
    await breakerIs('half_open');
    expect(await takeBack(one)).toBe(true);
    expect(await takeBack(other)).toBe(false);
    await breakerIs('closed');
    expect(await takeBack(other)).toBe(true);
    expect(await takeBack(other)).toBe(false); // it is gone from the spill queue
    const { stages } = await store.depth();
    expect([stages.spill.high.items, stages.queued.high.items]).toEqual([0, 20]);
    expect(await store.accounting()).toMatchObject({ queued: 20, difference: 0 });
  });

  it('is sent alone if it was tried before, and its attempts are not forgotten', async () => {
    await takeBack(await spilled(4));
    await enqueue(batch('high'), batch('high'));
    await store.move({ ...MOVE, mergeBytes: 1_000_000 });
    const jobs: JobData[] = await exported();
    expect(jobs.map(({ batches, attempts = 0 }) => [batches.length, attempts])).toEqual(
      expect.arrayContaining([
        [1, 4],
        [2, 0],
      ]),
    );
    // Drained as the next probe would be, were the breaker open.
    await breakerIs('open');
    await store.drain(10, Date.now());
    const ids = await redis.lrange(store.keys.queue('spill', 'wait'), 0, -1);
    const data = await Promise.all(ids.map((id) => redis.hget(store.keys.queue('spill', id), 'data')));
    expect(data.map((text) => JSON.parse(text!).attempts)).toContain(4);
  });

  it('is not looked for behind one that does not fit, however much of another signal is in flight', async () => {
    for (let i = 0; i < 5; i++) await spilled(0);
    const ids = await redis.keys(`${OPTIONS.prefix}:spill:b*`);
    expect(ids).toHaveLength(5);
    await redis.hset(store.keys.signals, 'out:logs', 7);
    const limits = {
      token: 'test',
      lockMs: 1_000,
      maxJobs: 5,
      maxBytes: 50,
      alone: false,
      lookForLost: false,
    };
    const signals = {
      traces: { jobs: 5, bytes: 50, alone: false },
      logs: { jobs: 5, bytes: 50, alone: true },
    };
    expect(await store.take('spill', { ...limits, signals })).toMatchObject({
      jobs: [],
      waiting: 1,
      heldBack: 1,
    });
  });
});

describe('a hand-over', () => {
  it('that happens twice leaves one batch, and the second one finds nothing', async () => {
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [job] = await exported();
    const [b] = job.batches;
    const piece = { ...job, batches: [{ ...b, key: `${b.key}-s` }], reason: 'retries_exhausted' };
    const order = [{ queue: 'spill' as const, data: piece, payloads: [{ key: `${b.key}-s`, old: b.key }] }];
    expect(await store.handOver(job, order, 'last', Date.now())).toBe(1);
    expect(await store.handOver(job, order, 'last', Date.now())).toBe(0);
    expect(await store.settle(job, 'export', { outcome: 'delivered' })).toBe(0);
    expect(await payloads(job)).toEqual([null]);
    const depth = await store.depth();
    expect(depth.stages.spill.high.items).toBe(10);
    expect(depth.total.items).toBe(10);
    expect(await store.settle(piece, 'spill', { outcome: 'stored' })).toBe(10);
    expect(await store.books()).toMatchObject({
      accepted: 10,
      stored: 10,
      'spilled:high:retries_exhausted': 10,
    });
  });

  it('in pieces is atomic', async () => {
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [job] = await exported();
    const [b] = job.batches;
    const pieces = ['a', 'b'].map((suffix) => {
      const key = `${b.key}-${suffix}`;
      const data = { ...job, items: 5, bytes: 50, batches: [{ ...b, key, items: 5, bytes: 50 }] };
      return { queue: 'export' as const, data, payloads: [{ key, bytes: Buffer.alloc(50, suffix) }] };
    });
    expect(await store.handOver(job, pieces, 'next', Date.now())).toBe(2);
    expect((await store.depth()).total).toEqual({ batches: 2, items: 10, bytes: 100 });
    expect(await store.handOver(job, pieces, 'next', Date.now())).toBe(0);
    expect((await store.depth()).total).toEqual({ batches: 2, items: 10, bytes: 100 });
  });
});

describe('the pieces of a large request', () => {
  it('are handed over a MiB at a time, between which other work runs', async () => {
    const MIB = 2 ** 20;
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [job] = await exported();
    const [b] = job.batches;
    const pieces = ['a', 'b', 'c', 'd', 'e', 'f'].map((suffix) => {
      const key = `${b.key}-${suffix}`;
      const data = { ...job, items: 1, bytes: MIB, batches: [{ ...b, key, items: 1, bytes: MIB }] };
      return { queue: 'export' as const, data, payloads: [{ key, bytes: Buffer.alloc(MIB, suffix) }] };
    });
    const stream = (redis as Redis).stream as unknown as Outlet;
    const { _write: write, _writev: writev } = stream;
    let most = 0;
    let inThisTurn = 0;
    const count = (bytes: number) => {
      if (inThisTurn === 0)
        setImmediate(() => {
          inThisTurn = 0;
        });
      inThisTurn += bytes;
      most = Math.max(most, inThisTurn);
    };
    stream._write = (chunk, encoding, done) => {
      count(chunk.length);
      write.call(stream, chunk, encoding, done);
    };
    stream._writev = (chunks, done) => {
      count(chunks.reduce((sum, { chunk }) => sum + chunk.length, 0));
      writev.call(stream, chunks, done);
    };
    expect(await store.handOver(job, pieces, 'next', Date.now())).toBe(6);
    Object.assign(stream, { _write: write, _writev: writev });
    expect(most).toBeGreaterThan(MIB / 2);
    expect(most).toBeLessThan(2 * MIB);
  });
});

describe('after a crash', () => {
  it('of Redis, everything acknowledged is still there', async () => {
    const sent = [batch('critical'), batch('high'), batch('normal')];
    await enqueue(...sent);
    await store.move({ ...MOVE, maxPicks: 1 });
    await server.kill();
    await server.start();
    await waitUntil(async () => (await redis.ping()) === 'PONG', { what: 'the link is connected again' });
    expect((await store.depth()).total).toEqual({ batches: 3, items: 30, bytes: 300 });
    expect((await store.move(MOVE)).jobs).toBe(2);
    const jobs = await exported();
    expect(jobs.flatMap((job) => job.batches.map((b: { key: string }) => b.key)).sort()).toEqual(
      sent.map((b) => b.id).sort(),
    );
    for (const job of jobs) expect(await payloads(job)).toEqual([Buffer.alloc(100, 'p')]);
  });

  it('of a consumer, its jobs are taken over by the next one, immediately if it owns the pipeline', async () => {
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [job] = await exported();
    const id = job.batches[0].key;
    await redis.lrem(store.keys.queue('export', 'wait'), 1, id);
    await redis.lpush(store.keys.queue('export', 'active'), id);
    await redis.set(`${store.keys.queue('export', id)}:lock`, 'of-the-dead', 'PX', 600_000);
    expect(await reclaim(store)).toBe(1);
    expect(await exported()).toHaveLength(1);
    expect(await redis.exists(`${store.keys.queue('export', id)}:lock`)).toBe(0);
  });
});
