/** What a receiver takes over from Redis, in whatever order the answers come. */
import type { Config } from '@nrdot/config';
import type { Store } from '@nrdot/queue';
import type { Host } from '@nrdot/service';
import { expect, it, vi } from 'vitest';
import { limiterOptions } from './limiter/test/options.ts';
import { Limiting } from './limiting.ts';

const FIELD = Buffer.alloc(8, 7);
const levelOf = (n: number) => Buffer.from([1, n, 0, 0, 0, 0, 0, 0, 0]);
const ignored: unknown = new Proxy(() => ignored, {
  get: (_, name) => (name === 'then' ? undefined : ignored),
});

/** A Redis that answers when it is told to, with what it had when it was asked. */
class SlowRedis {
  epoch = 'first';
  level = 0;
  /** Merged points that wait with the slot. */
  held = 0;
  /** Of the process that has the slot. */
  token = '';
  /** Levels that a receiver gave back to a Redis that had forgotten them. */
  readonly restored: number[] = [];
  readonly #waiting: (() => void)[] = [];

  /** Answers the last question first, until there is none left. */
  async answerAll(): Promise<void> {
    for (let quiet = 0; quiet < 5; quiet++) {
      const answer = this.#waiting.pop();
      if (answer) quiet = 0;
      answer?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Answers one question. */
  async answerOne(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#waiting.shift()!();
    await new Promise((resolve) => setImmediate(resolve));
  }

  #slowly<T>(value: T): Promise<T> {
    return new Promise((resolve) => this.#waiting.push(() => resolve(value)));
  }

  defineCommand = () => {};
  hdel = async () => 1;
  hset = async (_key: string, _field: Buffer, value: Buffer) => this.restored.push(value[1]!);
  hkeysBuffer = async () => [];
  hgetall = async () => ({});
  callBuffer = async (_: string, key: string) =>
    key.includes(':levels:') ? this.#slowly([FIELD, levelOf(this.level)]) : [];
  nrdotLeaseBuffer = (_key: string, _prefix: string, _holder: string, token: string) => {
    const isNew = token !== this.token;
    this.token = token;
    const state = ['0', '0', '0', '0', '0', []];
    const lease = ['0', this.epoch, '1', '0', '0', '0', isNew ? '1' : '0', state, [], this.held];
    return this.#slowly(lease.map(bytesOf));
  };
}

const bytesOf = (value: unknown): unknown =>
  Array.isArray(value) ? value.map(bytesOf) : Buffer.from(String(value));

async function started(): Promise<{ redis: SlowRedis; limiting: Limiting; knows(): Promise<number> }> {
  const redis = new SlowRedis();
  const config = { limiter: { ...limiterOptions(), mode: 'enforce' }, receiver: { listen: { port: 1 } } };
  const timed = <T>(_: string, answer: Promise<T>) => answer;
  const store = { redis, keys: { prefix: 'p' }, timed };
  const limiting = new Limiting(
    config as unknown as Config,
    ignored as Host,
    store as unknown as Store,
    Date.now,
  );
  const start = limiting.start();
  await redis.answerAll();
  await start;
  await limiting.stop();
  /** The level that it has, as it says to a Redis that has none. */
  const knows = async () => {
    redis.epoch = 'second';
    const learned = limiting.learn({ kind: 'epoch' });
    await redis.answerAll();
    await learned;
    return redis.restored.at(-1)!;
  };
  return { redis, limiting, knows };
}

it('takes over the levels of its own writer, not of the previous one', async () => {
  const { redis, limiting, knows } = await started();
  limiting.lost();
  redis.level = 1;
  const first = limiting.catchUp();
  await redis.answerOne(); // its lease: it asks for the levels now
  limiting.lost();
  redis.level = 2;
  const second = limiting.catchUp();
  await redis.answerAll();
  await Promise.all([first, second]);
  expect(await knows()).toBe(2);
});

it('ignores levels that a step may have changed since they were read', async () => {
  const { redis, limiting, knows } = await started();
  limiting.lost();
  redis.level = 1;
  const first = limiting.catchUp();
  await redis.answerOne();
  redis.level = 2;
  limiting.keep(undefined);
  await redis.answerAll();
  await first;
  const second = limiting.catchUp();
  await redis.answerAll();
  await second;
  expect(await knows()).toBe(2);
});

it('becomes another writer if Redis holds other deferred points for it; those wait for its successor', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  try {
    const { redis, limiting } = await started();
    const renewed = async () => {
      vi.advanceTimersByTime(2_000);
      await redis.answerAll();
      return redis.token;
    };
    const start = limiting.start();
    await redis.answerAll();
    await start;
    const first = redis.token;
    expect(await renewed()).toBe(first);
    redis.held = 1; // rolled back: what went out since then is there again
    expect(await renewed()).toBe(first);
    const second = await renewed();
    expect(second).not.toBe(first);
    redis.held = 0; // the lease of another writer sets it aside
    expect(await renewed()).toBe(second);
    expect(await renewed()).toBe(second);
    await limiting.stop();
  } finally {
    vi.useRealTimers();
  }
});
