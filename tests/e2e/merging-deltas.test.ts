/** `temporality: delta`, from outside: every stream leaves as the increments of its points. */
import { ENDLESS_LABEL, KEPT_LABEL } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import {
  CUMULATIVE,
  comeAndGo,
  LIMITER,
  many,
  pipeline,
  refusedOnce,
  Shop,
  spread,
  usePipeline,
} from '../merging-kit.ts';

/** Every stream by itself: nothing is merged but what gives its label up. */
const EACH = [ENDLESS_LABEL, KEPT_LABEL];
const AS_DELTAS = { ...LIMITER, temporality: 'delta' };
const few = many(20);

usePipeline(AS_DELTAS);

it('of every kind: at any receiver, across restarts', async () => {
  const shops = CUMULATIVE.map((kind) => new Shop(kind));
  const report = async (users: readonly (string | number)[], n: number) => {
    for (const shop of shops)
      await pipeline.send(shop.request(users, (at) => spread(shop.kind, n * (at + 1))));
  };
  for (let round = 1; round <= 4; round += 1) await report(few, round);
  await pipeline.receivers.restartAll({}, 'SIGKILL');
  for (let round = 5; round <= 8; round += 1) await report(few, round);
  for (const shop of shops) shop.start = pipeline.now(); // their process was restarted
  for (let round = 1; round <= 2; round += 1) await report([...few, 'new'], round);
  expect(await pipeline.judge(EACH)).toEqual([]);
  expect(pipeline.received.streams).toBe(CUMULATIVE.length * 21);
  expect(pipeline.received.cumulativeCounts).toBe(0);
});

it.each(['counter', 'exponential histogram'] as const)('%s: a refused request', async (kind) => {
  const shop = new Shop(kind);
  await shop.report(few, 1, 1);
  await refusedOnce(
    shop.request(few, (at) => spread(kind, 3 + at)),
    0,
  );
  await shop.report(few, 40, 1);
  expect(await pipeline.judge(EACH)).toEqual([]);
  expect(pipeline.received.cumulativeCounts).toBe(0);
});

it.each(['double counter', 'histogram'] as const)('%s: then a label is stripped', async (kind) => {
  const shop = new Shop(kind);
  await shop.report(few, 7, 0);
  await shop.storm(0, 100);
  await shop.report(few, 9, 1);
  await shop.report(few, 12, 0);
  expect(await pipeline.judge()).toEqual([]);
  expect(pipeline.received.cumulativeCounts).toBe(0);
});

it('random producers', async () => {
  await comeAndGo(EACH);
  expect(pipeline.received.cumulativeCounts).toBe(0);
});

it('levels stay as they are', async () => {
  const shop = new Shop('level');
  for (let round = 0; round < 6; round += 1)
    await pipeline.send(shop.request(few, (at) => (at * 7 + round * 13) % 50));
  expect(await pipeline.judge(EACH)).toEqual([]);
});

it('turned on with cumulative streams: each is handed over', async () => {
  await pipeline.receivers.restartAll({ limiter: LIMITER });
  const shop = new Shop();
  for (const n of [5, 8]) await pipeline.send(shop.request(few, (at) => n * (at + 1)));
  await pipeline.receivers.restartAll({ limiter: AS_DELTAS });
  for (const n of [11, 15, 16]) await pipeline.send(shop.request(few, (at) => n * (at + 1)));
  expect(await pipeline.judge(EACH)).toEqual([]);
  expect(pipeline.received.cumulativeCounts).toBe(few.length);
  expect(pipeline.received.streams).toBe(2 * few.length);
});
