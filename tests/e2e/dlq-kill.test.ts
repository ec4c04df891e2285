import { join } from 'node:path';
import {
  complaint,
  generate,
  judge,
  type Process,
  seededRandom,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { accounting, startServices, untilQuiet, writeConfig } from '../kit.ts';

const ITEMS = 9_000;
const BATCH = 50;
const KILLS = 3;
const LOAD = {
  rate: 3_000,
  batchSize: BATCH,
  signals: { traces: 2, metrics: 1, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
  items: ITEMS,
} as const;

it('the dlq, killed repeatedly during writes and replay, loses nothing and counts nothing twice', async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`seed ${seed}`);
  const random = seededRandom(seed);
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using running = await startServices(
    dir.path,
    redis,
    mock,
    { dlq: { replay_rate: '1MiB' } },
    { exporters: 1 },
  );
  let dlq: Process = running.processes.dlq!;
  const killAndStart = async () => {
    await dlq.end('SIGKILL');
    dlq = startNrdot(['dlq', '--config', join(dir.path, 'nrdot.yaml')], {}, dir.path);
    running.processes.dlq = dlq; // it ends with the others
    await dlq.line(/ready to store spilled batches/);
  };
  /** Kills it whenever a random part of the way between `from()` then and the end has been gone. */
  const killOnTheWay = async (done: () => Promise<number>, to: number) => {
    for (let kill = 0; kill < KILLS; kill++) {
      const from = await done();
      const at = from + ((to - from) / (KILLS + 1 - kill)) * (0.2 + random() * 0.8);
      await waitUntil(async () => (await done()) >= at, {
        what: `it has got from ${from} to ${Math.round(at)}`,
        everyMs: 10,
      });
      await killAndStart();
    }
  };

  mock.set({ outage: true });
  const load = generate({ ...LOAD, endpoint: running.otlp });
  load.catch(() => {});
  const stored = async () => (await accounting(running.admin)).on_disk;
  await killOnTheWay(stored, ITEMS * 0.9);
  const report = await load;
  expect(report.acknowledgedItems).toBe(ITEMS);
  await waitUntil(async () => (await stored()) === ITEMS, { what: 'all items are on disk', everyMs: 100 });

  mock.set({ outage: false });
  await killOnTheWay(async () => mock.stats().items, ITEMS * 0.9);
  const books = await untilQuiet(running.admin);
  expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  expect(books).toMatchObject({ accepted: ITEMS, delivered: ITEMS, dropped: 0, difference: 0 });
  expect(mock.stats()).toMatchObject({ duplicates: 0, corrupted: 0 });
  await mock.close();
});

it('a second dlq on the same directory does not start, and names the owner', async () => {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const file = writeConfig(dir.path, { redis: { url: redis.url } });
  await using first = startNrdot(['dlq', '--config', file], {}, dir.path);
  await first.line(/ready to store spilled batches/);
  await using second = startNrdot(['dlq', '--config', file], {}, dir.path);
  await waitUntil(() => !second.running, { what: 'the second has ended' });
  expect(second.child.exitCode).toBe(1);
  expect(second.output()).toContain(`belongs to a dlq that is running (process ${first.pid})`);
  expect(first.running).toBe(true);
});
