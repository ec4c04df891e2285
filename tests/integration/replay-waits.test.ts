/** The replayer on a real redis-server, with a clock that the test moves: what waits after an outage, and what does not. */
import { setTimeout as wait } from 'node:timers/promises';
import { type JobData, type Settlement, Store } from '@nrdot/queue';
import { ALWAYS, SegmentLog } from '@nrdot/segment-log';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { ReplayRate } from '../../services/dlq/src/replay-rate.ts';
import { Replayer } from '../../services/dlq/src/replayer.ts';
import { options, record, seeded } from '../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../shared/segment-log/test/simulated-disk.ts';
import { OPTIONS, redis, store, useStore } from './store-on-redis.ts';

useStore();

const BATCHES = 3;
/** More than are passed over in one go. */
const PASSED_OVER = 40;

function replayerOf(segments: SegmentLog, now: () => number, poisonAfter = 5, of = store): Replayer {
  return new Replayer({
    ...{ store: of, segments, rate: new ReplayRate(1e9, now()), poisonAfter },
    weights: { critical: 5, high: 3, normal: 1 },
    log: createLogger({ level: 'silent', format: 'json' }),
    metrics: new MetricsRegistry(['dlq']).metrics,
    changed: () => {},
    now,
  });
}

const becomes = (state: string) => redis.hset(store.keys.breaker('traces'), 'state', state);
const sent = () => redis.lrange(store.keys.queue('replay-normal', 'wait'), 0, -1);
/** Has a batch that is in Redis reach an end, as if an exporter had tried it. */
async function settle(id: string, result: Settlement): Promise<void> {
  const key = store.keys.queue('replay-normal', id);
  const job = JSON.parse((await redis.hget(key, 'data'))!) as JobData;
  await redis.del(key);
  await redis.lrem(store.keys.queue('replay-normal', 'wait'), 0, id);
  await store.settle(job, 'queued', result);
}

it('batches of a requested replay that a breaker returned are replayed even while replay is paused', async () => {
  const segments = await SegmentLog.open(options(new SimulatedDisk(seeded(1))).o);
  for (let i = 0; i < BATCHES; i++) await segments.append('normal', record(`o${i}`));
  await becomes('closed');
  const replayer = replayerOf(segments, Date.now);
  await waitUntil(async () => (await sent()).length === BATCHES, { what: 'all items are in Redis' });
  await replayer.pause(true);
  await replayer.replay({ areas: ['normal'], class: undefined, ...ALWAYS });
  await wait(1_000); // the order has read all there is
  expect(replayer.order).toBeDefined();
  await becomes('open');
  expect(await store.drain(100, Date.now())).toBe(BATCHES);
  expect(await sent()).toEqual([]);
  await becomes('closed');
  await waitUntil(async () => (await sent()).length === BATCHES, { what: 'all items are in Redis again' });
  for (const id of await sent()) await settle(id, { outcome: 'delivered' });
  await waitUntil(() => replayer.order === undefined, { what: 'the order has expired' });
  await replayer.stop();
  await segments.close();
});

it('probes that failed in an outage do not wait once it is over', async () => {
  const segments = await SegmentLog.open(options(new SimulatedDisk(seeded(1))).o);
  for (let i = 0; i < BATCHES; i++) await segments.append('normal', record(`r${i}`));
  let clock = 1_000_000;
  await becomes('half_open');
  const replayer = replayerOf(segments, () => clock);
  const failures = new Map<string, number>();
  // Time passes until each has failed so often that it would wait for a minute.
  await waitUntil(
    async () => {
      clock += 500;
      const ids = await sent();
      expect(ids.length).toBeLessThanOrEqual(1);
      for (const id of ids) {
        await settle(id, { outcome: 'returned', failed: { attempts: 1, message: 'no' } });
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
  await waitUntil(async () => (await sent()).length === BATCHES, { what: 'all items are in flight' });
  await replayer.stop();
  await segments.close();
});

it('batches delivered in an earlier run are not sent again, however many are skipped first', async () => {
  const segments = await SegmentLog.open(options(new SimulatedDisk(seeded(1))).o);
  for (let i = 0; i < PASSED_OVER; i++) await segments.append('normal', record(`t${i}`));
  const { envelope, payload } = record('delivered');
  await segments.append('normal', { envelope: { ...envelope, signal: 'logs' }, payload });
  await becomes('open');
  await redis.hset(store.keys.breaker('logs'), 'state', 'closed');
  await redis.rpush(store.keys.outcomes, 'done rdelivered');
  const replayer = replayerOf(segments, Date.now);
  const left = async () => [segments.stats('normal').items, await sent()] as const;
  await waitUntil(
    async () => {
      const [items, ids] = await left();
      return items === PASSED_OVER || ids.length > 0;
    },
    { what: 'its record is removed' },
  );
  expect(await left()).toEqual([PASSED_OVER, []]);
  await replayer.stop();
  await segments.close();
});

it('a batch that fails while others are delivered is moved aside once the disk takes it, and holds up no other until then', async () => {
  const disk = new SimulatedDisk(seeded(1));
  let clock = 1_000_000;
  const segments = await SegmentLog.open(options(disk, { now: () => clock }).o);
  await segments.append('normal', record('poison'));
  await becomes('closed');
  const replayer = replayerOf(segments, () => clock, 1);
  const until = (what: string, isSo: () => boolean | Promise<boolean>) =>
    waitUntil(
      () => {
        clock += 1_000;
        return isSo();
      },
      { what, timeoutMs: 20_000, everyMs: 20 },
    );
  await until('it is in Redis', async () => (await sent()).length === 1);
  await redis.hset(store.keys.breaker('traces'), 'ok_total', 1); // another was delivered
  let refusals = 0;
  disk.beforeWrite = (_operation, path) => {
    if (!path.includes('/rejected/')) return;
    refusals++;
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
  };
  await settle('rpoison', { outcome: 'returned', failed: { attempts: 1, message: 'no' } });
  await until('the disk has refused it', () => refusals > 0);
  await segments.append('normal', record('other'));
  await until('the other is in Redis', async () => (await sent()).includes('rother'));
  disk.beforeWrite = undefined;
  await until('it is in the rejected area', () => segments.stats('rejected').records === 1);
  expect(segments.stats('normal').records).toBe(1);
  expect(await sent()).toEqual(['rother']);
  await replayer.stop();
  await segments.close();
});

it('outcomes that were read while the breakers could not be are not forgotten', async () => {
  const segments = await SegmentLog.open(options(new SimulatedDisk(seeded(1))).o);
  for (let i = 0; i < BATCHES; i++) await segments.append('normal', record(`o${i}`));
  await becomes('closed');
  /** Redis as far as the replayer sees it: nothing of it, all but the breakers, or all. */
  let reach: 'none' | 'no breakers' | 'all' = 'all';
  const cut = (...when: (typeof reach)[]) => {
    if (when.includes(reach)) throw new Error('CLUSTERDOWN');
  };
  const flaky = new Store(redis, OPTIONS);
  let failedReads = 0;
  flaky.breakers = async () => {
    if (reach === 'no breakers') failedReads++;
    cut('none', 'no breakers');
    return store.breakers();
  };
  flaky.replayOutcomes = async (from, limit) => {
    cut('none');
    return store.replayOutcomes(from, limit);
  };
  const replayer = replayerOf(segments, Date.now, 5, flaky);
  await waitUntil(async () => (await sent()).length === BATCHES, { what: 'all items are in Redis' });
  reach = 'none';
  await settle('ro0', { outcome: 'returned', failed: { attempts: 1, message: 'no' } });
  for (const id of ['ro1', 'ro2']) await settle(id, { outcome: 'delivered' });
  reach = 'no breakers';
  await waitUntil(() => failedReads > 0, { what: 'the breakers could not be read' });
  await replayer.checkpoint();
  reach = 'all';
  await waitUntil(async () => (await sent()).includes('ro0'), { what: 'the failed one is in Redis again' });
  await replayer.checkpoint();
  expect(segments.stats('normal').records).toBe(1);
  expect(replayer.outstanding).toBe(1);
  expect(await redis.llen(store.keys.outcomes)).toBe(0);
  await replayer.stop();
  await segments.close();
});

it('an error in place of an answer does not mean that Redis has lost a batch', async () => {
  await redis.set(store.keys.payload('b1'), 'x');
  await redis.call('ACL', 'SETUSER', 'default', '-ttl');
  try {
    await expect(store.holds(['b1'])).rejects.toThrow('NOPERM');
  } finally {
    await redis.call('ACL', 'SETUSER', 'default', '+ttl');
  }
  expect(await store.holds(['b1', 'b2'])).toEqual([true, false]);
});

describe.each(['EACCES', 'EIO'])('a segment that cannot be read for a while: %s', (code) => {
  async function laidDown(area: 'normal' | 'rejected') {
    const disk = new SimulatedDisk(seeded(1));
    const clock = { now: 2_000 };
    const { o } = options(disk, { now: () => clock.now });
    const segments = await SegmentLog.open(o);
    await segments.append(area, record('delivered'));
    await segments.seal(area);
    await segments.append('normal', record('other'));
    await becomes('closed');
    await redis.rpush(store.keys.outcomes, `done ${area === 'rejected' ? 'x' : 'r'}delivered`);
    const fail = () => {
      disk.beforeOpen = (path) => {
        if (path.endsWith(`/${area}/0000000000000001.seg`)) throw Object.assign(new Error(code), { code });
      };
    };
    const recover = async (log: SegmentLog) => {
      disk.beforeOpen = undefined;
      clock.now += 60_000;
      await log.maintain();
    };
    return { segments, open: () => SegmentLog.open(o), fail, recover };
  }

  it.each(['while the dlq runs', 'when it starts'])(
    'what an earlier run had delivered from it is not sent again: %s',
    async (when) => {
      const { segments: before, open, fail, recover } = await laidDown('normal');
      let segments = before;
      if (when === 'when it starts') await before.close();
      fail();
      if (when === 'when it starts') segments = await open();
      const replayer = replayerOf(segments, Date.now);
      await waitUntil(async () => (await sent()).length === 1, { what: 'the other is in Redis' });
      await wait(1_000); // all that can be read was read
      await recover(segments);
      await replayer.pause(true);
      await replayer.pause(false); // reads all of it again
      await waitUntil(async () => segments.stats('normal').records === 1 || (await sent()).length > 1, {
        what: 'its record is removed',
      });
      expect(await sent()).toHaveLength(1);
      await replayer.stop();
      await segments.close();
    },
  );

  it('does not hold up others when it is one of rejected batches, and is not sent again by an order', async () => {
    const { segments, fail, recover } = await laidDown('rejected');
    fail();
    const replayer = replayerOf(segments, Date.now);
    await waitUntil(async () => (await sent()).length === 1, { what: 'the other is in Redis' });
    await wait(1_000); // all that can be read was read
    await recover(segments);
    await replayer.replay({ areas: ['rejected'], class: undefined, ...ALWAYS });
    await waitUntil(() => replayer.order === undefined, { what: 'the order has expired' });
    expect(segments.stats('rejected').records).toBe(0);
    expect(await sent()).toHaveLength(1);
    await replayer.stop();
    await segments.close();
  });
});
