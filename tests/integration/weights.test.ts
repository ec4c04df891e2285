/** New weights while work waits: the tags of the old ones are in other units. */
import { type Batch, CLASSES, newBatchId, type PriorityClass, Store } from '@nrdot/queue';
import { connect } from '@nrdot/redis';
import { TestRedis, temporaryDirectory } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { OPTIONS } from './store-on-redis.ts';

const ITEMS = 10;

it('are exact from the next move, even after weights a thousand times as large', async () => {
  using dir = temporaryDirectory();
  await using server = await TestRedis.start({ dir: dir.path });
  const redis = connect({ url: server.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
  try {
    const store = new Store(redis, { ...OPTIONS, maxBytes: 1e8, maxItems: 1e8 });
    const batch = (c: PriorityClass): Batch => ({
      id: newBatchId(Date.now()),
      signal: 'traces',
      class: c,
      origin: 'live',
      encoding: 'identity',
      items: ITEMS,
      receivedAt: Date.now(),
      payload: Buffer.from('p'),
    });
    await store.enqueue(
      CLASSES.map((c) => Array.from({ length: 300 }, () => batch(c))),
      Date.now(),
    );
    const move = (weights: Record<PriorityClass, number>, maxPicks: number) =>
      store.move({ windowBatches: 1_000, windowBytes: 1e8, mergeBytes: 0, weights, maxPicks, slotMs: 500 });
    await move({ critical: 1_000, high: 1_000, normal: 1 }, 21);
    const { items } = await move({ critical: 5, high: 3, normal: 1 }, 90);
    expect(items.critical / items.normal).toBeGreaterThan(4);
    expect(items.critical / items.normal).toBeLessThan(6);
    expect(items.high / items.normal).toBeGreaterThan(2.3);
    expect(items.high / items.normal).toBeLessThan(3.7);
  } finally {
    redis.disconnect();
  }
});
