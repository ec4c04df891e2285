import { KeyBudget } from '@nrdot/queue';
import { temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../redis-server.ts';

const KEY = '{nrdot}:leases';
const BUDGET = 65_536;

let dir: ReturnType<typeof temporaryDirectory>;
let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  dir = temporaryDirectory();
  server = await startRedis({ dir: dir.path });
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});
beforeEach(() => redis.flushall());

const budget = (holder: string, leaseMs = 60_000) =>
  new KeyBudget(redis, { key: KEY, holder, budget: BUDGET, leaseMs });

describe('KeyBudget', () => {
  it('is all of it for one receiver', async () => {
    expect(await budget('a').lease()).toBe(BUDGET);
    expect(await redis.hgetall(KEY)).toEqual({ a: expect.stringMatching(/^65536 \d+$/) });
  });

  it('is shared evenly once those that held more have renewed', async () => {
    const [a, b, c] = [budget('a'), budget('b'), budget('c')];
    expect(await a.lease()).toBe(BUDGET);
    expect(await b.lease()).toBe(0); // nothing is left until `a` gives some back
    expect(await a.lease()).toBe(BUDGET / 2);
    expect(await b.lease()).toBe(BUDGET / 2);
    expect(await c.lease()).toBe(0);
    for (const each of [a, b, c]) await each.lease();
    for (const each of [a, b, c]) expect(await each.lease()).toBe(Math.floor(BUDGET / 3));
  });

  it('returns what was released, and what a dead receiver held', async () => {
    const a = budget('a');
    const b = budget('b');
    await b.lease();
    await a.lease();
    await b.lease();
    await b.release();
    expect(await a.lease()).toBe(BUDGET);

    const dead = budget('dead', 50);
    await dead.lease();
    await a.lease();
    await dead.lease();
    expect(await a.lease()).toBe(BUDGET / 2);
    // `dead` is not heard of again.
    await waitUntil(async () => (await a.lease()) === BUDGET, { what: 'the lease of the dead expired' });
    expect(Object.keys(await redis.hgetall(KEY))).toEqual(['a']);
  });

  it('is never more than the budget in all, whoever comes and goes', async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    let state = seed;
    const below = (n: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      return Math.floor((state / 2 ** 31) * n);
    };
    const holders = Array.from({ length: 8 }, (_, i) => ({ budget: budget(`r${i}`), keys: 0 }));
    for (let step = 0; step < 2_000; step++) {
      const one = holders[below(holders.length)]!;
      if (below(5) === 0) {
        await one.budget.release();
        one.keys = 0;
      } else one.keys = await one.budget.lease();
      const held = holders.reduce((sum, { keys }) => sum + keys, 0);
      expect(held, `seed ${seed}, step ${step}`).toBeLessThanOrEqual(BUDGET);
    }
  });

  it('overlooks what somebody else wrote there', async () => {
    await redis.hset(KEY, 'odd', 'many');
    expect(await budget('a').lease()).toBe(BUDGET);
    expect(Object.keys(await redis.hgetall(KEY))).toEqual(['a']);
  });
});
