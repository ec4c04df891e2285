/** What a service knows of the Redis behind its connections: whether it still answers, and what it is. */
import { mkdtempSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { type Batch, newBatchId, RedisWakeSignal, Store, Taker } from '@nrdot/queue';
import { connect, RedisLink } from '@nrdot/redis';
import { TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FaultProxy } from '../faults/proxy.ts';
import { OPTIONS as COMMON, MOVE } from './store-on-redis.ts';

const OPTIONS = { ...COMMON, prefix: '{silent}', maxBytes: 1e9, maxItems: 1e9 };
const SILENT_MS = 1_000;
/** A connection that nobody gives up is silent for as long as the system's TCP tries, a quarter of an hour. */
const PATIENCE = { timeoutMs: 30_000 };

let dir: ReturnType<typeof temporaryDirectory>;
let server: TestRedis;
let proxy: FaultProxy;
/** Past the proxy. */
let store: Store;

const open = (kind: 'producer' | 'consumer', port = proxy.port) =>
  connect({ url: `redis://127.0.0.1:${port}` }, { kind, name: 'test', commandTimeoutMs: SILENT_MS });
const batch = (): Batch => ({
  id: newBatchId(Date.now()),
  signal: 'traces',
  class: 'high',
  origin: 'live',
  encoding: 'identity',
  items: 10,
  receivedAt: Date.now(),
  payload: Buffer.from('payload'),
});
const put = async () => {
  expect(await store.enqueue([[batch()]], Date.now())).toEqual([['queued']]);
};

beforeAll(async () => {
  dir = temporaryDirectory();
  server = await TestRedis.start({ dir: dir.path });
  proxy = await FaultProxy.to(server.port);
  store = new Store(open('consumer', server.port), OPTIONS);
});
beforeEach(async () => {
  await store.redis.flushall();
});
afterAll(async () => {
  store.redis.disconnect();
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const delivered = (items: number) =>
  waitUntil(async () => ((await store.books()).delivered ?? 0) === items, {
    what: `${items} items were delivered`,
    ...PATIENCE,
  });

function linkTo(port: number, meanwhile: string, recheckMs = 50) {
  const said: string[] = [];
  const say = (line: string) => void said.push(line);
  const link = new RedisLink(
    { url: `redis://127.0.0.1:${port}` },
    {
      kind: 'producer',
      name: 'test',
      commandTimeoutMs: SILENT_MS,
      prefix: OPTIONS.prefix,
      meanwhile,
      expect: { durability: 'always', maxBytes: 1 },
      recheckMs,
    },
    { info: say, warn: say, error: say },
  );
  return { link, said };
}

describe('a connection that stops answering is replaced', () => {
  it('by the consumer of the export queue, its blocking read too', async () => {
    const own = new Store(open('consumer'), OPTIONS);
    const taker = new Taker({
      store: own,
      queue: 'export',
      concurrency: 4,
      maxBytes: 1e6,
      faultDelayMs: 20,
      onError: () => {},
      handle: async (job) => void (await own.settle(job.data, 'export', { outcome: 'delivered' }, job.lock)),
    });
    for (let n = 1; n <= 2; n++) {
      await put();
      await store.move(MOVE);
      await delivered(10 * n);
      proxy.spoil('silent');
    }
    await put();
    await store.move(MOVE);
    await delivered(30);
    await taker.close(5_000);
    own.redis.disconnect();
  });

  it('by a waiter for a wake signal', async () => {
    const redis = open('consumer');
    const signal = new RedisWakeSignal(redis, store.keys.wake);
    await put();
    await signal.wait(60_000);
    expect(await store.redis.zcard(store.keys.wake)).toBe(0);
    const reading = signal.wait(60_000);
    proxy.spoil('silent');
    await reading;
    await put();
    await waitUntil(
      async () => {
        await signal.wait(60_000);
        return (await store.redis.zcard(store.keys.wake)) === 0;
      },
      { what: 'the signal was handled', ...PATIENCE },
    );
    signal.close();
    redis.disconnect();
  });

  it('by a producer, which reports it once, and once that it is back', async () => {
    const { link, said } = linkTo(proxy.port, 'batches go elsewhere');
    await link.untilReady();
    proxy.spoil('silent');
    // Nobody asks for anything: it is noticed all the same.
    await waitUntil(() => link.notReady() !== undefined, {
      what: 'it is not ready',
      everyMs: 5,
      ...PATIENCE,
    });
    expect(link.notReady()).toMatch(/no answer/);
    await waitUntil(() => link.notReady() === undefined, { what: 'it is ready again', ...PATIENCE });
    expect(said).toEqual([
      expect.stringMatching(/^lost Redis: no answer within 1 s; batches go elsewhere until it answers$/),
      'Redis is back',
    ]);
    link.close();
  });
});

describe('the settings of Redis', () => {
  it('are checked again, and changes are reported in both directions', async () => {
    const { link, said } = linkTo(server.port, 'batches go elsewhere');
    await link.untilReady();
    const { redis } = store;
    const ready = (yes: boolean, what: string) =>
      waitUntil(() => (link.notReady() === undefined) === yes, { what, ...PATIENCE });
    const line = (pattern: RegExp) =>
      waitUntil(() => said.some((text) => pattern.test(text)), {
        what: `it printed ${pattern}`,
        ...PATIENCE,
      });
    await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await ready(false, 'a Redis that evicts is not used');
    expect(link.notReady()).toMatch(/allkeys-lru/);
    await redis.config('SET', 'maxmemory-policy', 'noeviction');
    await ready(true, 'it is used again');
    await redis.config('SET', 'appendonly', 'no');
    await line(/^appendonly is off/);
    await redis.config('SET', 'appendonly', 'yes');
    await line(/^resolved: appendonly is off/);
    await redis.config('SET', 'appendfsync', 'no');
    await line(/^appendfsync is "no"/);
    await redis.config('SET', 'appendfsync', 'always');
    await line(/^resolved: appendfsync is "no"/);
    expect(link.notReady()).toBeUndefined();
    await using primary = await TestRedis.start({ dir: mkdtempSync(`${dir.path}/primary`) });
    await redis.replicaof('127.0.0.1', primary.port);
    await ready(false, 'a replica is not used');
    expect(link.notReady()).toMatch(/is a replica/);
    await redis.replicaof('NO', 'ONE');
    await ready(true, 'it is used again');
    expect(said.filter((text) => /allkeys-lru|is a replica/.test(text))).toHaveLength(2);
    link.close();
  });

  /** Answers each connection with a line and closes it, as Redis does to whom it will not serve at all. */
  const refusing = async (line: string) => {
    const refuse = createServer((socket) => {
      socket.on('error', () => {});
      socket.resume().end(`${line}\r\n`);
    });
    await new Promise<void>((done) => refuse.listen(0, '127.0.0.1', done));
    const { port } = refuse.address() as AddressInfo;
    return { port, [Symbol.asyncDispose]: () => new Promise<void>((done) => refuse.close(() => done())) };
  };

  it.each([
    [
      '-DENIED Redis is running in protected mode because protected mode is enabled',
      /DENIED: it is in protected mode/,
    ],
    ['-ERR max number of clients reached', /ERR max number of clients reached$/],
  ])('that closes each connection with %s is reported with its message', async (line, words) => {
    await using server = await refusing(line);
    const { link } = linkTo(server.port, 'batches go elsewhere');
    await waitUntil(() => words.test(link.notReady() ?? ''), { what: 'it gives the reason', ...PATIENCE });
    link.close();
  });

  // Sometimes the connection ends only with the refusal, which is then the reason why it was lost.
  it.each([1, 3, 10, 50])(
    'that suddenly refuses a client is reported once, inspected every %i ms',
    async (ms) => {
      await using own = await TestRedis.start({ dir: mkdtempSync(`${dir.path}/own`) });
      const { link, said } = linkTo(own.port, 'batches go elsewhere', ms);
      await link.untilReady();
      // In one step: whoever sets the password is asked for it from then on.
      const admin = open('producer', own.port);
      await waitUntil(() => admin.status === 'ready', { what: 'it is connected' });
      await admin
        .multi()
        .call('CONFIG', 'SET', 'requirepass', 'word')
        .call('CLIENT', 'KILL', 'TYPE', 'normal')
        .exec();
      admin.disconnect();
      await waitUntil(() => /NOAUTH: it requires a password/.test(link.notReady() ?? ''), {
        what: 'it gives the reason',
        ...PATIENCE,
      });
      expect(
        said.filter((text) => /^(lost Redis|Redis refuses): NOAUTH: it requires a password/.test(text)),
      ).toHaveLength(1);
      link.close();
    },
  );

  it('that refuses everything is reported and makes the service not ready', async () => {
    const { link, said } = linkTo(server.port, 'batches go elsewhere');
    await link.untilReady();
    await store.redis.call('ACL', 'SETUSER', 'default', '-exists');
    await waitUntil(() => link.notReady() !== undefined, { what: 'it is not ready', ...PATIENCE });
    expect(link.notReady()).toMatch(/NOPERM/);
    await store.redis.call('ACL', 'SETUSER', 'default', '+exists');
    await waitUntil(() => link.notReady() === undefined, { what: 'it is ready', ...PATIENCE });
    expect(said).toEqual([expect.stringMatching(/^Redis refuses: NOPERM/), 'Redis accepts commands again']);
    link.close();
  });
});
