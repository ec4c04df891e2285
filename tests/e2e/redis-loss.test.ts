/** Redis loses all that it held: it is told and booked, the disk's part goes on, and everything recovers without a restart. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { PipelineStatus } from '@nrdot/status';
import {
  freePort,
  generate,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { accounting, scrape, startOne, startServices, untilQuiet } from '../kit.ts';

const LOAD = {
  batchSize: 10,
  connections: 4,
  signals: { traces: 1, metrics: 2, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
} as const;

const statusOf = async (admin: string) =>
  (await (await fetch(`${admin}/api/status`)).json()) as PipelineStatus;

/** A real request to the dlq, as a receiver sends it that does not reach Redis. */
async function straightToDisk(dlq: string, batches: number): Promise<void> {
  // One span each.
  const span = Buffer.from('0a1b121912170a100123456789abcdef0123456789abcdef2a0378797a', 'hex');
  for (let i = 0; i < batches; i++) {
    const answer = await fetch(`http://${dlq}/v1/batches/direct${i}`, {
      method: 'POST',
      headers: {
        ...{ 'x-nrdot-signal': 'traces', 'x-nrdot-class': 'high', 'x-nrdot-items': '1' },
        ...{ 'x-nrdot-encoding': 'identity', 'x-nrdot-received-at': String(Date.now()) },
        'content-type': 'application/octet-stream',
      },
      body: span,
    });
    expect(answer.status).toBe(200);
  }
}

it('FLUSHALL: data in Redis is counted as lost, data on disk is replayed, and new data is delivered', async () => {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const dlq = `127.0.0.1:${await freePort()}`;
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using running = await startServices(
    dir.path,
    redis,
    mock,
    { dlq: { listen: dlq } },
    { exporters: 0, receivers: 2 },
  );
  const client = new Redis(redis.url);
  try {
    const before = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 2_000 });
    expect(before.acknowledged.count).toBe(2_000);
    await straightToDisk(dlq, 5);
    await waitUntil(async () => (await client.hget('{nrdot}:disk', 'waiting')) === '5', {
      what: 'Redis has the totals of the disk',
    });
    await waitUntil(async () => (await accounting(running.admin)).accepted === 2_005, {
      what: 'the disk is in the ledger',
    });
    // Two looks of the dlq: all that is in Redis has been seen.
    const seenAt = await client.hget('{nrdot}:disk', 'at');
    await waitUntil(async () => Number(await client.hget('{nrdot}:disk', 'at')) > Number(seenAt) + 2_000, {
      what: 'the dlq has checked again',
    });

    await client.flushall();
    await running.processes.dlq!.line(/Redis has lost its data\. 2,000 items that were in it are lost/);
    // An empty Redis balances, too, until the books are taken up again.
    await waitUntil(
      async () => {
        const { accepted, difference } = await accounting(running.admin);
        return accepted > 0 && difference === 0;
      },
      { what: 'the books balance' },
    );
    expect(await accounting(running.admin)).toMatchObject({
      accepted: 2_005,
      queued: 0,
      on_disk: 5,
      dropped: 2_000,
    });
    // The status is put together once a second.
    await waitUntil(
      async () => (await statusOf(running.admin)).findings.some(({ code }) => code === 'redis_lost'),
      { what: 'the status reports it' },
    );
    const { findings, summary } = await statusOf(running.admin);
    expect(findings.find(({ code }) => code === 'redis_lost')).toMatchObject({
      level: 'fault',
      text: expect.stringContaining('2,000 accepted items that were only there are lost'),
    });
    expect(summary.lost).toMatch(/2,000 of 2,005 accepted items were dropped: 2,000 redis_lost/);

    await using exporter = startNrdot(
      ['exporter', '--config', join(dir.path, 'nrdot.yaml'), '--upstream', mock.url],
      {},
      dir.path,
    );
    void exporter;
    for (const { otlp } of running.receivers) {
      const after = await generate({ ...LOAD, endpoint: otlp, rate: 500, items: 500 });
      expect(after.acknowledged.count).toBe(500);
    }
    expect(await untilQuiet(running.admin)).toMatchObject({
      accepted: 3_005,
      delivered: 1_005,
      dropped: 2_000,
    });
    expect(mock.stats().items).toBe(1_005);
    // In the metrics, each is counted once.
    const dropped = (await scrape(running.admin)).filter(
      ({ name }) => name === 'pipeline_dropped_items_total',
    );
    expect(dropped.find(({ labels }) => labels.reason === 'redis_lost')?.value).toBe(2_000);
    for (const process of Object.values(running.processes)) expect(process.running).toBe(true);
  } finally {
    client.disconnect();
    await mock.close();
  }
});

it('a lost volume while nothing runs: the dlq has the accounting on its disk', async () => {
  using dir = temporaryDirectory();
  using redisDir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: redisDir.path });
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  const config = { dlq: { dir: join(dir.path, 'dlq') } };
  const ledger = join(dir.path, 'dlq', 'ledger.json');
  {
    await using running = await startServices(dir.path, redis, mock, config, { exporters: 0 });
    await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 300 });
    await waitUntil(
      () => existsSync(ledger) && JSON.parse(readFileSync(ledger, 'utf8')).seen?.books?.accepted === 300,
      { what: 'the dlq has written its checkpoint', timeoutMs: 40_000 },
    );
  }
  await redis.stop();
  rmSync(redisDir.path, { recursive: true });
  mkdirSync(redisDir.path);
  await redis.start();
  await using running = await startServices(dir.path, redis, mock, config, { exporters: 1 });
  await running.processes.dlq!.line(/Redis has lost its data\. 300 items/);
  await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 100 });
  expect(await untilQuiet(running.admin)).toMatchObject({ accepted: 400, delivered: 100, dropped: 300 });
  await mock.close();
});

it('in one process under load: the books balance again, and nothing acknowledged afterwards is lost', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using running = await startOne(dir.path, mock, { dlq: { replay_rate: '1MiB' } });
  const client = new Redis(join(dir.path, 'data/redis/redis.sock'));
  try {
    const enough = new AbortController();
    const load = generate({ ...LOAD, endpoint: running.otlp, rate: 1_000 }, { finish: enough.signal });
    await waitUntil(() => mock.stats().items > 1_000, { what: 'traffic flows' });
    mock.set({ outage: true });
    await waitUntil(async () => (await accounting(running.admin)).on_disk > 500, {
      what: 'some is on disk',
      timeoutMs: 60_000,
    });
    const onDisk = (await accounting(running.admin)).on_disk;
    await client.flushall();
    await running.processes.up!.line(/Redis has lost its data/);
    mock.set({ outage: false });
    const before = mock.stats().items;
    await waitUntil(() => mock.stats().items > before + onDisk + 1_000, {
      what: 'the disk and new traffic are delivered',
      timeoutMs: 60_000,
    });
    enough.abort();
    await load;
    const books = await untilQuiet(running.admin, 60_000);
    expect(books.difference).toBe(0);
    expect((await statusOf(running.admin)).findings.map(({ code }) => code)).toContain('redis_lost');
    const last = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 500 });
    const total = mock.stats().items;
    expect(last.acknowledged.count).toBe(500);
    await untilQuiet(running.admin);
    expect(mock.stats().items).toBeGreaterThanOrEqual(total);
    expect((await accounting(running.admin)).delivered - books.delivered).toBe(500);
  } finally {
    client.disconnect();
    await mock.close();
  }
});
