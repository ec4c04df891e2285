import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import {
  complaint,
  freePort,
  generate,
  judge,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { accounting, startOne, startServices, untilQuiet } from '../kit.ts';

const LOAD = {
  rate: 4_000,
  batchSize: 50,
  signals: { traces: 2, metrics: 1, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
  retryInitialMs: 20,
  connections: 8,
} as const;

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
beforeEach(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
});
afterEach(async () => {
  await mock.close();
  dir[Symbol.dispose]();
});

describe('the pipeline', () => {
  it('as four services with two exporters delivers every item once, using both exporters', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    mock.set({ latencyMs: 20 });
    await using running = await startServices(dir.path, redis, mock);
    const report = await generate({ ...LOAD, endpoint: running.otlp, items: 12_000 });
    expect(report.acknowledgedItems).toBe(12_000);
    const books = await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect(books).toMatchObject({ accepted: 12_000, delivered: 12_000, rejected: 0, dropped: 0 });
    expect(mock.stats()).toMatchObject({
      items: 12_000,
      duplicates: 0,
      corrupted: 0,
      foreign: 0,
      misplaced: 0,
      byClass: report.acknowledgedByClass,
    });
    for (const name of ['exporter1', 'exporter2']) {
      const [, admin = ''] = await running.processes[name]!.line(/"admin":"([^"]+)"/);
      const metrics = await (await fetch(`http://${admin}/metrics`)).text();
      const delivered = [...metrics.matchAll(/^exporter_delivered_items_total\{.*\} (\d+)$/gm)];
      expect(delivered.reduce((sum, [, n]) => sum + Number(n), 0)).toBeGreaterThan(1_000);
    }
    for (const [name, process] of Object.entries(running.processes))
      expect(await process.end(), name).toBe(0);
  });

  it('as four services bypasses a frozen scheduler if nothing is queued ahead', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    await using running = await startServices(dir.path, redis, mock);
    const scheduler = running.processes.scheduler1!;
    scheduler.signal('SIGSTOP');
    for (const items of [50, 100, 150]) {
      await generate({ ...LOAD, endpoint: running.otlp, items: 50 });
      await waitUntil(() => mock.stats().items === items, { what: `${items} items arrived` });
    }
    scheduler.signal('SIGCONT');
    expect(await untilQuiet(running.admin)).toMatchObject({ accepted: 150, delivered: 150 });
  });

  it('in one process survives kill -9 under load: everything acknowledged arrives', async () => {
    const first = await startOne(dir.path, mock);
    mock.set({ latencyMs: 30 });
    const enough = new AbortController();
    const report = generate({ ...LOAD, endpoint: first.otlp, items: 40_000 }, { signal: enough.signal });
    await waitUntil(() => mock.stats().items > 3_000, { what: 'the load is in flight' });
    await first.processes.up!.end('SIGKILL');
    enough.abort();
    const { acknowledged, unknown, ...rest } = await report;
    expect(acknowledged.count).toBeGreaterThan(3_000);
    expect(unknown.count).toBeGreaterThan(0);
    await using again = await startOne(dir.path, mock);
    await untilQuiet(again.admin);
    expect(complaint(judge({ ...rest, acknowledged, unknown }, mock.received(rest.run)))).toBe('');
    expect(mock.stats().corrupted).toBe(0);
    expect(await again.processes.up!.end('SIGINT')).toBe(0);
  });

  it('stops cleanly on SIGTERM, keeps queued data, and delivers it after the next start', async () => {
    mock.set({ latencyMs: 2_000 });
    const first = await startOne(dir.path, mock, { exporter: { concurrency: 2 } });
    const report = await generate({ ...LOAD, endpoint: first.otlp, rate: 0, items: 5_000 });
    expect(report.acknowledgedItems).toBe(5_000);
    expect(await first.processes.up!.end('SIGTERM')).toBe(0);
    expect(mock.stats().items).toBeLessThan(5_000);
    mock.set({ latencyMs: 0 });
    await using again = await startOne(dir.path, mock);
    await untilQuiet(again.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  });

  it('spills to disk in an outage, and replays everything when the upstream is back', async () => {
    await using running = await startOne(dir.path, mock);
    mock.set({ outage: true });
    const report = await generate({ ...LOAD, endpoint: running.otlp, items: 12_000 });
    expect(report.acknowledgedItems).toBe(12_000);
    const spilled = await waitUntil(
      async () => {
        const books = await accounting(running.admin);
        return books.queued === 0 && books.on_disk === 12_000 ? books : undefined;
      },
      { what: 'all items are on disk', everyMs: 100 },
    );
    expect(spilled.delivered).toBe(0);
    mock.set({ outage: false });
    await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect(mock.stats()).toMatchObject({ duplicates: 0, corrupted: 0, byClass: report.acknowledgedByClass });
  });

  it('keeps rejected data separately, counts partial success, and splits requests that are too large', async () => {
    await using running = await startOne(dir.path, mock);
    mock.set({ refuseRate: 1 });
    const refused = await generate({ ...LOAD, endpoint: running.otlp, items: 400 });
    await waitUntil(async () => (await accounting(running.admin)).rejected === 400, {
      what: 'all items are in the rejected area',
    });
    mock.set({ refuseRate: 0, partialRate: 1 });
    await generate({ ...LOAD, endpoint: running.otlp, items: 400 });
    const partial = await waitUntil(
      async () => {
        const books = await accounting(running.admin);
        return books.delivered + books.dropped === 400 ? books : undefined;
      },
      { what: 'the partial successes are in the ledger' },
    );
    expect(partial.dropped).toBeGreaterThan(0);
    expect(partial.difference).toBe(0);
    mock.set({ partialRate: 0, maxBodyBytes: 6_000 });
    const large = await generate({
      ...LOAD,
      endpoint: running.otlp,
      encoding: 'identity',
      signals: { traces: 1 },
      items: 500,
    });
    await waitUntil(() => mock.received(large.run).count === 500, { what: 'all pieces arrived' });
    // On command, what was refused is offered again.
    mock.set({ maxBodyBytes: 1e9 });
    await fetch(`${running.admin}/api/dlq/replay?rejected=true`, { method: 'POST' });
    await waitUntil(async () => (await accounting(running.admin)).rejected === 0, {
      what: 'the rejected area is empty',
    });
    await untilQuiet(running.admin);
    expect(complaint(judge(refused, mock.received(refused.run)))).toBe('');
  });

  it('stores batches on disk while Redis is out of memory, and the books balance', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    const port = await freePort();
    const dlq = { listen: `127.0.0.1:${port}`, url: `http://127.0.0.1:${port}` };
    await using running = await startServices(dir.path, redis, mock, { dlq });
    const client = new Redis(redis.url);
    mock.set({ cutRate: 0.5 });
    const load = generate({ ...LOAD, endpoint: running.otlp, items: 20_000 });
    await waitUntil(async () => (await accounting(running.admin)).accepted > 2_000, {
      what: 'the load is in flight',
    });
    for (let i = 0; i < 5; i++) {
      const used = Number(/used_memory:(\d+)/.exec(await client.info('memory'))![1]);
      await client.config('SET', 'maxmemory', String(used + 50_000));
      await wait(150);
      await client.config('SET', 'maxmemory', '0');
    }
    // In little room everything may just fit, when batches leave as fast as they come. In none nothing does.
    await client.config('SET', 'maxmemory', '1mb');
    await waitUntil(() => existsSync(join(dir.path, 'data/dlq/ledger.json')), {
      what: 'a batch has gone to the disk',
    });
    await client.config('SET', 'maxmemory', '0');
    client.disconnect();
    mock.set({ cutRate: 0 });
    const report = await load;
    expect(report.acknowledgedItems).toBe(20_000);
    await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  });

  it('stores batches on disk while Redis is away, and delivers and counts them when it is back', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    const port = await freePort();
    const dlq = { listen: `127.0.0.1:${port}`, url: `http://127.0.0.1:${port}` };
    await using running = await startServices(dir.path, redis, mock, { dlq });
    await redis.kill();
    const report = await generate({ ...LOAD, endpoint: running.otlp, items: 4_000 });
    expect(report.acknowledgedItems).toBe(4_000);
    expect(report.retries).toBe(0);
    await running.processes.dlq!.end('SIGKILL');
    const file = join(dir.path, 'nrdot.yaml');
    await using again = startNrdot(['dlq', '--config', file], {}, dir.path);
    await again.line(/ready to store spilled batches/);
    await redis.start();
    // Until the dlq has told Redis, its books are those of a quiet pipeline in which nothing has happened.
    await waitUntil(async () => (await accounting(running.admin)).accepted === 4_000, {
      what: 'everything is in the ledger',
    });
    await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect(await accounting(running.admin)).toMatchObject({
      accepted: 4_000,
      delivered: 4_000,
      difference: 0,
    });
  });

  it('waits for a Redis that is not up yet, reports it, and answers 503 when it goes down', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    await redis.stop();
    const starting = startServices(dir.path, redis, mock);
    starting.catch(() => {});
    await wait(1_000); // time for each of them to try
    await redis.start();
    await using running = await starting;
    const report = generate({ ...LOAD, endpoint: running.otlp, items: 8_000 });
    await waitUntil(() => mock.stats().items > 1_000, { what: 'the load is in flight' });
    await redis.kill();
    const answer = await waitUntil(
      async () => {
        const response = await fetch(`${running.otlp}/v1/traces`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}',
        });
        return response.status === 503 ? response : undefined;
      },
      { what: 'the receiver answers 503' },
    );
    expect(answer.headers.get('retry-after')).toBe('1');
    expect(((await answer.json()) as { code: number }).code).toBe(14);
    await redis.start();
    const finished = await report;
    expect(finished.acknowledgedItems).toBe(8_000);
    await untilQuiet(running.admin);
    expect(complaint(judge(finished, mock.received(finished.run)))).toBe('');
  });
});
