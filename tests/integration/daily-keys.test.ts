/** Series of a UTC day, counted by receivers that share a real Redis, against sets that the test keeps itself. */
import { type Config, loadConfig } from '@nrdot/config';
import { DailyState } from '@nrdot/key-budget';
import { Enqueuer, keysOf } from '@nrdot/queue';
import type { Host } from '@nrdot/service';
import { encodeProtobuf, waitUntil } from '@nrdot/testbed';
import { afterEach, expect, it } from 'vitest';
import { Classifier } from '../../services/receiver/src/classifier/classifier.ts';
import { DailyBudget } from '../../services/receiver/src/daily-budget.ts';
import { type IngestDeps, ingest, type MetricsLimit } from '../../services/receiver/src/ingest.ts';
import { CardinalityLimiter, type Decision } from '../../services/receiver/src/limiter/index.ts';
import { limiterOptions } from '../../services/receiver/src/limiter/test/options.ts';
import { Limiting } from '../../services/receiver/src/limiting.ts';
import { OPTIONS, redis, store, useStore } from './store-on-redis.ts';

useStore();

/** Four times the standard error of 0.81 %. */
const HLL_ERROR = 0.0325;
/** Redis counts by its own clock: a day that is over there expires at once. */
const NOON = Date.parse('2037-11-29T12:00:00Z');
const ignored: unknown = new Proxy(() => ignored, {
  get: (_, name) => (name === 'then' ? undefined : ignored),
});
let nowMs = NOON;
const running: Limiting[] = [];
afterEach(async () => {
  for (const limiting of running.splice(0)) await limiting.stop();
  nowMs = NOON;
});

interface Receiver {
  limiting: Limiting;
  send(metric: string, labels: readonly string[]): Promise<void>;
}

/** Requests of a gauge with one point for each value of its label `id`. */
function requestOf(metric: string, ids: readonly string[]): Buffer {
  const dataPoints = ids.map((id) => ({
    timeUnixNano: BigInt(nowMs) * 1_000_000n,
    asDouble: 1,
    attributes: [{ key: 'id', value: { stringValue: id } }],
  }));
  const metrics = [{ name: metric, gauge: { dataPoints } }];
  return Buffer.from(encodeProtobuf('metrics', { resourceMetrics: [{ scopeMetrics: [{ metrics }] }] }).bytes);
}

async function start(port: number, options: string): Promise<Receiver> {
  const text = `limiter: {${options}}\nreceiver: {listen: "127.0.0.1:${port}"}`;
  const { config } = loadConfig({ text, file: 'test.yaml', env: {} });
  const limiting = new Limiting(config as Config, ignored as Host, store, () => nowMs);
  running.push(limiting);
  await limiting.start();
  const enqueuer = new Enqueuer((groups) => store.enqueueGroups(groups, Date.now()), 5_000, limiting);
  const classifier = new Classifier(config.priority);
  const limit: MetricsLimit = {
    limit: (body, isAlone) => limiting.limit(body, isAlone),
    limitPieces: (pieces) => limiting.limitPieces(pieces),
    enqueue: (request) => enqueuer.enqueue(request),
    get busy() {
      return enqueuer.busy;
    },
  };
  const deps: IngestDeps = {
    enqueue: (batches) => enqueuer.enqueue(batches),
    store: undefined,
    limit,
    classify: (signal, body) => classifier.classify(signal, body),
    now: Date.now,
  };
  const send = async (metric: string, ids: readonly string[]) => {
    for (let from = 0; from < ids.length; from += 500)
      await ingest(
        {
          ...{ signal: 'metrics', format: 'protobuf', encoding: 'identity' },
          wire: requestOf(metric, ids.slice(from, from + 500)),
          reservation: { reserve: () => {}, look: () => {}, release: () => {} },
        },
        { maxBodyBytes: 1e7, maxDepth: 64, invalidUtf8: 'replace' },
        deps,
      );
  };
  return { limiting, send };
}

/** What a receiver says once it has told all and heard what others told. */
async function dayOf(...receivers: Receiver[]) {
  for (const { limiting } of receivers) await limiting.daily.tell();
  const [first] = receivers;
  await first!.limiting.daily.tell();
  return first!.limiting.status()!.daily!;
}

const ids = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `id ${from + i}`);
const near = (exact: number) => [exact * (1 - HLL_ERROR), exact * (1 + HLL_ERROR)] as const;
function expectNear(counted: number | undefined, exact: number): void {
  const [least, most] = near(exact);
  expect(counted).toBeGreaterThanOrEqual(Math.floor(least));
  expect(counted).toBeLessThanOrEqual(Math.ceil(most));
}

it('two receivers count together, within the error of a HyperLogLog, including repeated series', async () => {
  const [a, b] = [await start(1, 'daily_keys: 50000'), await start(2, 'daily_keys: 50000')];
  const sent: [Receiver, string, string[]][] = [
    [a, 'requests', ids(0, 6_000)],
    [b, 'requests', ids(3_000, 9_000)],
    [b, 'queries', ids(0, 700)],
    [a, 'queries', ids(0, 700)],
    [a, 'few', ids(0, 3)],
  ];
  const exact = new Map<string, Set<string>>();
  for (const [receiver, metric, of] of sent) {
    exact.set(metric, new Set([...(exact.get(metric) ?? []), ...of]));
    for (let twice = 0; twice < 2; twice++) await receiver.send(metric, of);
  }
  const day = await dayOf(a, b);
  expect(day).toMatchObject({ day: '2037-11-29', limit: 50_000, mode: 'observe' });
  expect(day.metrics.map(({ metric }) => metric)).toEqual(['requests', 'queries', 'few']);
  for (const { metric, keys } of day.metrics) expectNear(keys, exact.get(metric)!.size);
  expect(day.sum).toBe(day.metrics.reduce((sum, { keys }) => sum + keys, 0));
  const name = (await redis.keys('*:daily:*')).sort();
  expect(name).toHaveLength(5);
  for (const key of name) {
    // They are there for five minutes of the next day.
    const expires = await redis.expiretime(key);
    expect(expires).toBe(Date.parse('2037-11-30T00:05:00Z') / 1000);
  }
});

it('a new day starts at 0 at midnight UTC, and counts continuing and new series', async () => {
  const [a, b] = [await start(1, 'daily_keys: 50000'), await start(2, 'daily_keys: 50000')];
  nowMs = Date.parse('2037-11-29T23:59:50Z');
  await a.send('requests', ids(0, 2_000));
  nowMs = Date.parse('2037-11-30T00:00:01Z'); // what waits to be told is of yesterday
  await a.send('requests', ids(0, 500));
  await b.send('requests', ids(400, 800));
  const day = await dayOf(a, b);
  expect(day.day).toBe('2037-11-30');
  expectNear(day.metrics[0]?.keys, 800);
  const before = await new DailyState(redis, keysOf(OPTIONS.prefix)).count('2037-11-29', [], 1, undefined);
  expectNear(before.top[0]?.keys, 2_000);
});

it('after a restart, and after Redis lost its data, all series that are seen again are counted', async () => {
  const a = await start(1, 'daily_keys: 50000');
  await a.send('requests', ids(0, 1_000));
  await dayOf(a);
  await redis.flushall();
  await waitUntil(
    async () => {
      await a.limiting.catchUp();
      await a.send('requests', ids(0, 1_000)).catch(() => {}); // refused until it knows of it
      return (await dayOf(a)).metrics[0]?.keys;
    },
    { what: 'the series are counted again' },
  );
  expectNear((await dayOf(a)).metrics[0]?.keys, 1_000);
  const again = await start(3, 'daily_keys: 50000'); // it learns of the keys from Redis
  nowMs = Date.parse('2037-11-30T00:01:00Z');
  const b = await start(4, 'daily_keys: 50000');
  await b.send('requests', ids(0, 300));
  expectNear((await dayOf(b, again)).metrics[0]?.keys, 300);
});

it('enforced, a metric stays below its daily limit at all receivers, and no other metric is affected', async () => {
  const options = 'daily_keys: 2000, daily_mode: enforce';
  const [a, b] = [await start(1, options), await start(2, options)];
  for (let from = 0; from < 6_000; from += 100) {
    await (from % 200 === 0 ? a : b).send('requests', ids(from, from + 100));
    await (from % 200 === 0 ? b : a).send('steady', ids(0, 100));
    await dayOf(a, b);
  }
  const day = await dayOf(a, b);
  const keysOfDay = new Map(day.metrics.map(({ metric, keys }) => [metric, keys]));
  expectNear(keysOfDay.get('steady'), 100);
  // What each receiver let in since it last heard comes on top: 100 here.
  expect(keysOfDay.get('requests')).toBeLessThanOrEqual(Math.ceil(near(2_100)[1]));
  expect(keysOfDay.get('requests')).toBeGreaterThanOrEqual(Math.floor(near(1_800)[0]));
  expect(a.limiting.status()!.overflowPoints).toBeGreaterThan(1_000);
  expect(a.limiting.status()!.droppedPoints).toBe(0);
  // The next day has room again.
  nowMs += 24 * 3_600_000;
  const overflowed = a.limiting.status()!.overflowPoints;
  await a.send('requests', ids(9_000, 9_100));
  expect(a.limiting.status()!.overflowPoints).toBe(overflowed);
});

it('a Redis that does not answer delays no request; waiting reports are bounded and sent later', async () => {
  const decisions: Decision[] = [];
  const limiter = new CardinalityLimiter(
    limiterOptions({ dailyKeys: 1_000, maxKeys: 131_072, actAbove: 1, protectedLabels: ['id'] }),
    { now: () => nowMs, seed: 1, onDecision: (decision) => decisions.push(decision) },
  );
  const real = new DailyState(redis, keysOf(OPTIONS.prefix));
  let isAway = true;
  const failures: string[] = [];
  const count: DailyState['count'] = async (...args) => {
    if (isAway) throw new Error('away');
    return real.count(...args);
  };
  const budget = new DailyBudget(
    { count },
    () => limiter,
    () => nowMs,
    ({ message }) => failures.push(message),
  );
  const process = (from: number, to: number) => {
    for (let at = from; at < to; at += 500) {
      limiter.process(requestOf('many', ids(at, at + 500)));
      limiter.keep();
    }
  };
  process(0, 80_000);
  expect(limiter.daily.waiting).toBe(65_536);
  await budget.tell();
  await budget.tell();
  expect(failures).toEqual(['away', 'away']);
  expect(limiter.daily.waiting).toBe(65_536);
  expect(budget.status()).toBeUndefined();
  // Requests do not ask again what was just refused.
  for (let i = 0; i < 10; i++) {
    budget.refresh();
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  }
  expect(failures).toEqual(['away', 'away']);
  isAway = false;
  await budget.tell();
  expect(limiter.daily.waiting).toBe(0);
  expectNear(budget.status()?.metrics[0]?.keys, 65_536);
  process(0, 80_000); // those that found no room are noted when they come again
  expect(limiter.daily.waiting).toBe(80_000 - 65_536);
  budget.refresh();
  await waitUntil(() => limiter.daily.waiting === 0, { what: 'many are reported at once again' });
  expectNear(budget.status()?.metrics[0]?.keys, 80_000);
  expect(decisions.filter(({ why }) => why.includes('daily'))).toEqual([]);
});

it('series counted before the option was turned off are counted again when it is turned on', async () => {
  const options = (dailyKeys: number) =>
    limiterOptions({ dailyKeys, maxKeys: 4_096, actAbove: 1, protectedLabels: ['id'] });
  const limiter = new CardinalityLimiter(options(1_000), { now: () => nowMs, seed: 1, onDecision: () => {} });
  const send = () => {
    limiter.process(requestOf('lasting', ids(0, 100)));
    limiter.keep();
    const told = limiter.daily.take().flatMap(({ series }) => [...series.values()]);
    const series = told.reduce((sum, hashes) => sum + hashes.length / 2, 0);
    limiter.daily.forget(series);
    return series;
  };
  expect([send(), send()]).toEqual([100, 0]);
  limiter.configure(options(0));
  expect(send()).toBe(0);
  nowMs += 24 * 3_600_000;
  limiter.configure(options(1_000));
  expect([send(), send()]).toEqual([100, 0]);
});

it('metrics beyond the limit are counted together', async () => {
  const state = new DailyState(redis, keysOf(OPTIONS.prefix));
  const seriesOf = (n: number) => Buffer.from(String(n).padStart(8, '0'));
  const all = Array.from({ length: 2_100 }, (_, n) => ({
    number: String(n + 1),
    name: `metric ${n}`,
    series: seriesOf(n),
  }));
  const counts = await state.count('2037-11-29', all, 3, 50);
  expect(counts.metrics).toBe(2_049);
  expect(counts.top[0]).toMatchObject({ number: '0', name: '(other metrics)' });
  expectNear(counts.top[0]?.keys, 52);
  expect([...counts.over.keys()]).toEqual(['0']);
  expectNear(counts.sum, 2_100);
  expect(await redis.keys('*:daily:*')).toHaveLength(2_049 + 2);
});
