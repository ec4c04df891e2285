/** On a real redis-server: the breaker, in the step that takes an answer and in those that obey it. */
import { CLASSES, Store } from '@nrdot/queue';
import { waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { batch, enqueue, MOVE, OPTIONS, redis, store, useStore, worstBreaker } from './store-on-redis.ts';

useStore();

describe('the breaker', () => {
  it('opens after exactly five consecutive failures, and a success in between resets the count', async () => {
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
      expect(await store.report('traces', kind, 0)).toBe('closed');
    }
    expect(await store.report('traces', 'failure', 0)).toBe('open');
    expect(await worstBreaker()).toMatchObject({
      state: 'open',
      reason: 'failures',
      openedTotal: 1,
      openedByReason: { failures: 1, quota: 0, auth: 0, place: 0 },
    });
    // An operator's pause is another gate.
    expect(await redis.hget(store.keys.queue('export', 'meta'), 'paused')).toBeNull();
  });

  it('opens at 30 % of 429 among enough responses, with its own reason', async () => {
    for (let i = 0; i < 7; i++) await store.report('traces', 'ok', 0);
    expect(await store.report('traces', 'quota', 0)).toBe('closed');
    expect(await store.report('traces', 'quota', 0)).toBe('closed'); // 2 of 9: too few answers
    expect(await store.report('traces', 'quota', 0)).toBe('open'); // 3 of 10
    expect((await worstBreaker()).reason).toBe('quota');
  });

  it("is not open for an hour longer when Redis' clock is set back by an hour", async () => {
    for (let i = 0; i < 5; i++) await store.report('traces', 'failure', 0);
    const key = store.keys.breaker('traces');
    for (const field of ['since', 'retry_at']) await redis.hincrby(key, field, 3_600_000);
    const { breaker, probeInMs } = await store.move(MOVE);
    expect(breaker).toBe('open');
    expect(probeInMs).toBeLessThanOrEqual(OPTIONS.breaker.minOpenMs);
    await waitUntil(async () => (await store.move(MOVE)).breaker === 'half_open', { what: 'it is tried' });
  });

  it('forgets 429 responses outside its window', async () => {
    const sliding = new Store(redis, {
      ...OPTIONS,
      breaker: { ...OPTIONS.breaker, failures: 1_000, windowMs: 2_000 },
    });
    for (let i = 0; i < 9; i++) expect(await sliding.report('traces', 'quota', 0)).toBe('closed');
    expect((await worstBreaker(sliding)).throttledShare).toBe(1);
    const tenths = Object.entries(await redis.hgetall(sliding.keys.breaker('traces'))).filter(([field]) =>
      field.startsWith('at:'),
    );
    const last = Math.max(...tenths.map(([, tenth]) => Number(tenth)));
    // Past the moment at which the same slot of the window is used again: what is left must be passed over, not overwritten.
    await waitUntil(() => Date.now() / 200 > last + 12, { what: 'the window is over' });
    expect((await worstBreaker(sliding)).throttledShare).toBe(0);
    expect(await sliding.report('traces', 'quota', 0)).toBe('closed'); // the tenth of all, the first of this window
    expect((await worstBreaker(sliding)).throttledShare).toBe(1);
  });

  it('doubles its open time after each failed probe, up to its limit, and resets it after a success', async () => {
    const openMs = async () => {
      const { retryAtMs, sinceMs } = await worstBreaker();
      return retryAtMs - sinceMs;
    };
    const probe = async (kind: 'ok' | 'failure') => {
      await redis.hset(store.keys.breaker('traces'), 'retry_at', '0'); // its time has come
      expect((await store.move(MOVE)).breaker).toBe('half_open');
      return store.report('traces', kind, 0);
    };
    expect(await store.report('traces', 'auth', 0)).toBe('open');
    const times = [await openMs()];
    for (let i = 0; i < 5; i++) {
      expect(await probe('failure')).toBe('open');
      times.push(await openMs());
    }
    expect(times).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    expect(await probe('ok')).toBe('closed');
    expect(await store.report('traces', 'auth', 0)).toBe('open');
    expect(await openMs()).toBe(100);
  });

  it.each(['auth', 'place'] as const)(
    'opens immediately for the %s, and remembers the message',
    async (reason) => {
      expect(await store.report('traces', reason, 0, { said: 'no such path' })).toBe('open');
      expect(await worstBreaker()).toMatchObject({ reason, said: 'no such path' });
    },
  );

  it('counts a fault once per batch, and always for a probe', async () => {
    for (let i = 0; i < 4; i++) expect(await store.report('traces', 'fault', 0)).toBe('closed');
    for (let i = 0; i < 20; i++) expect(await store.report('traces', 'again', 0)).toBe('closed');
    expect(await store.report('traces', 'fault', 0)).toBe('open');
    await redis.hset(store.keys.breaker('traces'), 'retry_at', '0');
    expect((await store.move(MOVE)).breaker).toBe('half_open');
    expect(await store.report('traces', 'again', 0)).toBe('open');
  });

  it('spills waiting batches by class, returns replayed ones, and lets one probe through when due', async () => {
    await enqueue(batch('critical'), batch('normal'), batch('high', 10, { origin: 'replay' }));
    await store.move({ ...MOVE, maxPicks: 1 });
    await enqueue(batch('high'));
    for (let i = 0; i < 5; i++) await store.report('traces', 'failure', 0);
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
    const first = await worstBreaker();
    expect(await store.report('traces', 'failure', 0)).toBe('open');
    const again = await worstBreaker();
    expect(again.retryAtMs - again.sinceMs).toBeGreaterThan(150);
    expect(again.openedTotal).toBe(first.openedTotal + 1);
    await waitUntil(async () => (await store.move(MOVE)).breaker === 'half_open', {
      what: 'it is time for the next probe',
    });
    expect(await store.report('traces', 'ok', 0)).toBe('closed');
    expect((await store.move(MOVE)).breaker).toBe('closed');
    expect(await worstBreaker()).toMatchObject({
      openedTotal: again.openedTotal,
      halfOpenedTotal: 2,
      closedTotal: 1,
    });
    expect((await store.accounting()).difference).toBe(0);
  });

  it('spills the lowest class first, and probes with a single unmerged batch', async () => {
    await enqueue(...CLASSES.flatMap((c) => [batch(c), batch(c)]));
    await store.report('traces', 'auth', 0);
    const order: string[] = [];
    for (let i = 0; i < 6; i++) {
      const before = (await store.depth()).stages.spill;
      expect(await store.drain(1, Date.now())).toBe(1);
      const after = (await store.depth()).stages.spill;
      order.push(...CLASSES.filter((c) => after[c].batches > before[c].batches));
    }
    expect(order).toEqual(['normal', 'normal', 'high', 'high', 'critical', 'critical']);
    await redis.hset(store.keys.breaker('traces'), 'retry_at', '0');
    expect((await store.move({ ...MOVE, mergeBytes: 1e6 })).breaker).toBe('half_open');
    await enqueue(batch('high'), batch('high'), batch('high'));
    expect((await store.move({ ...MOVE, mergeBytes: 1e6 })).items.high).toBe(10);
    expect((await store.move({ ...MOVE, mergeBytes: 1e6 })).items.high).toBe(0);
  });

  it('waits for as long as Retry-After asks', async () => {
    for (let i = 0; i < 5; i++) await store.report('traces', 'failure', 5_000);
    const { retryAtMs, sinceMs } = await worstBreaker();
    expect(retryAtMs - sinceMs).toBe(5_000);
  });
});
