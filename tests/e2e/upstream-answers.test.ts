/** What the pipeline makes of what an upstream answers, from the request to the last delivery. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type Behaviour,
  complaint,
  generate,
  HEALTHY,
  judge,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { accounting, type Running, scrape, startOne, untilQuiet } from '../kit.ts';

interface SchedulerState {
  breaker: { state: string; reason: string; said: string; sinceMs: number; retryAtMs: number };
}

async function breakerOf(running: Running) {
  return ((await (await fetch(`${running.admin}/api/scheduler`)).json()) as SchedulerState).breaker;
}

it.each<[string, Partial<Behaviour>, string]>([
  ['500', { status: 500 }, 'failures'],
  ['404', { status: 404 }, 'place'],
  ['405', { status: 405 }, 'place'],
  ['a login page behind a 200', { html: true }, 'place'],
  [
    'a redirect that makes a GET of a POST',
    { redirectStatus: 302, redirectTo: 'http://127.0.0.1:1' },
    'place',
  ],
  ['a redirect to itself', { redirectStatus: 308, redirectTo: '' }, 'place'],
  ['an edge without its origin', { status: 530 }, 'place'],
  ['a refused scope', { status: 403 }, 'auth'],
])(
  '%s for a while: everything is kept outside the rejected area, and then arrives',
  async (_, behaviour, reason) => {
    using dir = temporaryDirectory();
    const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour });
    await using running = await startOne(dir.path, mock);
    const report = await generate({
      ...{ endpoint: running.otlp, rate: 2_000, batchSize: 20, items: 800, connections: 2 },
    });
    await waitUntil(async () => (await accounting(running.admin)).on_disk >= 700, { what: 'it is on disk' });
    expect(await breakerOf(running)).toMatchObject({ reason, said: expect.stringMatching(/./) });
    expect(await accounting(running.admin)).toMatchObject({ rejected: 0, dropped: 0, delivered: 0 });
    mock.set(HEALTHY);
    const books = await untilQuiet(running.admin);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect(books).toMatchObject({ accepted: 800, delivered: 800, rejected: 0, dropped: 0 });
    await mock.close();
  },
);

it('503, then 404 before it works: the first 404 does not release data that is safe on disk', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { status: 503 } });
  await using running = await startOne(dir.path, mock);
  const report = await generate({
    endpoint: running.otlp,
    rate: 2_000,
    batchSize: 20,
    items: 1_200,
    connections: 2,
  });
  await waitUntil(async () => (await breakerOf(running)).reason === 'failures', { what: 'it is paused' });
  mock.set({ status: 404 });
  const seen = () => mock.stats().byStatus['404'] ?? 0;
  await waitUntil(() => seen() >= 3, { what: 'three probes were answered 404' });
  expect(await breakerOf(running)).toMatchObject({
    reason: 'place',
    said: expect.stringContaining(`${mock.url}/v1/traces answered 404 Not Found`),
  });
  expect((await accounting(running.admin)).rejected).toBe(0);
  mock.set({ status: 0 });
  const books = await untilQuiet(running.admin);
  expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  expect(books).toMatchObject({ delivered: 1_200, rejected: 0 });
  await mock.close();
});

/** A request of log records, one of which says `poison`. */
const logs = (records: number, at: number) =>
  JSON.stringify({
    resourceLogs: [
      {
        scopeLogs: [
          {
            logRecords: Array.from({ length: records }, (_, i) => ({
              timeUnixNano: '1767225600000000000',
              body: { stringValue: i === at ? 'this one is poison' : `record ${i}` },
            })),
          },
        ],
      },
    ],
  });

const post = (running: Running, signal: string, body: string) =>
  fetch(`${running.otlp}/v1/${signal}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });

it.each([0, 57, 99])(
  '400 for item %i of 100: only it is kept, with the message, and 99 arrive',
  async (at) => {
    using dir = temporaryDirectory();
    const mock = await startMockUpstream({
      listen: '127.0.0.1:0',
      behaviour: { poison: 'poison', poisonStatus: 400 },
    });
    await using running = await startOne(dir.path, mock);
    expect((await post(running, 'logs', logs(100, at))).status).toBe(200);
    const books = await untilQuiet(running.admin);
    expect(books).toMatchObject({ accepted: 100, delivered: 99, rejected: 1 });
    // Two requests for each halving, at most.
    expect(mock.stats().requests).toBeLessThanOrEqual(1 + 2 * Math.ceil(Math.log2(100)));
    const rejected = (await scrape(running.admin)).filter(
      ({ name }) => name === 'exporter_rejected_items_total',
    );
    expect(rejected.filter(({ value }) => value > 0)).toMatchObject([
      { labels: { reason: 'status_400' }, value: 1 },
    ]);
    const listed = await fetch(`${running.admin}/api/dlq/records?rejected`);
    expect(await listed.json()).toMatchObject({
      records: [{ status: 400, items: 1, message: 'it has poison in it' }],
    });
    await mock.close();
  },
);

it('an upstream that rejects everything does not get each item twice', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { status: 400 } });
  await using running = await startOne(dir.path, mock);
  const report = await generate({
    endpoint: running.otlp,
    rate: 4_000,
    batchSize: 200,
    items: 4_000,
    connections: 2,
  });
  const books = await untilQuiet(running.admin);
  expect(books).toMatchObject({ rejected: report.acknowledgedItems, delivered: 0 });
  expect(mock.stats().requests).toBeLessThan(400);
  await mock.close();
});

it.each([307, 308])(
  '%i to another port of the same host is followed, with the key',
  async (redirectStatus) => {
    using dir = temporaryDirectory();
    const moved = await startMockUpstream({
      listen: '127.0.0.1:0',
      behaviour: { requireHeaders: { 'api-key': 'secret-key' } },
    });
    const mock = await startMockUpstream({
      listen: '127.0.0.1:0',
      behaviour: { redirectStatus, redirectTo: moved.url },
    });
    await using running = await startOne(dir.path, mock, {
      exporter: { headers: { 'api-key': 'secret-key' } },
    });
    const report = await generate({
      endpoint: running.otlp,
      rate: 2_000,
      batchSize: 20,
      items: 200,
      connections: 2,
    });
    const books = await untilQuiet(running.admin);
    expect(complaint(judge(report, moved.received(report.run)))).toBe('');
    expect(books).toMatchObject({ delivered: 200, rejected: 0 });
    await Promise.all([mock.close(), moved.close()]);
  },
);

it('a success counts whatever the size of its body: nothing is sent twice', async () => {
  using dir = temporaryDirectory();
  let requests = 0;
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      requests++;
      response.on('error', () => {});
      response.writeHead(200, { 'content-type': 'application/json' }).end(`{"a":"${'x'.repeat(5_000_000)}"}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await using running = await startOne(dir.path, { url });
  expect((await post(running, 'logs', logs(10, -1))).status).toBe(200);
  expect(await untilQuiet(running.admin)).toMatchObject({ delivered: 10 });
  expect(requests).toBe(1);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

it('a Retry-After delays its batch but not others, until enough of them make the signal wait', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    behaviour: { status: 503, retryAfterSeconds: 20 },
  });
  await using running = await startOne(dir.path, mock, { breaker: { failures: 3, open_max: '30s' } });
  await post(running, 'logs', logs(1, -1));
  await waitUntil(() => mock.stats().byStatus['503'] === 1, { what: 'the first was answered' });
  mock.set({ status: 0 });
  for (let i = 0; i < 6; i++) await post(running, 'logs', logs(1, -1));
  await waitUntil(async () => (await accounting(running.admin)).delivered === 6, {
    what: 'the others are delivered',
  });
  expect(await accounting(running.admin)).toMatchObject({ queued: 1, on_disk: 0 });

  mock.set({ status: 503 });
  for (let i = 0; i < 4; i++) await post(running, 'logs', logs(1, -1));
  await waitUntil(async () => (await breakerOf(running)).state === 'open', { what: 'all items are queued' });
  mock.set({ status: 0 });
  const { retryAtMs, sinceMs } = await breakerOf(running);
  expect(retryAtMs - sinceMs).toBe(20_000);
  expect(await accounting(running.admin)).toMatchObject({ delivered: 6, rejected: 0, dropped: 0 });
  await mock.close();
});

it('413 to everything: that is not about size, and batches are not taken apart into single items', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { status: 413 } });
  await using running = await startOne(dir.path, mock);
  await generate({
    ...{ endpoint: running.otlp, rate: 100_000, batchSize: 5_000, items: 20_000, connections: 1 },
  });
  const books = await untilQuiet(running.admin);
  expect(books).toMatchObject({ accepted: 20_000, rejected: 20_000, delivered: 0 });
  expect(mock.stats().byStatus[413]).toBeLessThan(2_000);
  await mock.close();
});

it('data older than max_age is dropped and counted, not delivered', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { outage: true } });
  await using running = await startOne(dir.path, mock, { exporter: { max_age: { logs: '1s' } } });
  await post(running, 'logs', logs(10, -1));
  const report = await generate({
    endpoint: running.otlp,
    rate: 2_000,
    batchSize: 20,
    items: 200,
    connections: 2,
  });
  const kept = async () => {
    const { on_disk, dropped } = await accounting(running.admin);
    return on_disk + dropped === 210; // the logs may have become too old on their way
  };
  await waitUntil(kept, { what: 'it is on disk' });
  const receivedBy = Date.now();
  await waitUntil(() => Date.now() > receivedBy + 1_000, { what: 'it is too old' });
  mock.set({ outage: false });
  expect(await untilQuiet(running.admin)).toMatchObject({ delivered: 200, dropped: 10, rejected: 0 });
  expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  const dropped = (await scrape(running.admin)).filter(
    ({ name, labels }) => name === 'pipeline_dropped_items_total' && labels.reason === 'too_old',
  );
  expect(dropped.map(({ value }) => value)).toEqual([10]);
  await mock.close();
});
