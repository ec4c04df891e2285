/** The queue package against a real redis-server: what the pipeline's promises stand on. */

import {
  type Batch,
  CLASSES,
  connect,
  consume,
  Enqueuer,
  jobDataOf,
  newBatchId,
  type PriorityClass,
  type RedisConnection,
  RetryLater,
  Store,
  type StoreOptions,
} from '@nrdot/queue';
import { temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Queue } from 'bullmq';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../redis-server.ts';

const OPTIONS: StoreOptions = {
  prefix: '{test}',
  maxBytes: 10_000_000,
  maxItems: 10_000_000,
  spillAt: 0.95,
  spillHysteresis: 0.05,
  breaker: {
    failures: 5,
    throttleRatio: 0.3,
    minAnswers: 10,
    windowMs: 30_000,
    minOpenMs: 100,
    maxOpenMs: 1_000,
  },
};
const MOVE = {
  windowBatches: 64,
  windowBytes: 64_000_000,
  mergeBytes: 0,
  weights: { critical: 5, high: 3, normal: 1 },
  maxPicks: 64,
  slotMs: 500,
};

let dir: ReturnType<typeof temporaryDirectory>;
let server: RedisServer;
let redis: RedisConnection;
let store: Store;

const batch = (priorityClass: PriorityClass, items = 10, more: Partial<Batch> = {}): Batch => ({
  id: newBatchId(Date.now()),
  signal: 'traces',
  class: priorityClass,
  origin: 'live',
  encoding: 'identity',
  items,
  receivedAt: 1_700_000_000_000,
  payload: Buffer.alloc(100, 'p'),
  ...more,
});
const enqueue = async (...batches: Batch[]) =>
  (
    await store.enqueue(
      batches.map((b) => [b]),
      Date.now(),
    )
  ).flat();
const open = () => connect({ url: server.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
/** Jobs in the export queue, next one first. */
const exported = async () => {
  const ids = (await redis.lrange(store.keys.queue('export', 'wait'), 0, -1)).reverse();
  return Promise.all(
    ids.map(async (id) => JSON.parse((await redis.hget(store.keys.queue('export', id), 'data')) ?? '{}')),
  );
};

beforeAll(async () => {
  dir = temporaryDirectory();
  server = await startRedis({ dir: dir.path });
  redis = open();
  store = new Store(redis, OPTIONS);
});
beforeEach(async () => {
  await redis.flushall();
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

describe('jobs', () => {
  it('lie in Redis as BullMQ itself lays them', async () => {
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

  it('are taken by BullMQ workers, given back for later, and gone when done', async () => {
    await enqueue(batch('normal'));
    await store.move(MOVE);
    const seen: number[] = [];
    const connection = open();
    const consumer = consume({
      queue: 'export',
      prefix: OPTIONS.prefix,
      concurrency: 2,
      connection,
      faultDelayMs: 10,
      handle: async (_id, job, attempts) => {
        seen.push(attempts);
        if (attempts === 0) throw new RetryLater(20, 'not now');
        if (attempts === 1) throw new Error('a fault of the handler');
        await store.settle(job, 'export', { outcome: 'delivered' });
      },
      onError: () => {},
    });
    await waitUntil(async () => (await store.books()).delivered === 10, { what: 'it was delivered' });
    expect(seen).toEqual([0, 1, 2]);
    await waitUntil(async () => (await redis.keys('{test}:export:b*')).length === 0, {
      what: 'the job is gone',
    });
    expect((await store.depth()).total).toEqual({ batches: 0, items: 0, bytes: 0 });
    await consumer.close(5_000);
    connection.disconnect();
  });
});

describe('enqueueing', () => {
  it('is whole or did not happen: a payload without a job expires by itself, a job without a payload is none', async () => {
    const b = batch('high');
    await redis.set(store.keys.payload(b.id), b.payload as Buffer, 'EX', 600, 'NX'); // a kill after the first command
    expect(await redis.ttl(store.keys.payload(b.id))).toBeGreaterThan(0);
    expect(await enqueue(b)).toEqual(['queued']); // the client came again
    expect(await redis.ttl(store.keys.payload(b.id))).toBe(-1);
    expect(await enqueue(b)).toEqual(['held']);
    expect((await store.depth()).total.batches).toBe(1);
    expect((await store.books()).accepted).toBe(10);
  });

  it('refuses a request whole when there is no room, and keeps nothing of it', async () => {
    const small = new Store(redis, { ...OPTIONS, maxBytes: 250, spillAt: 1, spillHysteresis: 0.1 });
    const results = await small.enqueue(
      [[batch('high')], [batch('high'), batch('normal')], [batch('normal')]],
      Date.now(),
    );
    expect(results).toEqual([['queued'], ['full', 'full'], ['queued']]);
    expect((await redis.keys('{test}:payload:*')).length).toBe(2);
  });

  it('commits what arrives meanwhile together', async () => {
    let commits = 0;
    const enqueuer = new Enqueuer(async (groups, nowMs) => {
      commits++;
      return store.enqueue(groups, nowMs);
    });
    const results = await Promise.all(
      Array.from({ length: 300 }, () => enqueuer.enqueue([batch('normal', 1)])),
    );
    expect(results.flat().every((result) => result === 'queued')).toBe(true);
    expect(commits).toBeLessThan(10);
    expect((await store.depth()).stages.queued.normal).toEqual({ batches: 300, items: 300, bytes: 30_000 });
  });

  it('keeps nothing when Redis is out of memory, and works when there is room again', async () => {
    await redis.config('SET', 'maxmemory', '1');
    expect(await enqueue(batch('high'))).toEqual(['no_memory']);
    await redis.config('SET', 'maxmemory', '0');
    expect((await redis.keys('{test}:queue:*')).length).toBe(0);
    expect(await enqueue(batch('high'))).toEqual(['queued']);
  });

  it('keeps those of a commit that there was memory for', async () => {
    const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1]);
    await redis.config('SET', 'maxmemory', String(used + 300_000));
    const large = { ...batch('normal'), payload: Buffer.alloc(2_000_000, 1) };
    const results = await store.enqueue([[batch('high')], [large], [batch('normal')]], Date.now());
    await redis.config('SET', 'maxmemory', '0');
    expect(results[0]).toEqual(['queued']);
    expect(results.flat()).toContain('no_memory');
    expect((await redis.keys('{test}:payload:*')).length).toBe(
      results.flat().filter((result) => result === 'queued').length,
    );
    expect((await store.accounting()).difference).toBe(0);
  });

  it('and out of memory, what is held can still be delivered: that frees it', async () => {
    await enqueue(batch('high'), batch('normal'));
    await redis.config('SET', 'maxmemory', '1');
    expect((await store.move(MOVE)).jobs).toBe(2);
    for (const job of await exported())
      expect(await store.settle(job, 'export', { outcome: 'delivered' })).toBe(10);
    await redis.config('SET', 'maxmemory', '0');
    expect((await store.accounting()).difference).toBe(0);
  });

  it('keeps keys and names out of reach of what is in a batch', async () => {
    const hostile = 'x:*\r\n{other}"}';
    await enqueue(batch('high', 10, { payload: Buffer.from(hostile) }));
    await store.move(MOVE);
    const [job] = await exported();
    expect(String((await store.payloads(job.batches))[0])).toBe(hostile);
    for (const key of await redis.keys('*')) expect(key.startsWith('{test}:')).toBe(true);
    expect(() => new Store(redis, { ...OPTIONS, prefix: 'no-tag' })).toThrow(/hash tag/);
  });
});

describe('a hand-over', () => {
  it('that happens twice leaves one batch, and the late one finds nothing', async () => {
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [job] = await exported();
    const [b] = job.batches;
    const piece = { ...job, batches: [{ ...b, key: `${b.key}-s` }], reason: 'retries_exhausted' };
    const order = [{ queue: 'spill' as const, data: piece, payloads: [{ key: `${b.key}-s`, old: b.key }] }];
    expect(await store.handOver(job, order, 'last', Date.now())).toBe(1);
    expect(await store.handOver(job, order, 'last', Date.now())).toBe(0);
    expect(await store.settle(job, 'export', { outcome: 'delivered' })).toBe(0);
    expect(await store.payloads(job.batches)).toEqual([null]);
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

  it('in pieces is whole or does not happen', async () => {
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

describe('the weighted move', () => {
  it('gives 5:3:1 of items over a million, whatever the sizes of batches, and starves nobody', async () => {
    let seed = 20_261_123;
    const random = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32;
    };
    const waiting = { critical: 0, high: 0, normal: 0 };
    const moved = { critical: 0, high: 0, normal: 0 };
    const wide = { ...MOVE, windowBatches: 1_000_000, maxPicks: 16 };
    while (moved.critical + moved.high + moved.normal < 1_000_000) {
      const refill = CLASSES.flatMap((c) => {
        const batches: Batch[] = [];
        while (waiting[c] < 40_000) {
          const items = 1 + Math.floor(random() * 500);
          waiting[c] += items;
          batches.push(batch(c, items, { payload: Buffer.alloc(1) }));
        }
        return batches;
      });
      if (refill.length > 0) await enqueue(...refill);
      const { items } = await store.move(wide);
      for (const c of CLASSES) {
        moved[c] += items[c];
        waiting[c] -= items[c];
      }
      // Goyal's bound: within one batch of each, at any moment.
      expect(Math.abs(moved.critical / 5 - moved.normal)).toBeLessThanOrEqual(600);
      expect(Math.abs(moved.high / 3 - moved.normal)).toBeLessThanOrEqual(700);
    }
  }, 120_000);

  it('works for whoever has work, and gives two schedulers at once the same shares', async () => {
    await enqueue(...Array.from({ length: 30 }, () => batch('normal')));
    expect((await store.move({ ...MOVE, maxPicks: 30 })).items.normal).toBe(300);
    await redis.flushall();
    await enqueue(...CLASSES.flatMap((c) => Array.from({ length: 200 }, () => batch(c))));
    const other = open();
    const second = new Store(other, OPTIONS);
    const moved = { critical: 0, high: 0, normal: 0 };
    for (let i = 0; i < 15; i++) {
      for (const { items } of await Promise.all(
        [store, second].map((s) => s.move({ ...MOVE, windowBatches: 1e6, maxPicks: 9 })),
      )) {
        for (const c of CLASSES) moved[c] += items[c];
      }
    }
    expect(moved).toEqual({ critical: 1_500, high: 900, normal: 300 });
    other.disconnect();
  });

  it('counts batches under way and those that wait for a retry: an outage does not empty the class queues', async () => {
    await enqueue(...Array.from({ length: 20 }, () => batch('high')));
    const move = async () => (await store.move({ ...MOVE, windowBatches: 4 })).jobs;
    expect(await move()).toBe(4);
    const limits = {
      token: 'test',
      lockMs: 60_000,
      maxJobs: 4,
      maxBytes: 1e6,
      alone: true,
      lookForLost: false,
    };
    const { jobs } = await store.take('export', limits);
    expect([jobs.length, await move()]).toEqual([4, 0]); // under way
    for (const { id } of jobs) {
      expect(await store.leave({ queue: 'export', id, token: 'test', ended: false }, 600_000)).toBe(true);
    }
    expect(await move()).toBe(0); // for later
    expect((await store.depth()).stages.queued.high.batches).toBe(16);
  });

  it('keeps the export queue short, and merges what waits into one request', async () => {
    await enqueue(...Array.from({ length: 100 }, () => batch('high')));
    expect((await store.move({ ...MOVE, windowBatches: 8 })).jobs).toBe(8);
    expect((await store.move({ ...MOVE, windowBatches: 8 })).jobs).toBe(0);
    await redis.flushall();
    await enqueue(
      ...Array.from({ length: 10 }, () => batch('high')),
      batch('high', 10, { signal: 'logs' }),
      batch('high', 10, { encoding: 'zstd' }),
      batch('high', 10, { encoding: 'zstd' }),
    );
    expect((await store.move({ ...MOVE, mergeBytes: 450 })).items.high).toBe(130);
    const jobs = await exported();
    expect(jobs.map((job) => [job.signal, job.encoding, job.batches.length])).toEqual([
      ['traces', 'identity', 4],
      ['traces', 'identity', 4],
      ['traces', 'identity', 2],
      ['logs', 'identity', 1],
      ['traces', 'zstd', 1],
      ['traces', 'zstd', 1],
    ]);
    expect((await store.depth()).stages.export.high).toEqual({ batches: 13, items: 130, bytes: 1_300 });
  });

  it('lets live and replayed work take turns when both wait', async () => {
    const slotMs = 40;
    const waiting = 1_500;
    for (let i = 0; i < waiting; i += 100) {
      await enqueue(
        ...Array.from({ length: 100 }, () => batch('normal', 1)),
        ...Array.from({ length: 100 }, () => batch('critical', 1, { origin: 'replay' })),
      );
    }
    const slotNow = async () => {
      const [seconds, micros] = await redis.time();
      return Math.floor((Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)) / slotMs);
    };
    const counts = { live: 0, replay: 0 };
    await waitUntil(
      async () => {
        const [before, slotBefore] = [await store.depth(), await slotNow()];
        await store.move({ ...MOVE, windowBatches: 1e6, maxPicks: 1, slotMs });
        const [slot, after] = [await slotNow(), await store.depth()];
        const live = before.stages.queued.normal.items - after.stages.queued.normal.items;
        const replay = before.stages.replay.critical.items - after.stages.replay.critical.items;
        counts.live += live;
        counts.replay += replay;
        expect(live + replay).toBe(1);
        if (slot === slotBefore) expect(live).toBe(slot % 2 === 0 ? 1 : 0); // by Redis' clock, whoever asks
        return counts.live >= 100 && counts.replay >= 100;
      },
      { what: 'both had their turns', everyMs: 1 },
    );
    expect(Math.max(counts.live, counts.replay)).toBeLessThan(waiting); // both were waiting all the time
  });

  it('lets whichever of live and replayed work there is have all slots', async () => {
    for (const origin of ['live', 'replay'] as const) {
      await enqueue(...Array.from({ length: 20 }, () => batch('high', 1, { origin })));
      let moved = 0;
      for (let i = 0; i < 20; i++)
        moved += (await store.move({ ...MOVE, maxPicks: 1, slotMs: 3 })).items.high;
      expect(moved, origin).toBe(20);
    }
  });
});

describe('admission', () => {
  it('spills the lowest class first, keeps room for critical, and ends with hysteresis', async () => {
    const small = new Store(redis, { ...OPTIONS, maxBytes: 10_000, spillAt: 0.7, spillHysteresis: 0.2 });
    const put = async (c: PriorityClass) => (await small.enqueue([[batch(c)]], Date.now()))[0]![0];
    for (let i = 0; i < 70; i++) expect(await put('normal')).toBe('queued');
    expect(await put('normal')).toBe('spilled');
    expect(await put('high')).toBe('queued');
    for (let i = 72; i < 80; i++) await put('high');
    expect([await put('normal'), await put('high'), await put('critical')]).toEqual([
      'spilled',
      'spilled',
      'queued',
    ]);
    for (let i = 83; i < 90; i++) await put('critical');
    expect(await put('critical')).toBe('spilled');
    // Draining to just below the threshold does not end it; below the hysteresis it does.
    const settleSome = async (n: number) => {
      await small.move({ ...MOVE, windowBatches: n, maxPicks: n });
      for (const job of await exported()) {
        await small.settle(job, 'export', { outcome: 'delivered' });
        await redis.lrem(small.keys.queue('export', 'wait'), 1, job.batches[0].key);
      }
    };
    await settleSome(25); // 66 %
    expect([await put('normal'), await put('critical')]).toEqual(['spilled', 'queued']);
    await settleSome(25); // below 50 %
    expect(await put('normal')).toBe('queued');
    expect((await small.accounting()).difference).toBe(0);
  });

  it('spills a class whose own queue is full, and leaves the others alone', async () => {
    const none = { maxBytes: undefined, maxItems: undefined };
    const limited = new Store(redis, {
      ...OPTIONS,
      spillAt: 0.8,
      spillHysteresis: 0.2,
      perClass: {
        critical: none,
        high: { ...none, maxBytes: 1_000 },
        normal: { ...none, maxItems: 100 },
      },
    });
    const put = async (...batches: Batch[]) => (await limited.enqueue([batches], Date.now()))[0]!;
    // Also within one request: what it has put into the queue so far counts.
    expect(await put(...Array.from({ length: 9 }, () => batch('normal')))).toEqual([
      ...Array(8).fill('queued'),
      'spilled',
    ]);
    for (let i = 0; i < 8; i++) expect(await put(batch('high'))).toEqual(['queued']);
    expect(await put(batch('high'), batch('critical'))).toEqual(['spilled', 'queued']);
    // What the scheduler has taken out is not in its queue any more; below the hysteresis the spilling ends.
    await limited.move({ ...MOVE, windowBatches: 3, maxPicks: 3 });
    expect((await limited.depth()).stages.queued.high.batches).toBe(7);
    expect(await put(batch('high'))).toEqual(['spilled']);
    await limited.move({ ...MOVE, windowBatches: 9, maxPicks: 6 });
    expect(await put(batch('high'))).toEqual(['queued']);
    expect((await limited.accounting()).difference).toBe(0);
  });
});

describe('the breaker', () => {
  it('opens after five failures in a row, not before, and a success in between counts', async () => {
    for (const kind of [
      'failure',
      'failure',
      'failure',
      'failure',
      'ok',
      'failure',
      'failure',
      'failure',
      'failure',
    ] as const) {
      expect(await store.report(kind, 0)).toBe('closed');
    }
    expect(await store.report('failure', 0)).toBe('open');
    expect(await store.breaker()).toMatchObject({
      state: 'open',
      reason: 'failures',
      openedTotal: 1,
      openedByReason: { failures: 1, quota: 0, auth: 0 },
    });
    expect(await redis.hget(store.keys.queue('export', 'meta'), 'paused')).toBe('1');
  });

  it('opens at 30 % of 429 among enough answers, with its own reason', async () => {
    for (let i = 0; i < 7; i++) await store.report('ok', 0);
    expect(await store.report('quota', 0)).toBe('closed');
    expect(await store.report('quota', 0)).toBe('closed'); // 2 of 9: too few answers
    expect(await store.report('quota', 0)).toBe('open'); // 3 of 10
    expect((await store.breaker()).reason).toBe('quota');
  });

  it('forgets answers of 429 that have left its window', async () => {
    const sliding = new Store(redis, {
      ...OPTIONS,
      breaker: { ...OPTIONS.breaker, failures: 1_000, windowMs: 2_000 },
    });
    for (let i = 0; i < 9; i++) expect(await sliding.report('quota', 0)).toBe('closed');
    expect((await sliding.breaker()).throttledShare).toBe(1);
    const tenths = Object.entries(await redis.hgetall(sliding.keys.breaker)).filter(([field]) =>
      field.startsWith('at:'),
    );
    const last = Math.max(...tenths.map(([, tenth]) => Number(tenth)));
    // Past the moment at which the same slot of the window is used again: what is left must be passed over, not overwritten.
    await waitUntil(() => Date.now() / 200 > last + 12, { what: 'the window is over' });
    expect((await sliding.breaker()).throttledShare).toBe(0);
    expect(await sliding.report('quota', 0)).toBe('closed'); // the tenth of all, the first of this window
    expect((await sliding.breaker()).throttledShare).toBe(1);
  });

  it('stays open for twice as long after each probe that fails, up to its limit, and begins anew after a success', async () => {
    const openMs = async () => {
      const { retryAtMs, sinceMs } = await store.breaker();
      return retryAtMs - sinceMs;
    };
    const probe = async (kind: 'ok' | 'failure') => {
      await redis.hset(store.keys.breaker, 'retry_at', '0'); // its time has come
      expect((await store.move(MOVE)).breaker).toBe('half_open');
      return store.report(kind, 0);
    };
    expect(await store.report('auth', 0)).toBe('open');
    const times = [await openMs()];
    for (let i = 0; i < 5; i++) {
      expect(await probe('failure')).toBe('open');
      times.push(await openMs());
    }
    expect(times).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    expect(await probe('ok')).toBe('closed');
    expect(await store.report('auth', 0)).toBe('open');
    expect(await openMs()).toBe(100);
  });

  it('opens at once when the key is refused', async () => {
    expect(await store.report('auth', 0)).toBe('open');
    expect((await store.breaker()).reason).toBe('auth');
  });

  it('spills what waits, by class, gives replayed work back, and lets one probe through when it is time', async () => {
    await enqueue(batch('critical'), batch('normal'), batch('high', 10, { origin: 'replay' }));
    await store.move({ ...MOVE, maxPicks: 1 });
    await enqueue(batch('high'));
    for (let i = 0; i < 5; i++) await store.report('failure', 0);
    expect(await enqueue(batch('normal'))).toEqual(['spilled']);
    expect((await store.move(MOVE)).jobs).toBe(0);
    while ((await store.drain(2, Date.now())) === 2);
    const depth = await store.depth();
    expect(CLASSES.map((c) => depth.stages.spill[c].items)).toEqual([10, 10, 20]);
    expect(depth.total.items).toBe(40);
    expect(await store.replayOutcomes(0, 10)).toMatchObject({ outcomes: [{ done: false }], next: 1 });
    // Half-open: one batch, alone.
    await waitUntil(async () => (await store.move(MOVE)).breaker === 'half_open', {
      what: 'it is time for a probe',
    });
    expect(await enqueue(batch('critical'), batch('critical'))).toEqual(['queued', 'queued']);
    expect([(await store.move(MOVE)).jobs, (await store.move(MOVE)).jobs]).toEqual([1, 0]);
    // The probe fails: open again, for longer.
    const first = await store.breaker();
    expect(await store.report('failure', 0)).toBe('open');
    const again = await store.breaker();
    expect(again.retryAtMs - again.sinceMs).toBeGreaterThan(150);
    expect(again.openedTotal).toBe(first.openedTotal + 1);
    await waitUntil(async () => (await store.move(MOVE)).breaker === 'half_open', {
      what: 'it is time for the next probe',
    });
    expect(await store.report('ok', 0)).toBe('closed');
    expect((await store.move(MOVE)).breaker).toBe('closed');
    expect(await store.breaker()).toMatchObject({
      openedTotal: again.openedTotal,
      halfOpenedTotal: 2,
      closedTotal: 1,
    });
    expect((await store.accounting()).difference).toBe(0);
  });

  it('spills the lowest class first, and probes with one batch alone though more could be merged', async () => {
    await enqueue(...CLASSES.flatMap((c) => [batch(c), batch(c)]));
    await store.report('auth', 0);
    const order: string[] = [];
    for (let i = 0; i < 6; i++) {
      const before = (await store.depth()).stages.spill;
      expect(await store.drain(1, Date.now())).toBe(1);
      const after = (await store.depth()).stages.spill;
      order.push(...CLASSES.filter((c) => after[c].batches > before[c].batches));
    }
    expect(order).toEqual(['normal', 'normal', 'high', 'high', 'critical', 'critical']);
    await redis.hset(store.keys.breaker, 'retry_at', '0');
    expect((await store.move({ ...MOVE, mergeBytes: 1e6 })).breaker).toBe('half_open');
    await enqueue(batch('high'), batch('high'), batch('high'));
    expect((await store.move({ ...MOVE, mergeBytes: 1e6 })).items.high).toBe(10);
    expect((await store.move({ ...MOVE, mergeBytes: 1e6 })).items.high).toBe(0);
  });

  it('waits for as long as Retry-After asks', async () => {
    for (let i = 0; i < 5; i++) await store.report('failure', 5_000);
    const { retryAtMs, sinceMs } = await store.breaker();
    expect(retryAtMs - sinceMs).toBe(5_000);
    await store.report('failure', 9_000); // a request that was still under way
    expect((await store.breaker()).retryAtMs - sinceMs).toBeGreaterThan(8_900);
  });
});

describe('after a crash', () => {
  it('of Redis, everything acknowledged is there', async () => {
    const sent = [batch('critical'), batch('high'), batch('normal')];
    await enqueue(...sent);
    await store.move({ ...MOVE, maxPicks: 1 });
    await server.kill();
    await server.start();
    await waitUntil(async () => (await redis.ping()) === 'PONG', { what: 'connected again' });
    expect((await store.depth()).total).toEqual({ batches: 3, items: 30, bytes: 300 });
    expect((await store.move(MOVE)).jobs).toBe(2);
    const jobs = await exported();
    expect(jobs.flatMap((job) => job.batches.map((b: { key: string }) => b.key)).sort()).toEqual(
      sent.map((b) => b.id).sort(),
    );
    for (const job of jobs) expect(await store.payloads(job.batches)).toEqual([Buffer.alloc(100, 'p')]);
  });

  it('of a consumer, what it held is taken up by the next, at once by the owner of the whole', async () => {
    await enqueue(batch('high'));
    await store.move(MOVE);
    const [job] = await exported();
    const id = job.batches[0].key;
    await redis.lrem(store.keys.queue('export', 'wait'), 1, id);
    await redis.lpush(store.keys.queue('export', 'active'), id);
    await redis.set(`${store.keys.queue('export', id)}:lock`, 'of-the-dead', 'PX', 600_000);
    expect(await store.reclaim()).toBe(1);
    expect(await exported()).toHaveLength(1);
    expect(await redis.exists(`${store.keys.queue('export', id)}:lock`)).toBe(0);
  });
});
