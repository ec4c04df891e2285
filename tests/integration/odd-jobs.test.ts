/** What others leave in Redis: no script stops half-way at it, and it is put where people see it, with the reason. */
import { type JobData, type JobLock, keysOf, Store } from '@nrdot/queue';
import { startNrdot, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Queue } from 'bullmq';
import { beforeEach, describe, expect, it } from 'vitest';
import { dump } from '../formats/redis-keys.ts';
import { scrape, writeConfig } from '../kit.ts';
import {
  batch,
  enqueue,
  MOVE,
  OPTIONS,
  redis,
  server,
  store,
  useStore,
  worstBreaker,
} from './store-on-redis.ts';

useStore();

const good = (key: string): JobData => ({
  signal: 'traces',
  class: 'high',
  origin: 'live',
  encoding: 'identity',
  items: 1,
  bytes: 1,
  batches: [{ key, items: 1, bytes: 1, receivedAt: 1 }],
});
const [one] = good('k').batches;

/** Data of jobs that are none of the pipeline's, and what is said of them. */
const ODD: Record<string, [data: string, why: RegExp]> = {
  'no JSON': ['hello', /no JSON/],
  'half of one': ['{"signal":"traces"', /no JSON/],
  'an empty object': ['{}', /data\.signal/],
  'a list': ['[]', /data\.signal/],
  null: ['null', /no object/],
  'a number': ['7', /no object/],
  'another signal': [JSON.stringify({ ...good('k'), signal: 'sms' }), /data\.signal/],
  'another class': [JSON.stringify({ ...good('k'), class: 'urgent' }), /data\.class/],
  'no origin': [JSON.stringify({ ...good('k'), origin: undefined }), /data\.origin/],
  'another encoding': [JSON.stringify({ ...good('k'), encoding: 'br' }), /data\.encoding/],
  'no batches': [JSON.stringify({ ...good('k'), batches: [] }), /no list of batches/],
  'batches as a text': [JSON.stringify({ ...good('k'), batches: 'k' }), /no list of batches/],
  'a batch without a key': [
    JSON.stringify({ ...good('k'), batches: [{ ...one, key: 7 }] }),
    /key is no text/,
  ],
  'items as a text': [JSON.stringify({ ...good('k'), items: '1' }), /not the sum/],
  'fewer items than none': [
    JSON.stringify({ ...good('k'), batches: [{ ...one, items: -1 }] }),
    /no whole number/,
  ],
  'half an item': [
    JSON.stringify({ ...good('k'), items: 0.5, batches: [{ ...one, items: 0.5 }] }),
    /no whole number/,
  ],
  'bytes that are missing': [
    JSON.stringify({ ...good('k'), batches: [{ ...one, bytes: null }] }),
    /no whole number/,
  ],
};

async function push(queue: 'high' | 'export' | 'spill', data: string, id: string, name = 'x'): Promise<void> {
  await redis.hset(store.keys.queue(queue, id), {
    name,
    data,
    opts: '{}',
    timestamp: 1,
    delay: 0,
    priority: 0,
  });
  await redis.lpush(store.keys.queue(queue, 'wait'), id);
}

let told: string[];
let watched: Store;
beforeEach(() => {
  told = [];
  watched = new Store(redis, OPTIONS, undefined, { odd: (line) => told.push(line) });
});

/** What BullMQ says of the failed jobs of a queue. */
async function failed(name: 'high' | 'export' | 'spill') {
  const queue = new Queue(name, { connection: redis, prefix: OPTIONS.prefix });
  try {
    return (await queue.getFailed()).map((job) => ({
      id: job.id,
      why: job.failedReason,
      data: job.data as unknown,
    }));
  } finally {
    await queue.close();
  }
}

const LIMITS = { token: 'test', lockMs: 60_000, maxJobs: 64, maxBytes: 1e6, alone: true, lookForLost: false };
const held = (id: string): JobLock => ({ queue: 'export', id, token: 'test', ended: false });

describe('foreign jobs', () => {
  it.each(Object.entries(ODD))('%s: a class queue continues without it', async (_, [data, why]) => {
    await enqueue(batch('high'));
    await push('high', data, 'odd');
    await enqueue(batch('high'));
    for (const mergeBytes of [0, 1_000]) {
      // Alone, and as what might be merged.
      expect((await watched.move({ ...MOVE, mergeBytes, maxPicks: 3 })).items.high).toBe(
        mergeBytes === 0 ? 20 : 0,
      );
    }
    expect(await failed('high')).toEqual([
      expect.objectContaining({ id: 'odd', why: expect.stringMatching(why) }),
    ]);
    expect(told).toEqual([expect.stringMatching(/^high odd: /)]);
    const { jobs } = await watched.take('export', LIMITS);
    for (const job of jobs) {
      await watched.settle(JSON.parse(job.data) as JobData, 'export', { outcome: 'delivered' }, held(job.id));
    }
    expect(await store.accounting()).toMatchObject({ accepted: 20, delivered: 20, queued: 0, difference: 0 });
    expect((await store.depth()).total).toEqual({ batches: 0, items: 0, bytes: 0 });
  });

  it('are also skipped when batches are merged', async () => {
    await enqueue(batch('high'));
    for (const [i, [data]] of Object.values(ODD).entries()) await push('high', data, `odd${i}`);
    await enqueue(batch('high'));
    expect(await watched.move({ ...MOVE, mergeBytes: 1_000 })).toMatchObject({
      jobs: 1,
      items: { high: 20 },
    });
    expect(await failed('high')).toHaveLength(Object.keys(ODD).length);
    expect((await store.depth()).total.items).toBe(20);
  });

  it('include copies of real ones without a payload, and those of another class', async () => {
    await push('high', JSON.stringify(good('nothing')), 'copy', 'traces');
    await push('high', JSON.stringify({ ...good('nothing'), class: 'normal' }), 'elsewhere', 'traces');
    expect((await watched.move(MOVE)).jobs).toBe(0);
    expect(await failed('high')).toEqual([
      expect.objectContaining({ id: 'elsewhere', why: expect.stringMatching(/not that of its queue/) }),
    ]);
    expect(told).toContainEqual(expect.stringMatching(/^high copy: none of its payloads is in Redis/));
    expect(await redis.exists(store.keys.queue('high', 'copy'))).toBe(0);
    expect((await store.depth()).total).toEqual({ batches: 0, items: 0, bytes: 0 });
  });

  it('leave the export queue, and jobs behind them are taken', async () => {
    for (const [i, [data]] of Object.values(ODD).entries()) await push('export', data, `odd${i}`);
    await enqueue(batch('high'));
    await store.move(MOVE);
    expect((await watched.take('export', LIMITS)).jobs).toHaveLength(1);
    expect(await failed('export')).toHaveLength(Object.keys(ODD).length);
    expect(told).toHaveLength(Object.keys(ODD).length);
  });

  it('with a payload that is not a string do not stop the export queue', async () => {
    const [first, second] = [batch('high'), batch('high')];
    await enqueue(first, second);
    await store.move(MOVE);
    await redis.del(store.keys.payload(first.id));
    await redis.hset(store.keys.payload(first.id), 'a', 'b');
    expect((await watched.take('export', LIMITS)).jobs.map(({ id }) => id)).toEqual([second.id]);
    expect(await failed('export')).toMatchObject([
      { id: first.id, why: expect.stringMatching(/payload of it is no string/) },
    ]);
  });

  it('stay where they are while waiting batches are drained to the dlq', async () => {
    await enqueue(batch('high'), batch('high'));
    await store.move({ ...MOVE, maxPicks: 1 });
    for (const [i, [data]] of Object.values(ODD).entries()) {
      await push('export', data, `odd${i}`);
      await push('high', data, `odd${i}`);
    }
    await store.report('traces', 'auth', 60_000);
    await watched.drain(1_000, Date.now());
    expect(await failed('export')).toHaveLength(Object.keys(ODD).length);
    expect(await failed('high')).toHaveLength(Object.keys(ODD).length);
    expect((await store.depth()).stages.spill.high).toMatchObject({ batches: 2, items: 20 });
    expect(await store.accounting()).toMatchObject({ accepted: 20, queued: 20, difference: 0 });
  });

  it('are removed from the spill queue', async () => {
    for (const [i, [data]] of Object.values(ODD).entries()) await push('spill', data, `odd${i}`);
    await redis.rpoplpush(store.keys.queue('spill', 'wait'), store.keys.queue('spill', 'active'));
    await watched.take('spill', { ...LIMITS, lookForLost: true });
    expect(await failed('spill')).toHaveLength(Object.keys(ODD).length);
    expect(await redis.exists(store.keys.queue('spill', 'wait'), store.keys.queue('spill', 'active'))).toBe(
      0,
    );
  });

  it('whose key is not a hash, or is gone, leave the list and are reported', async () => {
    await redis.lpush(store.keys.queue('high', 'wait'), 'gone', 'text');
    await redis.set(store.keys.queue('high', 'text'), 'x');
    await enqueue(batch('high'));
    expect((await watched.move(MOVE)).jobs).toBe(1);
    expect(told.sort()).toEqual([
      expect.stringMatching(/^high gone: it has no data/),
      expect.stringMatching(/^high text: its key is no hash/),
    ]);
    expect(await redis.llen(store.keys.queue('high', 'wait'))).toBe(0);
  });
});

describe('keys of a wrong type', () => {
  const STEPS: Record<string, (on: Store, job: JobData) => Promise<unknown>> = {
    enqueue: (on) => on.enqueue([[batch('high'), batch('normal')]], Date.now()),
    move: (on) => on.move(MOVE),
    take: (on) => on.take('export', { ...LIMITS, lookForLost: true }),
    settle: (on, job) => on.settle(job, 'export', { outcome: 'delivered' }, held(job.batches[0]!.key)),
    leave: (on, job) => on.release(held(job.batches[0]!.key), 1_000),
    drain: (on) => on.drain(10, Date.now()),
    book: (on) => on.book({ id: 'entry', counts: { accepted: 1, 'dropped:corrupted': 1 } }),
    handOver: (on, job) => {
      const key = `${job.batches[0]!.key}-s`;
      const piece = { ...job, batches: [{ ...job.batches[0]!, key }] };
      const order = { queue: 'spill' as const, data: piece, payloads: [{ key, old: job.batches[0]!.key }] };
      return on.handOver(job, [order], 'last', Date.now());
    },
  };
  const keys = keysOf(OPTIONS.prefix);
  const NAMED = [
    ...[keys.depth, keys.books, keys.wake, keys.scheduler, keys.outcomes, keys.booked, keys.signals],
    ...[keys.breaker('logs'), keys.queue('high', 'aside:logs')],
    ...(['critical', 'high', 'normal', 'replay-high', 'export', 'spill'] as const).map((q) =>
      keys.queue(q, 'wait'),
    ),
    ...(['active', 'delayed', 'marker', 'meta'] as const).map((part) => keys.queue('export', part)),
    ...(['marker', 'meta'] as const).map((part) => keys.queue('spill', part)),
  ];

  it.each(Object.keys(STEPS))('%s is atomic', async (step) => {
    let stopped = 0;
    for (const key of NAMED) {
      await redis.flushall();
      await enqueue(batch('high'), batch('normal'), batch('critical'));
      await store.move({ ...MOVE, maxPicks: 2 });
      const [taken] = (await store.take('export', { ...LIMITS, maxJobs: 1 })).jobs;
      if (step === 'drain')
        await redis.hset(keys.breaker('traces'), { state: 'open', retry_at: Date.now() + 60_000 });
      await redis.del(key);
      await redis.set(key, 'x');
      const before = await claimed();
      const failure = await STEPS[step]!(store, JSON.parse(taken!.data) as JobData).then(
        () => undefined,
        (error: Error) => error,
      );
      if (!failure) continue;
      stopped++;
      expect(failure.message, `${step} with ${key}`).toMatch(/WRONGTYPE/);
      expect((await claimed()) === before, `${step} with ${key} changed nothing`).toBe(true);
    }
    expect(stopped).toBeGreaterThan(0);
  });

  /** Payloads that nobody was promised expire by themselves. */
  async function claimed(): Promise<string> {
    for (const key of await redis.keys(keys.payload('*')))
      if ((await redis.ttl(key)) >= 0) await redis.del(key);
    return JSON.stringify(await dump(redis, keys.prefix));
  }

  it('counters that are not numbers are reset without failing a step', async () => {
    await enqueue(batch('high'), batch('normal'));
    for (const hash of [keys.depth, keys.books, keys.scheduler, keys.signals])
      for (const field of Object.keys(await redis.hgetall(hash))) await redis.hset(hash, field, 'x');
    await redis.hset(keys.scheduler, { 'live:virtual': 'x', 'live:high': 'x', weights: 'x', decisions: 'x' });
    await enqueue(batch('critical'));
    expect((await store.move(MOVE)).jobs).toBe(3);
    for (const { id, data } of (await store.take('export', LIMITS)).jobs) {
      await redis.hset(keys.queue('export', id), 'atm', 'x');
      expect(await store.release(held(id), 1)).toBe(true);
      await store.settle(JSON.parse(data) as JobData, 'export', { outcome: 'delivered' });
    }
    expect((await store.books()).delivered).toBe(30);
  });
});

it('the breaker works if its fields are not numbers', async () => {
  const at = keysOf(OPTIONS.prefix).breaker('traces');
  const spoil = async () => {
    const state = (await redis.hget(at, 'state')) ?? 'closed';
    const fields = [
      'failures',
      'opened',
      'retry_at',
      'since',
      'opened_total',
      'opened_total:failures',
      'closed_total',
      'ok_total',
      'epoch',
    ];
    for (let i = 0; i < 10; i++) fields.push(`n:${i}`, `q:${i}`, `at:${i}`);
    for (const [i, field] of [...fields, 'half_opened_total'].entries())
      await redis.hset(at, field, ['x', 'inf', 'nan', ''][i % 4]!);
    await redis.hset(at, 'state', state);
  };
  await spoil();
  for (let i = 0; i < OPTIONS.breaker.failures; i++) await store.report('traces', 'failure', 0);
  expect((await worstBreaker()).state).toBe('open');
  await spoil();
  expect((await store.move(MOVE)).breaker).toBe('half_open'); // no time for the probe: now
  await spoil();
  expect(await store.report('traces', 'ok', 0)).toBe('closed');
  for (const value of Object.values(await worstBreaker()).filter((v) => typeof v === 'number'))
    expect(Number.isFinite(value)).toBe(true);
});

it('a failing script is reported, counted, and eventually makes its service not ready', async () => {
  using dir = temporaryDirectory();
  const file = writeConfig(dir.path, { redis: { url: server.url, prefix: 'test' } });
  await using scheduler = startNrdot(['scheduler', '--config', file], {}, dir.path);
  const [, address = ''] = await scheduler.line(/"admin":"([^"]+)","msg":"started"/);
  const admin = `http://${address}`;
  const ready = async () => (await fetch(`${admin}/readyz`)).ok;
  await waitUntil(ready, { what: 'it is ready' });
  await redis.set(store.keys.queue('high', 'wait'), 'x');
  await scheduler.line(/the script move failed, and nothing was changed.*high:wait/);
  await waitUntil(async () => !(await ready()), { what: 'it is not ready', timeoutMs: 60_000 });
  expect(await (await fetch(`${admin}/readyz`)).text()).toMatch(/the script move has been failing/);
  const failures = (await scrape(admin)).find(
    ({ name, labels }) => name === 'apq_script_failures_total' && labels.script === 'move',
  );
  expect(failures?.value).toBeGreaterThan(0);
  await redis.del(store.keys.queue('high', 'wait'));
  await waitUntil(ready, { what: 'it is ready again', timeoutMs: 60_000 });
  expect(scheduler.output(2_000).match(/the script move failed/g)).toHaveLength(1);
});
