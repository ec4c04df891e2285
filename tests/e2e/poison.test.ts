/** Batches that the upstream never takes, among others that it does. */
import { complaint, generate, judge, startMockUpstream, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { accounting, type Running, startOne, untilQuiet } from '../kit.ts';

interface DlqState {
  areas: Record<string, { items: number }>;
  replay: { paused: boolean; outstanding: number; order?: unknown };
}

const api = async <T>(running: Running, path: string, method = 'GET'): Promise<T> =>
  (await (await fetch(`${running.admin}/api/dlq${path}`, { method })).json()) as T;

/** One log record that says `poison`. */
const POISON = JSON.stringify({
  resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: 'this one is poison' } }] }] }],
});

async function sendPoison(running: Running): Promise<void> {
  const response = await fetch(`${running.otlp}/v1/logs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: POISON,
  });
  expect(response.status).toBe(200);
}

const load = (running: Running, items: number, rate = 2_000) =>
  generate({
    ...{ endpoint: running.otlp, rate, items, batchSize: 1, connections: 4 },
    ...{ signals: { logs: 1 }, retryInitialMs: 20 },
  });

async function untilOnDisk(running: Running, items: number): Promise<void> {
  await waitUntil(async () => (await accounting(running.admin)).on_disk >= items, { what: 'it is on disk' });
}

it('replay --rejected sends each batch once per command, and pause ends it', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { status: 400 } });
  await using running = await startOne(dir.path, mock, {
    scheduler: { merge_bytes: '1B' },
    exporter: { compression: 'none' }, // or the first refusals are doubted, and asked for in another encoding
  });
  await load(running, 60);
  const untilRejected = () =>
    waitUntil(
      async () => {
        const { areas, replay } = await api<DlqState>(running, '');
        return areas.rejected!.items === 60 && replay.outstanding === 0 && replay.order === undefined;
      },
      { what: 'all items are rejected and none is in flight' },
    );
  await untilRejected();
  expect(mock.stats().requests).toBe(60);
  for (let command = 1; command <= 3; command++) {
    await api(running, '/replay?rejected=true', 'POST');
    await waitUntil(() => mock.stats().requests >= 60 * (command + 1), { what: 'all items were offered' });
    await untilRejected();
    expect(mock.stats().requests).toBe(60 * (command + 1));
  }
  const { records } = await api<{ records: { id: string }[] }>(running, '/records?rejected=true');
  expect(records).toHaveLength(60);
  expect(Math.max(...records.map(({ id }) => id.length))).toBeLessThanOrEqual(66);

  await api(running, '/replay?rejected=true&rate=100', 'POST'); // two records a second, at most
  await waitUntil(() => mock.stats().requests > 240, { what: 'the first item was offered' });
  await api(running, '/pause', 'POST');
  expect((await api<DlqState>(running, '')).replay).toMatchObject({ paused: true });
  expect((await api<DlqState>(running, '')).replay.order).toBeUndefined();
  await untilRejected();
  expect(mock.stats().requests).toBeLessThan(300);
  // The books hear of the disk a moment later.
  await waitUntil(
    async () => {
      const { rejected, difference } = await accounting(running.admin);
      return rejected === 60 && difference === 0;
    },
    { what: 'the ledger has each of them once' },
  );
  await mock.close();
});

it('a batch that fails every probe does not keep others on disk', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { outage: true } });
  await using running = await startOne(dir.path, mock, { dlq: { replay_rate: '64MiB' } });
  await sendPoison(running);
  await untilOnDisk(running, 1); // the oldest
  const report = await load(running, 300);
  await untilOnDisk(running, 301);
  mock.set({ outage: false, poison: 'is poison', poisonStatus: 503 });
  await waitUntil(async () => (await accounting(running.admin)).delivered === 300, {
    what: 'the others are delivered',
  });
  expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  expect(await accounting(running.admin)).toMatchObject({ rejected: 0 });
  mock.set({ poison: '' });
  expect(await untilQuiet(running.admin, 90_000)).toMatchObject({ delivered: 301, rejected: 0 });
  await mock.close();
});

it.each([500, 503])(
  'a batch that always gets %i, while others are accepted, is rejected with its history',
  async (poisonStatus) => {
    using dir = temporaryDirectory();
    const mock = await startMockUpstream({
      listen: '127.0.0.1:0',
      behaviour: { poison: 'is poison', poisonStatus },
    });
    await using running = await startOne(dir.path, mock, {
      dlq: { poison_after: 2 },
      exporter: { retry: { initial: '20ms', max: '50ms', max_attempts: 3 } },
    });
    await sendPoison(running);
    const stop = new AbortController();
    const others = whileLoaded(running, stop.signal);
    await waitUntil(async () => (await accounting(running.admin)).rejected === 1, {
      what: 'it is rejected',
      timeoutMs: 60_000,
    });
    stop.abort();
    await others;
    await untilQuiet(running.admin);
    const { records } = await api<{ records: object[] }>(running, '/records?rejected=true');
    expect(records).toMatchObject([
      {
        ...{ items: 1, signal: 'logs', reason: 'rejected:poison' },
        message: expect.stringMatching(
          /^\d+ replays with \d+ failed attempts while others were delivered; last: .*it has is poison in it$/,
        ),
      },
    ]);
    expect(await accounting(running.admin)).toMatchObject({ rejected: 1, dropped: 0, difference: 0 });
    await mock.close();
  },
);

/** Other logs, until it is told to stop. */
async function whileLoaded(running: Running, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) await load(running, 50, 200);
}
