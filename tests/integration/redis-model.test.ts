/** The crash model's Redis against the real one: the same commands, the same steps of the store, the same keys after them. */

import { type Batch, CLASSES, type JobData, type JobLock, Store, type StoreOptions } from '@nrdot/queue';
import { connect, type RedisConnection } from '@nrdot/redis';
import { seededRandom, temporaryDirectory } from '@nrdot/testbed';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ModelConnection } from '../crash/connection.ts';
import { RedisError, RedisModel, type Reply } from '../crash/redis.ts';
import { dump } from '../formats/redis-keys.ts';
import { type RedisServer, startRedis } from '../redis-server.ts';

const COMMANDS = 6_000;
const STEPS = 1_500;
const HOUR_MS = 3_600_000;
const OPTIONS: StoreOptions = {
  prefix: '{m}',
  maxBytes: 20_000,
  maxItems: 60,
  spillAt: 0.7,
  spillHysteresis: 0.2,
  // Times out of reach: the clocks of the two are not the same.
  breaker: {
    failures: 3,
    throttleRatio: 0.5,
    minAnswers: 4,
    windowMs: 1000 * HOUR_MS,
    minOpenMs: HOUR_MS,
    maxOpenMs: HOUR_MS,
  },
};
const MOVE = {
  windowBatches: 6,
  windowBytes: 10_000,
  mergeBytes: 400,
  weights: { critical: 5, high: 3, normal: 1 },
  maxPicks: 4,
  slotMs: 1e13,
};

let dir: ReturnType<typeof temporaryDirectory>;
let server: RedisServer;
let redis: RedisConnection;
beforeAll(async () => {
  dir = temporaryDirectory();
  server = await startRedis({ dir: dir.path });
  redis = connect({ url: server.url }, { kind: 'consumer', name: 'model', commandTimeoutMs: 5_000 });
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** JSON with its fields in one order: what Lua writes has none. */
function ordered(value: unknown): unknown {
  if (typeof value === 'string' && /^\{.*\}$/.test(value)) return JSON.stringify(ordered(JSON.parse(value)));
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, field]) => [key, ordered(field)]),
  );
}

/** Of the two clocks only the hours are the same. */
const withoutTimes = (text: string) => text.replace(/\b(1[789]\d{11}|[67]\d{15})(\.\d+)?\b/g, 'T');

function keysOfModel(model: RedisModel): unknown {
  return model
    .keys()
    .sort()
    .map((key) => {
      for (const [type, read] of Object.entries(READ)) {
        try {
          return { key, type, value: read(model, key) };
        } catch (error) {
          if (!(error instanceof RedisError)) throw error;
        }
      }
      throw new Error(`${key} has no type`);
    });
}
const READ: Record<string, (model: RedisModel, key: string) => string[]> = {
  string: (model, key) => [Buffer.from(model.call('GET', [key]) as string, 'latin1').toString('base64')],
  hash: (model, key) => pairsSorted(model.call('HGETALL', [key]) as string[]),
  list: (model, key) => model.call('LRANGE', [key, '0', '-1']) as string[],
  zset: (model, key) => {
    const pairs = model.call('ZRANGE', [key, '0', '-1', 'WITHSCORES']) as string[];
    return pairs.map((_, i) => pairs[i ^ 1]!);
  },
};

function pairsSorted(list: readonly string[]): string[] {
  return Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flat();
}

async function keysOfRedis(prefix: string): Promise<unknown> {
  const keys = await dump(redis, prefix);
  return keys.map((entry) => (entry.type === 'hash' ? { ...entry, value: pairsSorted(entry.value) } : entry));
}

it('answers each command and stores data like the real one', async () => {
  const seed = Math.floor(Math.random() * 2 ** 30);
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  const model = new RedisModel(Date.now);
  const key = () => `c:${whole(7)}`;
  const value = () => `v${whole(5)}`;
  const index = () => String(whole(6) - (random() < 0.3 ? 1 : 0));
  const make: Record<string, () => string[]> = {
    SET: () => [key(), value(), ...(random() < 0.3 ? ['EX', '600'] : []), ...(random() < 0.3 ? ['NX'] : [])],
    GET: () => [key()],
    MGET: () => [key(), key()],
    UNLINK: () => [key()],
    EXISTS: () => [key(), key()],
    TTL: () => [key()],
    PERSIST: () => [key()],
    PEXPIRE: () => [key(), '600000'],
    RENAME: () => [key(), key()],
    HSET: () => [key(), value(), value()],
    HSETNX: () => [key(), value(), value()],
    HLEN: () => [key()],
    HGET: () => [key(), value()],
    HMGET: () => [key(), value(), value()],
    HDEL: () => [key(), value()],
    HINCRBY: () => [key(), `n${whole(3)}`, String(whole(9) - 4)],
    LPUSH: () => [key(), value()],
    RPUSH: () => [key(), value(), value()],
    RPOP: () => [key()],
    RPOPLPUSH: () => [key(), key()],
    LINDEX: () => [key(), index()],
    LLEN: () => [key()],
    LPOS: () => [key(), value()],
    LRANGE: () => [key(), index(), String(whole(5) - 1)],
    LTRIM: () => [key(), String(whole(3)), '-1'],
    LREM: () => [key(), random() < 0.5 ? '1' : '-1', value()],
    ZADD: () => [key(), String(whole(9)), value()],
    ZREM: () => [key(), value()],
    ZCARD: () => [key()],
    ZPOPMIN: () => [key()],
    ZRANGE: () => [key(), '0', String(whole(3) - 1), ...(random() < 0.5 ? ['WITHSCORES'] : [])],
    ZRANGEBYSCORE: () => [key(), '0', String(whole(9)), 'LIMIT', '0', '2'],
  };
  const names = Object.keys(make);
  for (let n = 0; n < COMMANDS; n++) {
    const name = names[whole(names.length)]!;
    const args = make[name]!();
    const real = await redis
      .call(name, ...args)
      .catch((error: Error) => `error ${error.message.split(' ')[0]}`);
    const flat = Array.isArray(real) ? real.flat() : real; // ioredis pairs scores with members
    let modelled: Reply | string;
    try {
      modelled = model.call(name, args);
    } catch (error) {
      if (!(error instanceof RedisError)) throw error;
      modelled = `error ${error.message.split(' ')[0]}`;
    }
    if (typeof modelled === 'object' && modelled !== null && 'status' in modelled) modelled = modelled.status;
    expect(modelled, `seed ${seed}, command ${n}: ${name} ${args.join(' ')}`).toEqual(flat);
  }
  expect(keysOfModel(model)).toEqual(await keysOfRedis('c'));
});

// Found by seed 936716241.
it('rotates a list of one element in place, like the real one: its expiry stays', async () => {
  const model = new RedisModel(Date.now);
  for (const [name, ...args] of [
    ['RPUSH', 't:0', 'only'],
    ['PEXPIRE', 't:0', '600000'],
    ['RPOPLPUSH', 't:0', 't:0'],
    ['TTL', 't:0'],
  ] as const) {
    expect(model.call(name, args), `${name} ${args.join(' ')}`).toEqual(await redis.call(name, ...args));
  }
});

it('runs the scripts with the same result', async () => {
  const seed = Math.floor(Math.random() * 2 ** 30);
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  const model = new RedisModel(Date.now);
  const connection: ModelConnection = new ModelConnection('consumer', () =>
    queueMicrotask(() => {
      connection.execute(model, connection.waiting);
      connection.assure();
      connection.deliver();
    }),
  );
  const stores = [new Store(redis, OPTIONS), new Store(connection as unknown as RedisConnection, OPTIONS)];
  let ids = 0;
  let leaves = 0;
  const now = Date.now();
  let held: { lock: JobLock; data: JobData }[] = [];
  const replayed = (origin: Batch['origin'], id: string) => (origin === 'replay' ? `r${id}` : id);
  const batch = (): Batch => {
    const origin = random() < 0.3 ? 'replay' : 'live';
    return {
      id: replayed(origin, `b${random() < 0.1 ? whole(ids + 1) : ids++}`),
      signal: 'traces',
      class: CLASSES[whole(3)]!,
      origin,
      encoding: 'identity',
      items: 1 + whole(4),
      receivedAt: now,
      payload: Buffer.alloc(20 + whole(200), 'p'),
    };
  };
  const job = () => held.splice(whole(held.length), 1)[0];
  const step = <T>(make: () => T | undefined, run: (store: Store, made: T) => Promise<unknown>) => {
    const made = make();
    return made === undefined ? undefined : (store: Store) => run(store, structuredClone(made));
  };
  const kinds = [
    () =>
      step(
        () => Array.from({ length: 1 + whole(3) }, batch),
        (store, made) => store.enqueue([made.map((b) => ({ ...b, payload: Buffer.from(b.payload) }))], now),
      ),
    () =>
      step(
        () => 1,
        async (store) => ({ ...(await store.move(MOVE)), probeInMs: 0 }),
      ),
    () =>
      step(
        () => `t${whole(3)}`,
        async (store, token) => {
          const limits = {
            token,
            lockMs: HOUR_MS,
            maxJobs: 2,
            maxBytes: 500,
            alone: true,
            lookForLost: true,
          };
          const taken = await store.take('export', limits);
          if (store === stores[0]) {
            for (const { id, data } of taken.jobs)
              held.push({ lock: { queue: 'export', id, token, ended: false }, data: JSON.parse(data) });
          }
          return { ...taken, nextInMs: taken.nextInMs < 0 };
        },
      ),
    () =>
      step(job, (store, one) =>
        store.settle(
          one.data,
          'export',
          { outcome: 'delivered', refusedItems: one.data.items > 3 ? 1 : 0 },
          one.lock,
        ),
      ),
    // Each for longer than those before: in one millisecond by one clock may be in two by the other, and a tie is broken by name.
    () => {
      const delayMs = HOUR_MS + 1_000 * leaves++;
      return step(job, (store, one) => store.release(one.lock, delayMs));
    },
    () =>
      step(job, (store, { data }) =>
        store.handOver(
          data,
          data.batches.map((b) => ({
            queue: 'spill' as const,
            data: {
              ...data,
              origin: 'live' as const,
              items: b.items,
              bytes: b.bytes,
              batches: [{ ...b, key: `${b.key}s` }],
              reason: 'retries_exhausted',
            },
            payloads: [{ key: `${b.key}s`, old: b.key }],
          })),
          'last',
          now,
        ),
      ),
    () =>
      step(job, (store, { data }) =>
        store.handOver(
          data,
          ['x', 'y'].map((half) => ({
            queue: 'export' as const,
            data: {
              ...data,
              items: 1,
              bytes: 5,
              batches: [{ key: `${data.batches[0]!.key}${half}`, items: 1, bytes: 5, receivedAt: now }],
            },
            payloads: [{ key: `${data.batches[0]!.key}${half}`, bytes: Buffer.from('halve') }],
          })),
          'next',
          now,
        ),
      ),
    () =>
      step(
        () => (['ok', 'ok', 'ok', 'quota', 'failure', 'auth'] as const)[whole(6)]!,
        (store, kind) => store.report('traces', kind, 0),
      ),
    () =>
      step(
        () => 1,
        (store) => store.drain(3, now),
      ),
    () =>
      step(
        () => 1,
        async (store) => {
          const { redis, keys } = store;
          const [id] = await redis.lrange(keys.queue('spill', 'wait'), -1, -1);
          if (id === undefined) return 'nothing to spill';
          const spilled = JSON.parse((await redis.hget(keys.queue('spill', id), 'data')) ?? '') as JobData;
          return store.takeBack(spilled, spilled.batches[0]!, now);
        },
      ),
    () =>
      step(
        () => whole(4),
        (store, from) => store.replayOutcomes(from, 5),
      ),
    () =>
      step(
        () => (random() < 0.3 ? whole(30) : undefined),
        (store, upTo) => store.forgetReplayOutcomes(upTo),
      ),
    () =>
      step(
        () => `e${whole(40)}`,
        (store, id) => store.book({ id, counts: { accepted: 3 } }),
      ),
    // An open breaker stays open for an hour: somebody closes it.
    () =>
      step(
        () => (random() < 0.2 ? 1 : undefined),
        async (store) => {
          await store.redis.hset(store.keys.breaker('traces'), { state: 'closed', failures: 0 });
          await store.redis.hset(store.keys.queue('export', 'meta'), { other: 1 });
          return store.report('traces', 'ok', 0);
        },
      ),
  ];
  for (let n = 0; n < STEPS; n++) {
    const run = kinds[whole(kinds.length)]!();
    if (!run) continue;
    const [real, modelled] = await Promise.all(
      stores.map((store) => run(store).catch((error: Error) => `error ${error.message.slice(0, 20)}`)),
    );
    expect(ordered(modelled), `seed ${seed}, step ${n}`).toEqual(ordered(real));
    if (held.length > 20) held = held.slice(-10);
    if (n % 50 === 0) {
      expect(withoutTimes(JSON.stringify(ordered(keysOfModel(model)))), `seed ${seed}, step ${n}`).toEqual(
        withoutTimes(JSON.stringify(ordered(await keysOfRedis('{m}')))),
      );
    }
  }
});
