/** On a real redis-server: what fails, hangs or is held, fails by its signal alone. */
import type { Signal } from '@nrdot/otlp';
import { CLASSES } from '@nrdot/queue';
import { describe, expect, it } from 'vitest';
import { batch, enqueue, MOVE, redis, store, useStore, worstBreaker } from './store-on-redis.ts';

useStore();

const limits = {
  ...{ token: 'one', lockMs: 60_000, maxJobs: 1_000, maxBytes: 1e9, alone: true, lookForLost: false },
};
const of = (signal: Signal, n: number, more = {}) =>
  Array.from({ length: n }, () => batch('normal', 10, { signal, ...more }));

async function takenSignals(): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { data } of (await store.take('export', limits)).jobs) {
    const { signal } = JSON.parse(data) as { signal: string };
    counts[signal] = (counts[signal] ?? 0) + 1;
  }
  return counts;
}

async function drained(): Promise<void> {
  while ((await store.drain(16, Date.now())) === 16);
}

describe('an individual signal', () => {
  it('opens its own breaker: its new data goes to disk, the others continue', async () => {
    await enqueue(...of('logs', 3), ...of('traces', 3), ...of('logs', 3));
    await store.report('logs', 'auth', 0, { said: 'no scope' });
    expect(await enqueue(...of('logs', 1), ...of('traces', 1))).toEqual(['spilled', 'queued']);
    await store.move(MOVE);
    await drained();
    expect(await takenSignals()).toEqual({ traces: 4 });
    const { stages, total } = await store.depth();
    expect([stages.spill.normal.batches, stages.queued.normal.batches, total.batches]).toEqual([7, 0, 11]);
    expect(await store.breakers()).toMatchObject([
      { signal: 'traces', state: 'closed' },
      { signal: 'metrics', state: 'closed' },
      { signal: 'logs', state: 'open', reason: 'auth', said: 'no scope' },
      { signal: 'profiles', state: 'closed' },
    ]);
    expect(await worstBreaker()).toMatchObject({ signal: 'logs', state: 'open' });
    expect((await store.accounting()).difference).toBe(0);
  });

  it('triggers no extra moves while its breaker is open, however much waits to be drained', async () => {
    await enqueue(...of('logs', 3));
    await store.move(MOVE);
    await store.report('logs', 'auth', 0);
    expect(await store.take('export', limits)).toMatchObject({ jobs: [], waiting: 0, heldBack: 0 });
  });

  it('has its own window: a hanging signal fills only that, and others pass', async () => {
    const small = { ...MOVE, windowBatches: 5 };
    await enqueue(...of('logs', 20), ...of('traces', 4), ...of('logs', 3), ...of('metrics', 2));
    for (let i = 0; i < 5; i++) await store.move(small);
    expect(await takenSignals()).toEqual({ logs: 5, traces: 4, metrics: 2 });
    // What was set aside keeps its order, and goes before what came later.
    await enqueue(...of('logs', 1));
    const left = await store.depth();
    expect(left.stages.queued.normal.batches).toBe(19);
    const keys = async () => (await redis.lrange(store.keys.queue('normal', 'aside:logs'), 0, -1)).reverse();
    const aside = await keys();
    expect(aside.length).toBeGreaterThan(0);
    for (const id of await redis.lrange(store.keys.queue('export', 'active'), 0, -1))
      await store.release({ queue: 'export', id, token: 'one', ended: false }, 600_000);
    await redis.hset(store.keys.signals, 'out:logs', 2); // three of them have ended
    await store.move(small);
    expect((await redis.lrange(store.keys.queue('export', 'wait'), 0, -1)).reverse()).toEqual(
      aside.slice(0, 3),
    );
  });

  it.each(['0', 'x', '-3'])('is found where it was set aside even if its count is %j', async (count) => {
    const small = { ...MOVE, windowBatches: 2 };
    await enqueue(...of('logs', 8), ...of('traces', 1));
    for (let i = 0; i < 3; i++) await store.move(small);
    expect(await redis.llen(store.keys.queue('normal', 'aside:logs'))).toBeGreaterThan(0);
    await redis.hset(store.keys.signals, 'aside', count);
    let taken = 0;
    for (let i = 0; i < 20 && taken < 9; i++) {
      for (const { id, data } of (await store.take('export', limits)).jobs) {
        const held = {
          ...{
            queue: 'export' as const,
            id,
            token: limits.token,
            epoch: '',
            ended: false,
            mayDefer: false,
          },
        };
        await store.settle(JSON.parse(data), 'export', { outcome: 'delivered' }, held);
        taken++;
      }
      await store.move(small);
    }
    expect(taken).toBe(9);
    expect((await store.depth()).total.batches).toBe(0);
    expect(await redis.hget(store.keys.signals, 'aside')).toBe('0');
  });

  it('is not set aside while no other signal waits behind it', async () => {
    await enqueue(...of('logs', 20));
    await store.move({ ...MOVE, windowBatches: 5 });
    expect(await redis.llen(store.keys.queue('normal', 'wait'))).toBe(15);
    expect(await redis.exists(store.keys.queue('normal', 'aside:logs'))).toBe(0);
  });

  it('is skipped at a consumer without room for it, and others are taken', async () => {
    await enqueue(...of('logs', 6), ...of('traces', 2));
    await store.move(MOVE);
    const room = (jobs: number) => ({ jobs, bytes: 1e9, alone: false });
    const { jobs, heldBack } = await store.take('export', {
      ...limits,
      signals: { logs: room(2), traces: room(5), metrics: room(5), profiles: room(5) },
    });
    expect(jobs.map(({ data }) => (JSON.parse(data) as { signal: string }).signal).sort()).toEqual([
      ...['logs', 'logs', 'traces', 'traces'],
    ]);
    expect(heldBack).toBeGreaterThan(0);
  });

  it('5:3:1 holds for all signals that flow while one is paused', async () => {
    await store.report('logs', 'place', 0);
    await redis.hset(store.keys.breaker('logs'), 'retry_at', Date.now() + 600_000);
    for (const c of CLASSES)
      await enqueue(...Array.from({ length: 200 }, () => batch(c, 10, { signal: 'traces' })));
    const result = await store.move({ ...MOVE, windowBatches: 180, maxPicks: 500 });
    expect(result.items).toEqual({ critical: 1_000, high: 600, normal: 200 });
  });

  it('an answer counts only in the state in which its request was sent', async () => {
    await enqueue(...of('logs', 16), ...of('traces', 1));
    await store.move(MOVE);
    const { jobs } = await store.take('export', limits);
    const epoch = jobs[0]!.epoch;
    for (let i = 0; i < 5; i++) await store.report('logs', 'failure', 0, { epoch });
    const opened = await store.breakers();
    expect(opened[2]).toMatchObject({ state: 'open', openedTotal: 1 });
    await redis.hset(store.keys.breaker('logs'), 'retry_at', '0');
    await store.move(MOVE);
    // Eleven others that were in flight when it opened are late.
    for (let i = 0; i < 11; i++)
      expect(await store.report('logs', 'failure', 0, { epoch })).toBe('half_open');
    expect(await store.report('logs', 'ok', 0, { epoch })).toBe('half_open');
    expect((await store.breakers())[2]).toMatchObject({ state: 'half_open', openedTotal: 1 });
    expect(await store.report('logs', 'ok', 0)).toBe('closed');
  });

  it("an operator's pause outlives the breaker, and the breaker does not use it", async () => {
    await redis.hset(store.keys.queue('export', 'meta'), 'paused', '1');
    await enqueue(...of('logs', 2));
    await store.report('logs', 'auth', 0);
    await redis.hset(store.keys.breaker('logs'), 'retry_at', '0');
    expect((await store.move(MOVE)).breaker).toBe('half_open');
    expect(await store.report('logs', 'ok', 0)).toBe('closed');
    expect(await redis.hget(store.keys.queue('export', 'meta'), 'paused')).toBe('1');
    expect((await store.move(MOVE)).jobs).toBe(0);
    expect((await store.take('export', limits)).jobs).toEqual([]);
    await redis.hdel(store.keys.queue('export', 'meta'), 'paused');
    expect((await store.move(MOVE)).jobs).toBeGreaterThan(0);
  });
});
