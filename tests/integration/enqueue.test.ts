/** On a real redis-server: how batches are taken into the queues, and what spills. */
import { type Batch, type BatchRef, Enqueuer, type PriorityClass, Store } from '@nrdot/queue';
import { describe, expect, it } from 'vitest';
import {
  batch,
  enqueue,
  exported,
  MOVE,
  OPTIONS,
  payloads,
  redis,
  store,
  useStore,
} from './store-on-redis.ts';

useStore();

describe('enqueueing', () => {
  it('is atomic: a payload without a job expires, a job without a payload is ignored', async () => {
    const b = batch('high');
    await redis.set(store.keys.payload(b.id), b.payload as Buffer, 'EX', 600, 'NX'); // a kill after the first command
    expect(await redis.ttl(store.keys.payload(b.id))).toBeGreaterThan(0);
    expect(await enqueue(b)).toEqual(['queued']); // the client came again
    expect(await redis.ttl(store.keys.payload(b.id))).toBe(-1);
    expect(await enqueue(b)).toEqual(['held']);
    expect((await store.depth()).total.batches).toBe(1);
    expect((await store.books()).accepted).toBe(10);
  });

  it('refuses a request as a whole if there is no room, and stores nothing of it', async () => {
    const small = new Store(redis, { ...OPTIONS, maxBytes: 250, spillAt: 1, spillHysteresis: 0.1 });
    const results = await small.enqueue(
      [[batch('high')], [batch('high'), batch('normal')], [batch('normal')]],
      Date.now(),
    );
    expect(results).toEqual([['queued'], ['full', 'full'], ['queued']]);
    expect((await redis.keys('{test}:payload:*')).length).toBe(2);
  });

  it('commits concurrent requests together', async () => {
    let commits = 0;
    const enqueuer = new Enqueuer(async (groups) => {
      commits++;
      return store.enqueueGroups(groups, Date.now());
    });
    const results = await Promise.all(
      Array.from({ length: 300 }, () => enqueuer.enqueue([batch('normal', 1)])),
    );
    expect(results.flat().every((result) => result === 'queued')).toBe(true);
    expect(commits).toBeLessThan(10);
    expect((await store.depth()).stages.queued.normal).toEqual({ batches: 300, items: 300, bytes: 30_000 });
  });

  it('stores nothing if Redis is out of memory, and works once there is room again', async () => {
    await redis.config('SET', 'maxmemory', '1');
    expect(await enqueue(batch('high'))).toEqual(['no_memory']);
    await redis.config('SET', 'maxmemory', '0');
    expect((await redis.keys('{test}:queue:*')).length).toBe(0);
    expect(await enqueue(batch('high'))).toEqual(['queued']);
  });

  it('stores those batches of a commit that fit into memory', async () => {
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

  it('without memory, stored batches can still be delivered, which frees memory', async () => {
    await enqueue(batch('high'), batch('normal'));
    await redis.config('SET', 'maxmemory', '1');
    expect((await store.move(MOVE)).jobs).toBe(2);
    for (const job of await exported())
      expect(await store.settle(job, 'export', { outcome: 'delivered' })).toBe(10);
    await redis.config('SET', 'maxmemory', '0');
    expect((await store.accounting()).difference).toBe(0);
  });

  it('refuses what a full queue has no room for, but for one replayed batch at a time', async () => {
    const full = new Store(redis, { ...OPTIONS, maxItems: 10 });
    const enqueued = async (origin: 'live' | 'replay') =>
      (await full.enqueue([[batch('high', 10, { origin })]], Date.now())).flat();
    expect(await enqueued('live')).toEqual(['queued']);
    expect(await enqueued('live')).toEqual(['full']);
    expect(await enqueued('replay')).toEqual(['queued']);
    expect(await enqueued('replay')).toEqual(['full']);
    // Rejected by the upstream, it waits for the disk as a live one, and still takes its room.
    await full.move(MOVE);
    const replayed = (await exported()).find(({ origin }) => origin === 'replay')!;
    const [{ key, ...rest }] = replayed.batches as [BatchRef];
    const data = { ...replayed, origin: 'live' as const, batches: [{ ...rest, key: `${key}s` }] };
    const rejected = { queue: 'spill' as const, data, payloads: [{ key: `${key}s`, old: key }] };
    expect(await full.handOver(replayed, [rejected], 'last', Date.now())).toBe(1);
    expect(await enqueued('replay')).toEqual(['full']);
  });

  it.each([
    ['without replicas', undefined],
    ['with replicas', { least: 0, waitMs: 100 }],
  ])('without memory, and %s, the dlq learns the outcomes of its replays', async (_, replicas) => {
    const of = new Store(redis, { ...OPTIONS, ...(replicas ? { replicas } : {}) });
    await enqueue(batch('high', 10, { origin: 'replay' }));
    await redis.config('SET', 'maxmemory', '1');
    await store.move(MOVE);
    for (const job of await exported()) await store.settle(job, 'export', { outcome: 'delivered' });
    expect((await of.replayOutcomes(0, 10)).outcomes).toHaveLength(1);
    await redis.config('SET', 'maxmemory', '0');
  });

  it('derives keys and names independently of the content of a batch', async () => {
    const hostile = 'x:*\r\n{other}"}';
    await enqueue(batch('high', 10, { payload: Buffer.from(hostile) }));
    await store.move(MOVE);
    const [job] = await exported();
    expect(String((await payloads(job))[0])).toBe(hostile);
    for (const key of await redis.keys('*')) expect(key.startsWith('{test}:')).toBe(true);
    expect(() => new Store(redis, { ...OPTIONS, prefix: 'no-tag' })).toThrow(/hash tag/);
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
