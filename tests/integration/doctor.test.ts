/** What somebody's hand, or a Redis that forgot, leaves behind: the doctor finds it, mends it, and everything that can be delivered is. */
import { type Diagnosis, Doctor, type JobData, jobDataOf, keysOf } from '@nrdot/queue';
import { BatchMaker, workload } from '@nrdot/testbed';
import { Queue } from 'bullmq';
import { describe, expect, it } from 'vitest';
import { batch, enqueue, MOVE, OPTIONS, redis, store, useStore } from './store-on-redis.ts';

useStore();

const keys = keysOf(OPTIONS.prefix);
const QUICK = { maxBodyBytes: 1e6, recheckMs: 40, accountingSettleMs: 100 };
const LIMITS = { token: 'test', lockMs: 60_000, maxJobs: 64, maxBytes: 1e8, alone: true, lookForLost: false };
const examine = () => new Doctor(store, QUICK).run(false);
const repair = () => new Doctor(store, QUICK).run(true);
const kindsOf = ({ damage }: Diagnosis) => damage.map(({ kind }) => kind);

/** A real request, so that what it is can be read from it. */
function real(
  priorityClass: 'critical' | 'high' | 'normal',
  signal: 'traces' | 'metrics' | 'logs' = 'traces',
  encoding: 'identity' | 'gzip' | 'zstd' = 'gzip',
) {
  const load = workload({ endpoint: 'http://x', batchSize: 7, signals: { [signal]: 1 }, encoding, items: 7 });
  const maker = new BatchMaker(load, 1);
  return batch(priorityClass, 7, { signal, encoding, payload: maker.compressNow(maker.make(7, Date.now())) });
}

/** Moves and delivers all there is. @returns items delivered by this */
async function deliverAll(): Promise<number> {
  const before = (await store.books()).delivered ?? 0;
  for (let i = 0; i < 20; i++) {
    await store.move(MOVE);
    const { jobs } = await store.take('export', LIMITS);
    if (jobs.length === 0) break;
    for (const { id, data } of jobs)
      await store.settle(
        JSON.parse(data) as JobData,
        'export',
        { outcome: 'delivered' },
        { queue: 'export', id, token: 'test', ended: false },
      );
  }
  return ((await store.books()).delivered ?? 0) - before;
}

/** Nothing is off any more, and nothing waits. */
async function allIsWell(): Promise<void> {
  expect(await examine()).toMatchObject({ damage: [], difference: 0 });
  expect(await store.accounting()).toMatchObject({ queued: 0, difference: 0 });
  expect((await store.depth()).total).toEqual({ batches: 0, items: 0, bytes: 0 });
}

describe('the doctor', () => {
  it('finds nothing in an empty pipeline, or while all stages hold batches', async () => {
    expect(await examine()).toMatchObject({ damage: [], difference: 0, jobs: 0, payloads: 0 });
    await enqueue(batch('critical'), batch('high'), batch('normal'), batch('high', 3, { origin: 'replay' }));
    await store.move({ ...MOVE, maxPicks: 2 });
    await store.take('export', { ...LIMITS, maxJobs: 1 });
    expect(await examine()).toMatchObject({ damage: [], difference: 0, jobs: 4, payloads: 4 });
  });

  it('examines and repairs a Redis that has no memory left', async () => {
    await enqueue(batch('normal'));
    await redis.hset(keys.depth, 'total:items', 9_999);
    await redis.config('SET', 'maxmemory', '1mb');
    try {
      await expect(redis.set(keys.wake, '1')).rejects.toThrow(/OOM/);
      expect(kindsOf(await repair())).toEqual(['depth']);
      expect(await examine()).toMatchObject({ damage: [], difference: 0 });
    } finally {
      await redis.config('SET', 'maxmemory', '0');
    }
  });

  it('does not touch the state of the limiter', async () => {
    const limiter = `${OPTIONS.prefix}:limiter`;
    await redis.hset(`${limiter}:held:0`, 'stream', 'point');
    await redis.rpush(`${limiter}:left`, 'left:1');
    await redis.hset(`${limiter}:left:1`, 'stream', 'point');
    expect(await repair()).toMatchObject({ damage: [], difference: 0, jobs: 0, payloads: 0 });
    expect(await redis.exists(`${limiter}:held:0`, `${limiter}:left`, `${limiter}:left:1`)).toBe(3);
  });

  it.each(['identity', 'gzip', 'zstd'] as const)(
    'payloads without a job (%s) become jobs again, whatever their content',
    async (encoding) => {
      const [spans, points, logs] = await Promise.all([
        real('critical', 'traces', encoding),
        real('high', 'metrics', encoding),
        real('normal', 'logs', encoding),
      ]);
      await enqueue(spans, points, logs, real('high'));
      // `queue.remove` of BullMQ, and what it comes to by hand.
      const queue = new Queue('critical', { connection: redis, prefix: OPTIONS.prefix });
      await queue.remove(spans.id);
      await queue.close();
      for (const [c, { id }] of [
        ['high', points],
        ['normal', logs],
      ] as const) {
        await redis.lrem(keys.queue(c, 'wait'), 1, id);
        await redis.del(keys.queue(c, id));
      }
      const found = await examine();
      expect(kindsOf(found)).toEqual(['payload_without_job', 'depth']);
      expect(found.damage[0]).toMatchObject({ level: 'fault', count: 3, mended: 0 });
      expect(await store.waiting('normal', 10)).toEqual([]);
      expect((await repair()).damage.every(({ count, mended }) => count === mended)).toBe(true);
      const back = await Promise.all(
        [spans, points, logs].map(async ({ id }) =>
          JSON.parse((await redis.hget(keys.queue('normal', id), 'data'))!),
        ),
      );
      expect(back).toEqual(
        [spans, points, logs].map((one) => ({
          ...jobDataOf(one),
          class: 'normal',
          batches: [expect.anything()],
        })),
      );
      expect(await deliverAll()).toBe(28);
      await allIsWell();
    },
  );

  it('an unidentifiable payload stays, and is reported', async () => {
    const lost = batch('high');
    await enqueue(lost);
    await redis.del(keys.queue('high', 'wait'), keys.queue('high', lost.id));
    const found = await repair();
    expect(kindsOf(found)).toContain('unreadable_payload');
    expect(found.damage[0]).toMatchObject({ count: 1, mended: 0, todo: expect.stringContaining('GET') });
    expect(await redis.getBuffer(keys.payload(lost.id))).toEqual(lost.payload);
  });

  it('a replayed payload without a job is replayed under its own key, so that the disk learns its outcome', async () => {
    const replayed = { ...real('high'), origin: 'replay' as const, id: `r${batch('high').id}` };
    await enqueue(replayed);
    await redis.del(keys.queue('replay-high', 'wait'), keys.queue('replay-high', replayed.id));
    expect(kindsOf(await repair())).toEqual(['payload_without_job', 'depth']);
    expect(await deliverAll()).toBe(7);
    expect((await store.replayOutcomes(0, 10)).outcomes).toEqual([{ done: true, key: replayed.id }]);
    expect((await store.depth()).total.items).toBe(0);
  });

  it('an id that is in no list returns to its queue, wherever the job was', async () => {
    await enqueue(real('critical'), real('high'), real('normal'));
    await store.move({ ...MOVE, maxPicks: 2 });
    await store.report('traces', 'auth', 60_000);
    await store.drain(1, Date.now());
    for (const [queue, part] of [
      ['export', 'wait'],
      ['spill', 'wait'],
      ['normal', 'wait'],
    ] as const)
      await redis.del(keys.queue(queue, part));
    expect(await examine()).toMatchObject({
      damage: [{ kind: 'stray_job', count: 3, level: 'fault' }, { kind: 'depth' }],
    });
    expect((await repair()).damage.every(({ count, mended }) => count === mended)).toBe(true);
    expect((await store.depth()).total).toMatchObject({ batches: 3, items: 21 });
    expect((await store.depth()).stages.spill).not.toMatchObject({
      critical: { items: 0 },
      high: { items: 0 },
    });
    expect(await examine()).toMatchObject({ damage: [], difference: 0 });
  });

  it('jobs that were failed, prioritized or delayed by hand return', async () => {
    const all = [real('critical'), real('high'), real('normal')] as const;
    await enqueue(...all);
    const open = (name: string) => new Queue(name, { connection: redis, prefix: OPTIONS.prefix });
    const [critical, high, normal] = [open('critical'), open('high'), open('normal')];
    await (await high.getJob(all[1].id))!.changePriority({ priority: 3 });
    await redis.lrem(keys.queue('critical', 'wait'), 1, all[0].id);
    await redis.zadd(keys.queue('critical', 'failed'), Date.now(), all[0].id);
    await redis.lrem(keys.queue('normal', 'wait'), 1, all[2].id);
    await redis.zadd(keys.queue('normal', 'delayed'), (Date.now() + 1e7) * 4096, all[2].id);
    expect(await high.getJobCounts('prioritized', 'wait')).toEqual({ prioritized: 1, wait: 0 });
    expect((await store.move(MOVE)).jobs).toBe(0);
    expect(await examine()).toMatchObject({
      damage: [{ kind: 'job_out_of_sight', count: 3, level: 'fault' }],
      difference: 0,
    });
    expect((await repair()).damage).toMatchObject([{ kind: 'job_out_of_sight', count: 3, mended: 3 }]);
    expect(await high.getJobCounts('prioritized', 'wait')).toEqual({ prioritized: 0, wait: 1 });
    for (const queue of [critical, high, normal]) await queue.close();
    expect(await deliverAll()).toBe(21);
    await allIsWell();
  });

  it('a removed payload is accounted for as lost, its job is removed, and the depth is corrected', async () => {
    const [lost, kept] = [real('high'), real('high')];
    await enqueue(lost, kept);
    await redis.del(keys.payload(lost.id));
    expect(await examine()).toMatchObject({
      damage: [
        { kind: 'job_without_payload', count: 1 },
        { kind: 'depth', examples: [expect.stringContaining('queued:high:items +7')] },
      ],
    });
    const mended = await repair();
    expect(kindsOf(mended)).toEqual(['job_without_payload', 'depth', 'books']);
    expect(mended.damage[2]).toMatchObject({
      level: 'fault',
      mended: 1,
      text: expect.stringContaining('7 accepted items are missing'),
    });
    expect((await store.books())['dropped:unaccounted']).toBe(7);
    expect(await deliverAll()).toBe(7);
    await allIsWell();
  });

  it('jobs with unknown data go to the failed set, and are a note from then on', async () => {
    await enqueue(real('high'));
    for (const [queue, id] of [
      ['high', 'odd'],
      ['export', 'odd'],
    ] as const) {
      await redis.hset(keys.queue(queue, id), { data: 'no JSON', opts: '{}' });
      await redis.zadd(keys.queue(queue, 'delayed'), (Date.now() + 1e7) * 4096, id);
    }
    expect(await examine()).toMatchObject({ damage: [{ kind: 'odd_job', count: 2, level: 'warning' }] });
    expect((await repair()).damage).toMatchObject([{ kind: 'odd_job', count: 2, mended: 2 }]);
    expect((await examine()).damage).toMatchObject([{ kind: 'put_away', level: 'note', count: 2 }]);
    const queue = new Queue('high', { connection: redis, prefix: OPTIONS.prefix });
    expect((await queue.getFailed()).map(({ id, failedReason }) => [id, failedReason])).toEqual([
      ['odd', expect.stringContaining('its data is no JSON')],
    ]);
    await queue.clean(0, 10, 'failed');
    await queue.close();
    expect(await deliverAll()).toBe(7);
  });

  it('a wrong depth, numeric or not, is recounted', async () => {
    await enqueue(real('critical'), real('high'), real('normal'));
    await redis.hincrby(keys.depth, 'queued:high:items', 1_000);
    await redis.hincrby(keys.depth, 'total:items', 1_000);
    await redis.hset(keys.depth, { 'queued:normal:bytes': 'x', 'spill:high:batches': -3, 'of:nobody': 5 });
    expect(kindsOf(await examine())).toEqual(['no_number', 'depth']);
    expect(kindsOf(await repair())).toEqual(['no_number', 'depth']);
    expect(await examine()).toMatchObject({ damage: [], difference: 0 });
    expect((await store.depth()).total).toMatchObject({ batches: 3, items: 21 });
    expect(await deliverAll()).toBe(21);
    await allIsWell();
  });

  it('includes jobs set aside for other signals, and repairs those too', async () => {
    const logs = () => ({ ...real('normal'), signal: 'logs' as const });
    const aside = keys.queue('normal', 'aside:logs');
    await enqueue(logs(), logs(), logs(), logs(), real('normal'));
    for (let i = 0; i < 3; i++) await store.move({ ...MOVE, windowBatches: 1 });
    expect(await redis.llen(aside)).toBeGreaterThan(1);
    expect(await examine()).toMatchObject({ damage: [], difference: 0 });
    const id = (await redis.lindex(aside, 0))!;
    await redis.del(keys.payload(id));
    const before = Number(await redis.hget(keys.signals, 'aside'));
    expect(kindsOf(await repair())).toEqual(['job_without_payload', 'depth', 'books']);
    expect(await redis.lpos(aside, id)).toBeNull();
    expect(Number(await redis.hget(keys.signals, 'aside'))).toBe(before - 1);
    await redis.hset(keys.signals, { 'waiting:logs': 'x', aside: '' });
    expect(kindsOf(await repair())).toEqual(['no_number']);
    expect(await deliverAll()).toBe(4 * 7);
    expect((await store.depth()).total.items).toBe(0);
  });

  it('counters that are not numbers are removed, and the accounting is balanced from the rest', async () => {
    await enqueue(real('high'), real('high'));
    await store.move({ ...MOVE, maxPicks: 1 });
    await deliverAll();
    await enqueue(real('high'));
    await redis.hset(keys.breaker('traces'), {
      failures: 'x',
      retry_at: '',
      'at:3': 'nan',
      opened_total: '1e999',
    });
    await redis.hset(keys.scheduler, { 'live:virtual': 'x', 'moved:high': 'x' });
    for (const field of ['delivered', 'accepted']) {
      const before = await store.books();
      await redis.hset(keys.books, field, 'x');
      expect(kindsOf(await examine())).toEqual(['no_number', 'books']);
      expect(kindsOf(await repair())).toEqual(['no_number', 'books']);
      expect(await store.books()).toEqual(before);
    }
    expect(await examine()).toMatchObject({ damage: [], difference: 0 });
    expect(await deliverAll()).toBe(7);
    await allIsWell();
  });

  it('keys of the wrong type are renamed, and nothing in them is removed', async () => {
    const all = [real('critical'), real('high')] as const;
    await enqueue(...all);
    await redis.del(keys.queue('high', 'wait'), keys.depth);
    await redis.set(keys.queue('high', 'wait'), 'mine');
    await redis.set(keys.depth, 'mine');
    await expect(store.move(MOVE)).rejects.toThrow(/WRONGTYPE/);
    expect((await examine()).damage[0]).toMatchObject({ kind: 'wrong_type', count: 2, level: 'fault' });
    await expect(store.move(MOVE)).rejects.toThrow(/WRONGTYPE/);
    await repair();
    const aside = await redis.keys('{test}:*:set-aside:*');
    expect(await Promise.all(aside.map((key) => redis.get(key)))).toEqual(['mine', 'mine']);
    expect(await deliverAll()).toBe(14);
    await allIsWell();
  });

  it('a second doctor is refused while the first is running', async () => {
    await redis.set(keys.depth, 'x'); // something to do
    const first = repair();
    await expect(examine()).rejects.toThrow(/another doctor is running/);
    await first;
    expect(await examine()).toMatchObject({ damage: [] });
  });

  it('counts a long queue exactly while it flows at both ends', async () => {
    const many = async (n: number) => {
      for (let i = 0; i < n; i += 500)
        await store.enqueue(
          Array.from({ length: 500 }, () => [batch('normal', 3)]),
          Date.now(),
        );
    };
    await many(4_000);
    await redis.hincrby(keys.depth, 'queued:normal:items', 11);
    let stop = false;
    const flow = (async () => {
      for (let turn = 0; !stop; turn++) {
        await store.enqueue([[batch('normal', 5), batch('high', 2)], [batch('normal', 1)]], Date.now());
        if (turn % 2 === 0) await deliverSome();
      }
    })();
    try {
      expect(await examine()).toMatchObject({
        damage: [{ kind: 'depth', examples: ['queued:normal:items +11'] }],
      });
      expect((await repair()).damage).toContainEqual(expect.objectContaining({ kind: 'depth', mended: 1 }));
      for (let i = 0; i < 5; i++)
        expect(kindsOf(await examine()).filter((kind) => kind !== 'not_examined')).toEqual([]);
    } finally {
      stop = true;
      await flow;
    }
    await deliverAll();
  });

  async function deliverSome(): Promise<void> {
    await store.move({ ...MOVE, maxPicks: 3 });
    for (const { id, data } of (await store.take('export', LIMITS)).jobs)
      await store.settle(
        JSON.parse(data) as JobData,
        'export',
        { outcome: 'delivered' },
        { queue: 'export', id, token: 'test', ended: false },
      );
  }
});
