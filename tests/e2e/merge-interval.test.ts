/** `limiter.merge_interval`, from outside: the points of an interval leave as one per stream. */
import { MetricLedger, type SeriesKind, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CUMULATIVE,
  MANY,
  many,
  pipeline,
  refusedOnce,
  Shop,
  spread,
  usePipeline,
  withLimiter,
} from '../merging-kit.ts';

usePipeline();

/** Nothing leaves by itself while a test runs: only what receivers send when they end, or what others find. */
const HELD = { merge_interval: '1h' };
const KINDS: readonly SeriesKind[] = [...CUMULATIVE, 'delta', 'delta histogram'];
/** A receiver that ends sends what waits with it. */
const allOut = () => pipeline.receivers.restartAll();

/** A metric of each kind, whose label has been given up. */
async function shopsOfAllKinds(): Promise<Shop[]> {
  const shops = KINDS.map((kind) => new Shop(kind));
  for (const shop of shops) await shop.storm(0);
  return shops;
}

describe.each(['cumulative', 'delta'])('as %s', (temporality) => {
  let limiter: AsyncDisposable;
  beforeAll(async () => {
    limiter = await withLimiter({ ...HELD, merged_temporality: temporality });
  });
  afterAll(() => limiter[Symbol.asyncDispose]());

  it('one point per stream and writer, with exact totals', async () => {
    const shops = await shopsOfAllKinds();
    for (const shop of shops) await shop.report(many(MANY), 7);
    await allOut();
    await pipeline.judge();
    const before = pipeline.received.points;
    for (let round = 0; round < 10; round += 1) for (const shop of shops) await shop.report(many(MANY), 7);
    for (const shop of shops) await shop.report(['new'], 7);
    await allOut();
    expect(await pipeline.judge()).toEqual([]);
    expect(pipeline.received.points - before).toBeLessThanOrEqual(
      KINDS.length * pipeline.receivers.origins.length,
    );
  });

  it('a killed receiver', async () => {
    const shops = await shopsOfAllKinds();
    for (const shop of shops) {
      await shop.report(many(MANY), 1, 0);
      await shop.report(many(MANY), 7, 1);
    }
    await pipeline.receivers.end(1, 'SIGKILL');
    for (const shop of shops) await shop.report(many(MANY), 7, 0);
    await pipeline.receivers.begin(1);
    await allOut();
    expect(await pipeline.judge()).toEqual([]);
  });

  it('a refused request', async () => {
    const shops = await shopsOfAllKinds();
    const bodies = shops.map((shop) => shop.request(many(MANY), () => spread(shop.kind, 7)));
    await refusedOnce(Buffer.concat(bodies), 0);
    await allOut();
    expect(await pipeline.judge()).toEqual([]);
  });
});

it('deferred points of a receiver that is gone are sent by another', async () => {
  await using _ = await withLimiter(HELD);
  const shop = new Shop();
  await shop.storm(0);
  await shop.report(many(MANY), 5, 1);
  await pipeline.receivers.end(1, 'SIGKILL');
  const group = () => pipeline.received.groups([]).values().next().value!.total.parts.get('value')! >> 1_074n;
  await waitUntil(() => pipeline.received.points > 0 && group() >= BigInt(4 * MANY), {
    what: 'the points of the dead receiver have arrived',
    timeoutMs: 60_000,
  });
  await pipeline.receivers.begin(1);
  await allOut();
  expect(await pipeline.judge()).toEqual([]);
});

it('are sent when the interval is over', async () => {
  await using _ = await withLimiter({ merge_interval: '1s' });
  const shop = new Shop();
  await shop.storm(0);
  const total = () => [...pipeline.received.groups([]).values()][0]?.total.parts.get('value') ?? 0n;
  for (let round = 1; round <= 3; round += 1) {
    await shop.report(many(MANY), 10 * round);
    await waitUntil(() => total() >> 1_074n === BigInt(10 * round * MANY), {
      what: 'all points have arrived',
    });
  }
  expect(await pipeline.judge()).toEqual([]);
});

it('levels are the sum of the last values of their sources, and end', async () => {
  await using _ = await withLimiter(HELD);
  const shop = new Shop('level');
  await shop.report(['x'], 30, 0);
  await shop.storm(0);
  for (let round = 0; round < 5; round += 1)
    await pipeline.send(shop.request(many(MANY), (at) => (at * 7 + round * 13) % 50));
  await shop.report(['x'], 'stale', 1);
  await allOut();
  await shop.report(many(10), 'stale');
  await allOut();
  expect(await pipeline.judge()).toEqual([]);
});

it('gauges combine the sources of all requests in it, never the times of one', async () => {
  await using _ = await withLimiter({ ...HELD, gauge_reducer: 'sum' });
  const shop = new Shop('gauge');
  await shop.storm(0);
  await allOut();
  await pipeline.judge();
  pipeline.received = new MetricLedger();
  for (const value of [2, 3]) for (const user of many(MANY)) await shop.report([user], value, 0);
  await allOut();
  await pipeline.judge();
  const readings = [...[...pipeline.received.groups([]).values()][0]!.readings];
  expect(readings.map((reading) => reading.split(' ')[1])).toEqual(['240', '360']);
});

it('with a Redis that loses its data', async () => {
  await using _ = await withLimiter(HELD);
  const shop = new Shop();
  await shop.storm(0);
  await shop.report(many(MANY), 5);
  await shop.report(many(MANY), 6);
  await pipeline.redis.kill();
  await pipeline.redis.start();
  await shop.report(many(MANY), 8);
  await shop.report(many(MANY), 9);
  await allOut();
  expect(await pipeline.judge()).toEqual([]);
});
