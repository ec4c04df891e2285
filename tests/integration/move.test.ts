/** On a real redis-server: the weighted move to the export queue. */
import { type Batch, CLASSES, Store } from '@nrdot/queue';
import { waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { batch, enqueue, exported, MOVE, OPTIONS, open, redis, store, useStore } from './store-on-redis.ts';

useStore();

describe('the weighted move', () => {
  it('moves a million items 5:3:1, whatever the batch sizes, without starvation', async () => {
    let seed = 20_261_123;
    const random = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32;
    };
    const waiting = { critical: 0, high: 0, normal: 0 };
    const moved = { critical: 0, high: 0, normal: 0 };
    const wide = { ...MOVE, windowBatches: 1_000_000, maxPicks: 16 };
    while (moved.critical + moved.high + moved.normal < 1_000_000) {
      const refill = CLASSES.flatMap((c) => {
        const batches: Batch[] = [];
        while (waiting[c] < 40_000) {
          const items = 1 + Math.floor(random() * 500);
          waiting[c] += items;
          batches.push(batch(c, items, { payload: Buffer.alloc(1) }));
        }
        return batches;
      });
      if (refill.length > 0) await enqueue(...refill);
      const { items } = await store.move(wide);
      for (const c of CLASSES) {
        moved[c] += items[c];
        waiting[c] -= items[c];
      }
      // Goyal's bound: within one batch of each, at any moment.
      expect(Math.abs(moved.critical / 5 - moved.normal)).toBeLessThanOrEqual(600);
      expect(Math.abs(moved.high / 3 - moved.normal)).toBeLessThanOrEqual(700);
    }
  });

  it('serves any class with work, and keeps the shares with two schedulers', async () => {
    await enqueue(...Array.from({ length: 30 }, () => batch('normal')));
    expect((await store.move({ ...MOVE, maxPicks: 30 })).items.normal).toBe(300);
    await redis.flushall();
    await enqueue(...CLASSES.flatMap((c) => Array.from({ length: 200 }, () => batch(c))));
    const other = open();
    const second = new Store(other, OPTIONS);
    const moved = { critical: 0, high: 0, normal: 0 };
    for (let i = 0; i < 15; i++) {
      for (const { items } of await Promise.all(
        [store, second].map((s) => s.move({ ...MOVE, windowBatches: 1e6, maxPicks: 9 })),
      )) {
        for (const c of CLASSES) moved[c] += items[c];
      }
    }
    expect(moved).toEqual({ critical: 1_500, high: 900, normal: 300 });
    other.disconnect();
  });

  it('counts batches in flight and waiting for a retry, so an outage does not empty the class queues', async () => {
    await enqueue(...Array.from({ length: 20 }, () => batch('high')));
    const move = async () => (await store.move({ ...MOVE, windowBatches: 4 })).jobs;
    expect(await move()).toBe(4);
    const limits = {
      token: 'test',
      lockMs: 60_000,
      maxJobs: 4,
      maxBytes: 1e6,
      alone: true,
      lookForLost: false,
    };
    const { jobs } = await store.take('export', limits);
    expect([jobs.length, await move()]).toEqual([4, 0]); // in flight
    for (const { id } of jobs) {
      expect(await store.release({ queue: 'export', id, token: 'test', ended: false }, 600_000)).toBe(true);
    }
    expect(await move()).toBe(0); // for later
    expect((await store.depth()).stages.queued.high.batches).toBe(16);
  });

  it('keeps the export queue short, and merges waiting batches into one request', async () => {
    await enqueue(...Array.from({ length: 100 }, () => batch('high')));
    expect((await store.move({ ...MOVE, windowBatches: 8 })).jobs).toBe(8);
    expect((await store.move({ ...MOVE, windowBatches: 8 })).jobs).toBe(0);
    await redis.flushall();
    await enqueue(
      ...Array.from({ length: 10 }, () => batch('high')),
      batch('high', 10, { signal: 'logs' }),
      batch('high', 10, { encoding: 'zstd' }),
      batch('high', 10, { encoding: 'zstd' }),
      batch('high', 10, { signal: 'profiles' }),
      batch('high', 10, { signal: 'profiles' }),
    );
    expect((await store.move({ ...MOVE, mergeBytes: 450 })).items.high).toBe(150);
    const jobs = await exported();
    expect(jobs.map((job) => [job.signal, job.encoding, job.batches.length])).toEqual([
      ['traces', 'identity', 4],
      ['traces', 'identity', 4],
      ['traces', 'identity', 2],
      ['logs', 'identity', 1],
      ['traces', 'zstd', 1],
      ['traces', 'zstd', 1],
      ['profiles', 'identity', 1], // their indices point into a dictionary of their own
      ['profiles', 'identity', 1],
    ]);
    expect((await store.depth()).stages.export.high).toEqual({ batches: 15, items: 150, bytes: 1_500 });
  });

  it('alternates live and replayed batches while both wait', async () => {
    const slotMs = 40;
    const waiting = 1_500;
    for (let i = 0; i < waiting; i += 100) {
      await enqueue(
        ...Array.from({ length: 100 }, () => batch('normal', 1)),
        ...Array.from({ length: 100 }, () => batch('critical', 1, { origin: 'replay' })),
      );
    }
    const slotNow = async () => {
      const [seconds, micros] = await redis.time();
      return Math.floor((Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)) / slotMs);
    };
    const counts = { live: 0, replay: 0 };
    await waitUntil(
      async () => {
        const [before, slotBefore] = [await store.depth(), await slotNow()];
        await store.move({ ...MOVE, windowBatches: 1e6, maxPicks: 1, slotMs });
        const [slot, after] = [await slotNow(), await store.depth()];
        const live = before.stages.queued.normal.items - after.stages.queued.normal.items;
        const replay = before.stages.replay.critical.items - after.stages.replay.critical.items;
        counts.live += live;
        counts.replay += replay;
        expect(live + replay).toBe(1);
        if (slot === slotBefore) expect(live).toBe(slot % 2 === 0 ? 1 : 0); // by Redis' clock, whoever asks
        return counts.live >= 100 && counts.replay >= 100;
      },
      { what: 'both have run', everyMs: 1 },
    );
    expect(Math.max(counts.live, counts.replay)).toBeLessThan(waiting); // both were waiting all the time
  });

  it('gives all slots to live or replayed batches if only one of them waits', async () => {
    for (const origin of ['live', 'replay'] as const) {
      await enqueue(...Array.from({ length: 20 }, () => batch('high', 1, { origin })));
      let moved = 0;
      for (let i = 0; i < 20; i++)
        moved += (await store.move({ ...MOVE, maxPicks: 1, slotMs: 3 })).items.high;
      expect(moved, origin).toBe(20);
    }
  });
});
