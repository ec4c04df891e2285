/** The replayer on a real redis-server, with a clock that the test moves: what waits after an outage, and what does not. */
import { setTimeout as wait } from 'node:timers/promises';
import type { JobData } from '@nrdot/queue';
import { SegmentLog } from '@nrdot/segment-log';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { waitUntil } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { ReplayRate } from '../../services/dlq/src/replay-rate.ts';
import { Replayer } from '../../services/dlq/src/replayer.ts';
import { options, record, seeded } from '../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../shared/segment-log/test/simulated-disk.ts';
import { redis, store, useStore } from './store-on-redis.ts';

useStore();

const BATCHES = 3;

it('probes that an outage made fail do not wait once it is over', async () => {
  const segments = await SegmentLog.open(options(new SimulatedDisk(seeded(1))).o);
  for (let i = 0; i < BATCHES; i++) await segments.append('normal', record(`r${i}`));
  let clock = 1_000_000;
  const becomes = (state: string) => redis.hset(store.keys.breaker('traces'), 'state', state);
  await becomes('half_open');
  const replayer = new Replayer({
    ...{ store, segments, rate: new ReplayRate(1e9, clock), poisonAfter: 5 },
    weights: { critical: 5, high: 3, normal: 1 },
    log: createLogger({ level: 'silent', format: 'json' }),
    metrics: new MetricsRegistry(['dlq']).metrics,
    changed: () => {},
    now: () => clock,
  });
  const sent = () => redis.lrange(store.keys.queue('replay-normal', 'wait'), 0, -1);
  const failures = new Map<string, number>();
  // Time passes until each has failed so often that it would wait for a minute.
  await waitUntil(
    async () => {
      clock += 500;
      const ids = await sent();
      expect(ids.length).toBeLessThanOrEqual(1);
      for (const id of ids) {
        const key = store.keys.queue('replay-normal', id);
        const job = JSON.parse((await redis.hget(key, 'data'))!) as JobData;
        await redis.del(key, store.keys.queue('replay-normal', 'wait'));
        const failed = { attempts: 1, message: 'no' };
        await store.settle(job, 'queued', { outcome: 'returned', failed });
        failures.set(id, (failures.get(id) ?? 0) + 1);
      }
      return failures.size === BATCHES && Math.min(...failures.values()) >= 8;
    },
    { what: 'each has been a probe many times', timeoutMs: 60_000, everyMs: 5 },
  );
  await becomes('closed');
  // Long enough for the next look at the breaker, and no wait of a minute.
  for (let i = 0; i < 4; i++) {
    clock += 250;
    await wait(100);
  }
  await waitUntil(async () => (await sent()).length === BATCHES, { what: 'all of it is on its way' });
  await replayer.stop();
  await segments.close();
});
