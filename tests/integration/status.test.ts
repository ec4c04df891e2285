/** What each process says of itself, and what the scheduler makes of it, as services of their own on a real Redis. */
import { CLASSES, Store } from '@nrdot/queue';
import { connect } from '@nrdot/redis';
import {
  type DlqStatus,
  type HistoryColumns,
  type PipelineStatus,
  type ProcessStatus,
  StatusBoard,
  StatusReader,
} from '@nrdot/status';
import { generate, startMockUpstream, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startServices } from '../kit.ts';
import { batch, OPTIONS } from './store-on-redis.ts';

const statusOf = (instance: string): ProcessStatus => ({
  ...{ instance, at: Date.now(), startedAt: 0, version: '0', rssBytes: 1, services: { scheduler: {} } },
});

let dir: ReturnType<typeof temporaryDirectory>;
let redis: TestRedis;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
beforeEach(async () => {
  dir = temporaryDirectory();
  redis = await TestRedis.start({ dir: dir.path });
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
});
afterEach(async () => {
  await mock.close();
  await redis[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** As the scheduler reads the status. */
function readerOf(store: Store, readyForMs = () => 60_000): StatusReader {
  return new StatusReader({
    ...{ store, readyForMs, accountLimits: () => ({}), redis: { address: redis.url, isOwn: false } },
    ...{ now: Date.now, steadyNow: Date.now, board: new StatusBoard('0') },
    state: {
      ...{ ...OPTIONS, weights: () => ({ critical: 5, high: 3, normal: 1 }), slotMs: 500 },
      ...{ decisionsPerSecond: () => 0, notReady: () => undefined },
    },
  });
}

describe('the report of a process', () => {
  it('is removed after it ends, is bounded, and works even if Redis has no memory left', async () => {
    const connection = connect(
      { url: redis.url },
      { kind: 'consumer', name: 'test', commandTimeoutMs: 1_000 },
    );
    const store = new Store(connection, OPTIONS);
    await store.publishStatus(statusOf('b:1'));
    const [seconds] = await connection.time();
    const ago = (s: number) => (Number(seconds) - s) * 1_000;
    await connection.hset(
      store.keys.status,
      'ended:1',
      `${ago(61)} {}`,
      'silent:1',
      `${ago(20)} {"instance":"silent:1"}`,
    );
    await connection.config('SET', 'maxmemory', '1');
    await expect(connection.set('other', '1')).rejects.toThrow(/OOM/);
    await store.publishStatus(statusOf('a:1'));
    expect((await connection.hkeys(store.keys.status)).sort()).toEqual(['a:1', 'b:1', 'silent:1']);
    // The silent one is there for the eye, and does not count.
    expect((await store.statuses()).map(({ status }) => (status as ProcessStatus).instance)).toEqual([
      'a:1',
      'b:1',
    ]);
    const ttl = await connection.pttl(store.keys.status);
    expect(ttl).toBeGreaterThan(30_000);
    expect(ttl).toBeLessThanOrEqual(60_000);
    connection.disconnect();
  });
});

it('does not say that data spills from an empty queue, although only the next batch ends that', async () => {
  const connection = connect({ url: redis.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 1_000 });
  const store = new Store(connection, OPTIONS);
  const spills = async () => (await readerOf(store).read()).queue!.classes.normal.spills;
  await connection.hset(store.keys.scheduler, 'spilling:normal', '1');
  expect(await spills()).toBe(false);
  await store.enqueue([[batch('high')]], Date.now());
  expect(await spills()).toBe(true);
  connection.disconnect();
});

it('says that what is on disk is not known, until a dlq has reported to a Redis that was away', async () => {
  const connection = connect({ url: redis.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 1_000 });
  const store = new Store(connection, OPTIONS);
  const area = (items: number) => ({
    items,
    waitingBytes: 0,
    diskBytes: 0,
    segments: 0,
    oldestReceivedAt: 1,
  });
  const reports = async (waiting: number, instance = 'dlq:1') => {
    const areas = { critical: area(0), high: area(0), normal: area(waiting), rejected: area(0) };
    const dlq: DlqStatus = {
      ...{ state: 'ok', diskBytes: 0, capacityBytes: 1e9, areas, segments: [], segmentsLeftOut: 0 },
      replay: { paused: false, outstanding: 0, bytesPerSecond: 1, drainSeconds: 1, replayedItems: 0 },
      quarantinedBytes: 0,
    };
    await store.publishStatus({ ...statusOf(instance), services: { dlq } } as ProcessStatus);
    await store.reportDisk({
      ...{ waiting, rejected: 0, unbooked: waiting, undropped: 0, outcomesSeen: 0 },
      ...{ seen: undefined, freshEpoch: 'one' },
    });
  };
  let readyForMs = 60_000;
  const read = () => readerOf(store, () => readyForMs).read();
  await reports(0);
  const before = await read();
  expect(before.summary.data).toMatch(/, 0 on disk\./);
  expect(before.diskIsOld).toBeUndefined();
  // Redis has no status of the reading process itself, so others may be missing for the same reason.
  expect(before.unheard).toBe(true);
  await store.publishStatus(statusOf(new StatusBoard('0').instance));
  expect((await read()).unheard).toBeUndefined();

  await waitUntil(async () => ((await store.diskReportAgeMs()) ?? 0) > 0, {
    what: 'the report is of the past',
  });
  readyForMs = 0;
  const blind = await read();
  expect(blind.diskIsOld).toBe(true);
  expect(blind.dlq).toBeUndefined();
  expect(blind.summary.data).toMatch(/, an unknown number on disk\./);
  expect(blind.summary.lost).toBe(
    'No known loss. What is on disk is not known yet: no dlq has reported since Redis came back.',
  );

  // One that was killed: the disk is that of its successor.
  await reports(50, 'dlq:0');
  await waitUntil(async () => ((await store.diskReportAgeMs()) ?? 0) > 0, { what: 'that report is older' });
  await reports(70);
  readyForMs = 60_000;
  const after = await read();
  expect(after.diskIsOld).toBeUndefined();
  expect(after.summary.data).toMatch(/, 70 on disk\./);
  expect(after.books).toMatchObject({ accepted: 70, on_disk: 70, difference: 0 });
  connection.disconnect();
});

it('a Redis that lacks the last report of the dlq came back with an older state, whatever was accepted since', async () => {
  const connection = connect({ url: redis.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 1_000 });
  const store = new Store(connection, { ...OPTIONS, prefix: '{older}' });
  const disk = { waiting: 0, rejected: 0, unbooked: 0, undropped: 0, outcomesSeen: 0, freshEpoch: 'one' };
  const { seen } = await store.reportDisk({ ...disk, seen: undefined });
  const { keys } = store;
  const reported = Number(await connection.hget(keys.disk, 'reported'));
  expect(await store.reportDisk({ ...disk, seen })).toMatchObject({ state: 'same' });
  expect((await store.losses()).olderAt).toBeUndefined();
  const later = { ...seen, at: seen.at + 1 };
  // A replica that was promoted has the first report alone, and more was accepted than it lacks.
  await connection.hset(keys.disk, 'reported', reported);
  await connection.hincrby(keys.books, 'accepted', 1_000);
  expect(await store.reportDisk({ ...disk, seen: later })).toMatchObject({ state: 'older' });
  expect((await store.losses()).olderAt).toBeGreaterThanOrEqual(reported);
  connection.disconnect();
});

describe('the status of a pipeline of four services', () => {
  it('is complete at the scheduler, wherever they run; without Redis it says so, and shows what is known', async () => {
    await using running = await startServices(dir.path, redis, mock, {
      breaker: { open_min: '60s', open_max: '60s' },
    });
    const get = async <T>(path: string) => (await (await fetch(running.admin + path)).json()) as T;
    const read = () => get<PipelineStatus>('/api/status');
    const load = {
      endpoint: running.otlp,
      batchSize: 50,
      classes: { critical: 1, high: 1, normal: 1 },
    } as const;
    const whole = await waitUntil(
      async () => {
        const status = await read();
        return status.services.length === 5 && status.limiter && status.dlq ? status : undefined;
      },
      { what: 'all five processes have reported' },
    );
    expect(whole.services.map(({ service }) => service).sort()).toEqual([
      'dlq',
      'exporter',
      'exporter',
      'receiver',
      'scheduler',
    ]);
    expect(new Set(whole.services.map(({ instance }) => instance)).size).toBe(5);
    expect(whole.findings).toEqual([expect.objectContaining({ level: 'ok' })]);
    expect(whole.exporter?.upstream).toBe(new URL(mock.url).host);

    const { acknowledgedItems } = await generate({ ...load, items: 3_000 });
    const quiet = await waitUntil(
      async () => {
        const status = await read();
        return status.books?.delivered === acknowledgedItems && status.receiver?.items === acknowledgedItems
          ? status
          : undefined;
      },
      { what: 'everything acknowledged was delivered' },
    );
    expect(quiet.books).toMatchObject({ accepted: acknowledgedItems, difference: 0 });

    mock.set({ outage: true });
    await generate({ ...load, items: 1_500 });
    const outage = await waitUntil(
      async () => {
        const status = await read();
        const onDisk = CLASSES.reduce((sum, c) => sum + (status.dlq?.areas[c].items ?? 0), 0);
        // The exporter and the dlq each tell every two seconds.
        const hasTold = status.exporter?.lastProblem !== undefined;
        return status.breaker?.state === 'open' && onDisk === 1_500 && hasTold ? status : undefined;
      },
      { what: 'the breaker is open and all items are on disk' },
    );
    expect(outage.findings.map(({ code }) => code)).toEqual(['breaker_open', 'on_disk']);
    expect(outage.exporter?.lastProblem?.reason).toBe('connection');
    expect(outage.dlq?.segments.map(({ area, state }) => `${area} ${state}`).sort()).toEqual([
      'critical open',
      'high open',
      'normal open',
    ]);
    expect(outage.drain).toEqual({ fromItems: 1_500, leftItems: 1_500 });
    const { at, columns } = await waitUntil(
      async () => {
        const history = await get<HistoryColumns>('/api/status/history');
        return history.columns.breaker.includes(1) ? history : undefined;
      },
      { what: 'the history contains the outage' },
    );
    expect(columns.delivered).toHaveLength(at.length);

    await redis.kill();
    const blind = await waitUntil(
      async () => {
        const status = await read();
        return status.redis.problem ? status : undefined;
      },
      { what: 'the scheduler reports that Redis is down' },
    );
    expect(blind.findings[0]).toMatchObject({ level: 'fault', code: 'redis_away' });
    expect(blind.services.map(({ service }) => service)).toEqual(['scheduler']);
    expect([blind.queue, blind.books, blind.breaker, blind.dlq]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});
