/** More than the upstream takes: shares, spill, and full delivery afterwards. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { keysOf } from '@nrdot/queue';
import {
  complaint,
  generate,
  judge,
  startMockUpstream,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { accounting, type Running, scrape, startOne, startServices, untilQuiet } from '../kit.ts';

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
const CLASSES = ['critical', 'high', 'normal'] as const;
const WRONG_KEY = 'NRAK-wrong-0123456789';
const LOAD = {
  batchSize: 40,
  classes: { critical: 1, high: 1, normal: 1 },
  encoding: 'gzip',
  connections: 8,
} as const;

async function post(url: string): Promise<void> {
  expect((await fetch(url, { method: 'POST' })).ok, url).toBe(true);
}

describe('more load than the upstream accepts', () => {
  it('is sent 5:3:1, spills normal first, and is delivered completely once the load ends', async () => {
    await using running = await startOne(dir.path, mock, {
      exporter: { concurrency: 2, timeout: '20s' },
      // No merging: shares are to be seen batch by batch.
      scheduler: { export_window: 4, merge_bytes: 1 },
      queue: { max_items: 12_000 },
    });
    // What spilled comes back in every other slot, of whichever class it is.
    await post(`${running.admin}/api/dlq/pause`);
    const queued = async () =>
      (
        (await (await fetch(`${running.admin}/api/scheduler`)).json()) as {
          depth: { stages: { queued: Record<string, { items: number }> } };
        }
      ).depth.stages.queued;
    // Little leaves while the queue fills, so that every class has a backlog, however fast the machine is.
    mock.set({ latencyMs: 3_000 });
    const first = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 9_600 });
    const waiting = await queued();
    for (const c of CLASSES) expect(waiting[c]!.items, c).toBeGreaterThan(2_000);
    const before = mock.stats();
    // Each class has something until 3,600 items have left: from 1,800 on there is a share to be seen.
    mock.set({ latencyMs: 0, itemsPerSecond: 1_000 });
    const left = await waitUntil(
      () => {
        const { byClass, items } = mock.stats();
        return items - before.items > 1_800 ? byClass : undefined;
      },
      { what: 'enough was delivered' },
    );
    const rest = await queued();
    for (const c of CLASSES) expect(rest[c]!.items, `${c} had a backlog all the time`).toBeGreaterThan(0);
    const [critical, high, normal] = CLASSES.map((c) => left[c] - before.byClass[c]);
    expect(critical! / normal!).toBeGreaterThan(4.2);
    expect(critical! / normal!).toBeLessThan(5.8);
    expect(high! / normal!).toBeGreaterThan(2.5);
    expect(high! / normal!).toBeLessThan(3.5);
    // More than there is room for.
    mock.set({ latencyMs: 3_000, itemsPerSecond: 0 });
    const second = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 12_000 });
    const metrics = await (await fetch(`${running.admin}/metrics`)).text();
    const spilled = (c: string) =>
      Number(
        new RegExp(`^apq_spill_total\\{class="${c}",reason="fill"\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0,
      );
    expect(spilled('normal')).toBeGreaterThan(0);
    expect(spilled('normal')).toBeGreaterThanOrEqual(spilled('high'));
    expect(spilled('high')).toBeGreaterThanOrEqual(spilled('critical'));
    mock.set({ latencyMs: 0 });
    await post(`${running.admin}/api/dlq/resume`);
    await untilQuiet(running.admin, 60_000);
    for (const report of [first, second])
      expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect(mock.stats().duplicates).toBe(0);
  });
});

describe('an outage that fills Redis and the disk', () => {
  const CONFIG = {
    queue: { max_items: 2_000 },
    dlq: { capacity: '1MiB', segment_bytes: '64KiB', ballast: '64KiB', reserve: '1MiB' },
  };
  let acknowledged: number;
  const post = async ({ otlp }: Running) => {
    // Random text, which does not compress: 10 KB a request.
    const text = () => randomBytes(384).toString('base64');
    const logRecords = Array.from({ length: 20 }, () => ({ body: { stringValue: text() } }));
    const response = await fetch(`${otlp}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] }),
    });
    if (response.ok) acknowledged += 20;
    return response.status;
  };
  const fill = async (running: Running) => {
    acknowledged = 0;
    mock.set({ outage: true });
    await waitUntil(async () => (await post(running)) === 503, {
      ...{ what: 'both are full', timeoutMs: 60_000, everyMs: 1 },
    });
    await waitUntil(
      async () => {
        const { queued, on_disk: onDisk, difference } = await accounting(running.admin);
        return onDisk > 0 && queued + onDisk === acknowledged && difference === 0;
      },
      { what: 'the books have both' },
    );
  };

  it('ends with the outage: what the disk did not take is what the upstream is tried with', async () => {
    await using running = await startOne(dir.path, mock, CONFIG);
    await fill(running);
    mock.set({ outage: false });
    const books = await untilQuiet(running.admin, 60_000);
    expect(books).toMatchObject({ accepted: acknowledged, delivered: acknowledged, dropped: 0 });
    expect(mock.stats()).toMatchObject({ items: acknowledged });
    expect(await post(running)).toBe(200);
  });

  it('ends even if all that Redis held is rejected, and has to go to the disk: that is replayed beyond the limit', async () => {
    await using running = await startOne(dir.path, mock, CONFIG);
    await fill(running);
    const before = await accounting(running.admin);
    mock.set({ outage: false, status: 400 });
    const waiting = async () =>
      (await scrape(running.admin))
        .filter(({ name, labels }) => name === 'apq_spill_total' && labels.reason?.startsWith('rejected'))
        .reduce((sum, { value }) => sum + value, 0);
    await waitUntil(async () => (await waiting()) >= before.queued, {
      what: 'it was rejected',
      timeoutMs: 60_000,
    });
    mock.set({ status: 0 });
    const books = await untilQuiet(running.admin, 60_000);
    expect(books.rejected).toBeGreaterThan(0);
    expect(books).toMatchObject({
      accepted: acknowledged,
      delivered: acknowledged - books.rejected - books.dropped,
    });
    // On a full disk rejected batches make room for each other, and only they are dropped.
    const dropped = (await scrape(running.admin)).filter(
      ({ name, value }) => name === 'pipeline_dropped_items_total' && value > 0,
    );
    for (const { labels } of dropped) expect(labels.reason).toBe('rejected_capacity');
    expect(dropped.reduce((sum, { value }) => sum + value, 0)).toBe(books.dropped);
    expect(mock.stats()).toMatchObject({ items: books.delivered });
  });
});

describe('a Redis at its memory limit', () => {
  it('lets the dlq take what is to be spilled, which is all that can free memory', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    const client = new Redis(redis.url);
    await using running = await startServices(dir.path, redis, mock);
    mock.set({ outage: true });
    running.processes.dlq!.signal('SIGSTOP');
    const report = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 4_000 });
    await waitUntil(async () => (await accounting(running.admin)).queued === 4_000, {
      what: 'all of it is in Redis',
    });
    const spilled = () => client.llen(keysOf('{nrdot}').queue('spill', 'wait'));
    await waitUntil(async () => (await spilled()) > 50, { what: 'it waits for the dlq' });
    await client.config('SET', 'maxmemory', '1mb');
    await expect(client.set('{nrdot}:any', '1')).rejects.toThrow(/OOM/);
    mock.set({ outage: false });
    running.processes.dlq!.signal('SIGCONT');
    await waitUntil(async () => (await spilled()) === 0, { what: 'the dlq has taken it all' });
    await client.config('SET', 'maxmemory', '0');
    client.disconnect();
    await untilQuiet(running.admin, 60_000);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  });
});

describe('two schedulers', () => {
  it('may be killed at any time: nothing is lost or duplicated, and the other continues', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    await using running = await startServices(dir.path, redis, mock, {}, { exporters: 1, schedulers: 2 });
    const report = generate({ ...LOAD, endpoint: running.otlp, rate: 3_000, durationMs: 5_000 });
    await waitUntil(() => mock.stats().items > 2_000, { what: 'the load is in flight' });
    await running.processes.scheduler2!.end('SIGKILL');
    await waitUntil(() => mock.stats().items > 6_000, { what: 'it goes on with the other' });
    const finished = await report;
    const books = await untilQuiet(running.admin);
    expect(books.delivered).toBe(finished.acknowledgedItems);
    expect(complaint(judge(finished, mock.received(finished.run)))).toBe('');
    expect(mock.stats().duplicates).toBe(0);
  });
});

describe('an upstream that cannot keep up', () => {
  it('gets fewer concurrent requests, and more again once it recovers', async () => {
    await using running = await startOne(dir.path, mock, {
      // Nothing but the adapting limit holds requests back.
      breaker: { failures: 1_000, throttle_ratio: 1 },
      exporter: { concurrency: 12, retry: { initial: '20ms', max: '50ms', max_attempts: 1_000 } },
      scheduler: { export_window: 200, merge_bytes: 1 },
    });
    const limit = async () =>
      Number(
        /^exporter_concurrency (\d+)$/m.exec(await (await fetch(`${running.admin}/metrics`)).text())?.[1],
      );
    expect(await limit()).toBe(12);
    mock.set({ status: 503, latencyMs: 60 });
    const report = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 8_000 });
    await waitUntil(async () => (await limit()) === 1, { what: 'one request at a time' });
    mock.reset();
    await waitUntil(() => mock.stats().requests > 20, { what: 'some more are refused' });
    expect(mock.stats().maxConcurrency).toBeLessThanOrEqual(2); // the last of those in flight before, and one
    mock.set({ status: 0 });
    await waitUntil(async () => (await limit()) > 3, { what: 'it grows back' });
    await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  });
});

describe('a wrong key', () => {
  it('opens the breaker with its own reason and loses nothing', async () => {
    mock.set({ requireHeaders: { 'api-key': 'right' } });
    await using running = await startOne(dir.path, mock, {
      log: { level: 'debug' },
      exporter: { headers: { 'api-key': WRONG_KEY } },
    });
    const report = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 2_000 });
    const breaker = async () =>
      (
        (await (await fetch(`${running.admin}/api/scheduler`)).json()) as {
          breaker: { state: string; reason: string };
        }
      ).breaker;
    await waitUntil(async () => (await accounting(running.admin)).on_disk === 2_000, {
      what: 'all items are on disk',
    });
    expect((await breaker()).reason).toBe('auth');
    expect((await accounting(running.admin)).rejected).toBe(0);
    // The key is nowhere but in the file it was given in: not in jobs, payloads, segments, logs, metrics, routes.
    const places = [running.processes.up!.output()];
    for (const path of ['/metrics', '/readyz', '/api/scheduler', '/api/config', '/api/dlq']) {
      places.push(await (await fetch(`${running.admin}${path}`)).text());
    }
    const data = join(dir.path, 'data');
    for (const file of readdirSync(data, { recursive: true, withFileTypes: true })) {
      if (file.isFile()) places.push(readFileSync(join(file.parentPath, file.name), 'latin1'));
    }
    expect(places.length).toBeGreaterThan(8);
    for (const text of places) expect(text.includes(WRONG_KEY)).toBe(false);
    // It works on all the same, and says what is wrong.
    const ready = await fetch(`${running.admin}/readyz`);
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({ notices: { exporter: 'the upstream: auth (401)' } });
    mock.set({ requireHeaders: {} });
    await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect((await breaker()).state).toBe('closed');
    expect(await (await fetch(`${running.admin}/readyz`)).json()).toMatchObject({ notices: {} });
  });
});
