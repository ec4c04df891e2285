/** Our consumer of the export and the spill queue, against a real redis-server and beside BullMQ's worker. */
import {
  type Batch,
  InProcessHandOff,
  type JobData,
  newBatchId,
  RetryLater,
  Store,
  type TakenJob,
  type TakeOptions,
  Taker,
  WakeSignal,
} from '@nrdot/queue';
import { connect } from '@nrdot/redis';
import { TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Queue, Worker } from 'bullmq';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { OPTIONS as COMMON, MOVE } from './store-on-redis.ts';

const PREFIX = '{taker}';
const OPTIONS = { ...COMMON, prefix: PREFIX, maxBytes: 1e9, maxItems: 1e9 };

let dir: ReturnType<typeof temporaryDirectory>;
let server: TestRedis;
let store: Store;

const open = () => connect({ url: server.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
const batch = (bytes = 100): Batch => ({
  id: newBatchId(Date.now()),
  signal: 'traces',
  class: 'high',
  origin: 'live',
  encoding: 'identity',
  items: 10,
  receivedAt: Date.now(),
  payload: Buffer.alloc(bytes, 'p'),
});
const exportBatches = async (...batches: Batch[]) => {
  await store.enqueue(
    batches.map((one) => [one]),
    Date.now(),
  );
  await store.move(MOVE);
};
const taker = (on: Store, handle: (job: TakenJob) => Promise<void>, more: Partial<TakeOptions> = {}) =>
  new Taker({
    store: on,
    queue: 'export',
    concurrency: 4,
    maxBytes: 1e6,
    faultDelayMs: 20,
    onError: () => {},
    handle,
    ...more,
  });
const deliver = (on: Store) => async (job: TakenJob) => {
  await on.settle(job.data, 'export', { outcome: 'delivered' }, job.lock);
};
const untilDelivered = (items: number) =>
  waitUntil(async () => (await store.books()).delivered === items, { what: `${items} items were delivered` });
/** Nothing of a job is left: no list, no hash, no lock. */
const leftOvers = async () =>
  (await store.redis.keys(`${PREFIX}:export:*`)).filter(
    (key) => !/:(meta|marker|id|events|stalled-check)$/.test(key),
  );

beforeAll(async () => {
  dir = temporaryDirectory();
  server = await TestRedis.start({ dir: dir.path });
  store = new Store(open(), OPTIONS);
});
beforeEach(async () => {
  await store.redis.flushall();
});
afterAll(async () => {
  store.redis.disconnect();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

it('takes jobs with their payloads, retries on request, and leaves nothing behind', async () => {
  const seen: string[] = [];
  const own = new Store(open(), OPTIONS);
  const consumer = taker(own, async (job) => {
    seen.push(`${job.attempts} ${job.payloads[0]?.toString()}`);
    if (job.attempts === 0) throw new RetryLater(20, 'not now');
    if (job.attempts === 1) throw new Error('a fault');
    await deliver(own)(job);
  });
  await exportBatches(batch(3));
  await untilDelivered(10);
  expect(seen).toEqual(['0 ppp', '1 ppp', '2 ppp']);
  await consumer.close(5_000);
  expect(await leftOvers()).toEqual([]);
  expect((await store.accounting()).difference).toBe(0);
  own.redis.disconnect();
});

it('takes metrics only once replicas have them, so a failover cannot revert sent data', async () => {
  const own = new Store(open(), { ...OPTIONS, replicas: { least: 1, waitMs: 50 } });
  const seen: string[] = [];
  const consumer = taker(own, async (job) => {
    seen.push(job.data.signal);
    await deliver(own)(job);
  });
  await exportBatches({ ...batch(), signal: 'metrics' });
  await exportBatches(batch());
  await untilDelivered(10);
  await waitUntil(async () => (await store.redis.zcard(`${PREFIX}:export:delayed`)) > 0, {
    what: 'metrics wait for a replica',
  });
  expect(seen).toEqual(['traces']);
  using place = temporaryDirectory();
  await using _ = await TestRedis.start({
    dir: place.path,
    args: ['--replicaof', '127.0.0.1', String(server.port), '--repl-diskless-sync-delay', '0'],
  });
  await untilDelivered(20);
  expect(seen.filter((signal) => signal === 'metrics')).toHaveLength(1);
  await consumer.close(5_000);
  own.redis.disconnect();
});

it('stays within its byte limit, except for a single larger job', async () => {
  let inFlight = 0;
  const most: number[] = [];
  const consumer = taker(
    store,
    async (job) => {
      inFlight += job.data.bytes;
      most.push(inFlight);
      await store.depth(); // a round trip, so that jobs overlap
      inFlight -= job.data.bytes;
      await deliver(store)(job);
    },
    { maxBytes: 1_000, wakeSignal: new WakeSignal() },
  );
  await exportBatches(...[400, 400, 400, 2_000, 400, 400].map(batch));
  await untilDelivered(60);
  await consumer.close(5_000);
  expect(most.filter((bytes) => bytes > 1_000)).toEqual([2_000]);
});

it('uses every slot, although it takes fewer at once', async () => {
  let inFlight = 0;
  let most = 0;
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const own = new Store(open(), OPTIONS);
  const consumer = new Taker({
    store: own,
    queue: 'export',
    concurrency: 32,
    maxBytes: 1e6,
    faultDelayMs: 20,
    onError: () => {},
    handle: async (job) => {
      most = Math.max(most, ++inFlight);
      await ended;
      inFlight--;
      await deliver(own)(job);
    },
  });
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }); // so that nothing happens for the time alone
  try {
    await exportBatches(...Array.from({ length: 50 }, () => batch()));
    for (let i = 0; i < 1_000 && inFlight < 32; i++) await store.redis.ping();
    expect(inFlight).toBe(32);
  } finally {
    vi.useRealTimers();
    end();
  }
  await untilDelivered(500);
  expect(most).toBe(32);
  await consumer.close(5_000);
  own.redis.disconnect();
});

it('takes over the jobs of a dead consumer as soon as its lock expires, not before', async () => {
  await exportBatches(batch());
  const limits = { token: 'gone', maxJobs: 1, maxBytes: 1e6, alone: true };
  expect((await store.take('export', { ...limits, lockMs: 400, lookForLost: false })).jobs).toHaveLength(1);
  const other = { ...limits, token: 'other', lockMs: 10_000, lookForLost: true };
  expect((await store.take('export', other)).jobs).toHaveLength(0);
  const [taken] = await waitUntil(
    async () => {
      const { jobs } = await store.take('export', other);
      return jobs.length === 1 ? jobs : undefined;
    },
    { what: 'it was picked up' },
  );
  const { id } = taken!;
  const held = (token: string) => ({ queue: 'export' as const, id, token, ended: false });
  expect(await store.release(held('gone'), 'done')).toBe(false);
  await store.settle(JSON.parse(taken!.data) as JobData, 'export', { outcome: 'delivered' });
  expect(await store.release(held('other'), 'done')).toBe(true);
  expect(await leftOvers()).toEqual([]);
});

it('a job reported complete while Redis still has its payload is requeued', async () => {
  await exportBatches(batch());
  const limits = { token: 'one', lockMs: 10_000, maxJobs: 1, maxBytes: 1e6, alone: true, lookForLost: false };
  const [taken] = (await store.take('export', limits)).jobs;
  const held = () => ({ queue: 'export' as const, id: taken!.id, token: 'one', ended: false });
  expect(await store.release(held(), 'done')).toBe(false);
  const [again] = (await store.take('export', limits)).jobs;
  expect(again).toEqual(taken);
  await store.settle(JSON.parse(again!.data) as JobData, 'export', { outcome: 'delivered' });
  expect(await store.release(held(), 'done')).toBe(true);
  expect(await leftOvers()).toEqual([]);
});

it('takes nothing from a paused queue, and works alongside a worker of BullMQ', async () => {
  const queue = new Queue('export', { connection: store.redis, prefix: PREFIX });
  await queue.pause();
  const by = { us: 0, bullmq: 0 };
  const [own, worker] = [new Store(open(), OPTIONS), open()];
  const ours = taker(own, async (job) => {
    by.us++;
    await deliver(own)(job);
  });
  const theirs = new Worker<JobData>(
    'export',
    async ({ data }) => {
      by.bullmq++;
      await store.settle(data, 'export', { outcome: 'delivered' });
    },
    { connection: worker, prefix: PREFIX },
  );
  await exportBatches(batch());
  expect(
    (
      await store.take('export', {
        token: 't',
        lockMs: 1_000,
        maxJobs: 1,
        maxBytes: 1e6,
        alone: true,
        lookForLost: true,
      })
    ).jobs,
  ).toEqual([]);
  await queue.resume();
  await store.move(MOVE);
  for (let i = 0; i < 50; i++) await exportBatches(batch(), batch());
  await untilDelivered(1_010);
  expect(by.us + by.bullmq).toBe(101);
  // The step that completes a job of BullMQ's worker comes after its items were settled.
  await waitUntil(async () => (await queue.getJobCounts('active')).active === 0, {
    what: 'no job is active',
  });
  await Promise.all([ours.close(5_000), theirs.close()]);
  await queue.close();
  own.redis.disconnect();
  worker.disconnect();
});

it('takes spilled batches, no more at once than it may, whatever their signals', async () => {
  await store.report('traces', 'auth', 60_000);
  await store.report('logs', 'auth', 60_000);
  const batches = [1, 2, 3].flatMap(() => [batch(), { ...batch(), signal: 'logs' as const }]);
  expect(await store.enqueue([batches], Date.now())).toEqual([batches.map(() => 'spilled')]);
  let [now, most] = [0, 0];
  const own = new Store(open(), OPTIONS);
  const consumer = taker(
    own,
    async (job) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(resolve, 5));
      now--;
      await own.settle(job.data, 'spill', { outcome: 'stored' });
    },
    { queue: 'spill', maxJobs: 2 },
  );
  await waitUntil(async () => (await store.books()).stored === 60, { what: 'all were stored' });
  expect(most).toBe(2);
  await consumer.close(5_000);
  expect((await store.redis.keys(`${PREFIX}:spill:*`)).filter((key) => !/:(meta|marker)$/.test(key))).toEqual(
    [],
  );
  own.redis.disconnect();
});

type Put = (...batches: Batch[]) => Promise<string[]>;

/** Puts batches into the pipeline as it is, and then empties it. */
function emptied(put: Put): Put {
  return async (...batches) => {
    const got = await put(...batches);
    await store.redis.flushall();
    return got;
  };
}

/** With a window of two batches and 1,000 bytes, nothing goes past the scheduler that would have something to decide. */
async function expectObstaclesToHold(results: Put): Promise<void> {
  expect(await results(batch(), batch())).toEqual(['queued', 'queued']); // better merged
  expect(await results({ ...batch(), origin: 'replay' })).toEqual(['queued']);
  await store.report('traces', 'auth', 0);
  expect(await results(batch())).toEqual(['spilled']);
  await store.redis.hset(store.keys.breaker('traces'), 'state', 'half_open');
  expect(await results(batch())).toEqual(['queued']);
  await store.redis.hset(store.keys.queue('export', 'meta'), 'paused', '1');
  expect(await results(batch())).toEqual(['queued']);
  for (const queue of [
    'critical',
    'high',
    'normal',
    'replay-critical',
    'replay-high',
    'replay-normal',
    'export',
  ] as const) {
    await store.redis.lpush(store.keys.queue(queue, 'wait'), 'first');
    expect(await results(batch())).toEqual(['queued']);
  }
  await store.redis.zadd(store.keys.queue('export', 'delayed'), Number.MAX_SAFE_INTEGER, 'a');
  await store.redis.lpush(store.keys.queue('export', 'active'), 'b');
  expect(await results(batch())).toEqual(['queued']); // the window is full, by batches
  await store.redis.hset(store.keys.depth, 'export:normal:bytes', 1_000);
  expect(await results(batch())).toEqual(['queued']); // by bytes
}

it("waits no longer for another attempt because Redis' clock was set back", async () => {
  await exportBatches(batch());
  const limits = { token: 't', lockMs: 10_000, maxJobs: 1, maxBytes: 1e6, alone: true, lookForLost: false };
  const [job] = (await store.take('export', limits)).jobs;
  const { id, epoch } = job!;
  await store.release({ queue: 'export', id, token: 't', epoch, ended: false, mayDefer: false }, 60_000);
  expect((await store.take('export', limits)).jobs).toEqual([]);
  // BullMQ's score: Unix ms times 4096.
  await store.redis.zincrby(store.keys.queue('export', 'delayed'), 3_600_000 * 4096, id);
  expect((await store.take('export', limits)).jobs.map((taken) => taken.id)).toEqual([id]);
});

describe('bypassing the queues', () => {
  const handOff = new InProcessHandOff();
  const inProcess = { scheduler: new WakeSignal(), exporter: new WakeSignal(), handOff };
  const direct = () =>
    new Store(store.redis, { ...OPTIONS, exportWindow: { batches: 2, bytes: 1_000 } }, inProcess);
  const put = async (...batches: Batch[]) => (await direct().enqueue([batches], Date.now()))[0]!;

  it('a batch goes to the exporter in the step that stores it, with its bytes, and is accounted for', async () => {
    const seen: string[] = [];
    const consumer = taker(
      store,
      async (job) => {
        seen.push(`${job.attempts} ${job.payloads[0]?.toString()}`);
        if (job.attempts === 0) throw new RetryLater(20, 'not now');
        await deliver(store)(job);
      },
      { wakeSignal: inProcess.exporter },
    );
    handOff.owner = consumer;
    expect(await put(batch(3))).toEqual(['taken']);
    expect((await store.depth()).stages.export.high).toEqual({ batches: 1, items: 10, bytes: 3 });
    await untilDelivered(10);
    expect(seen).toEqual(['0 ppp', '1 ppp']);
    expect(await store.books()).toMatchObject({ accepted: 10, delivered: 10 });
    expect((await store.schedulerHash())['moved:high']).toBe('10');
    await consumer.close(5_000);
    expect(await leftOvers()).toEqual([]);
    expect((await store.accounting()).difference).toBe(0);
  });

  it('the settlement of a batch is sent with the next one, unless that has the last slot', async () => {
    const exporter = new Store(open(), OPTIONS, inProcess);
    await exporter.redis.ping();
    const [ends, mayDefer]: [(() => void)[], (boolean | undefined)[]] = [[], []];
    const consumer = new Taker({
      store: exporter,
      queue: 'export',
      concurrency: 2,
      maxBytes: 1e6,
      wakeSignal: inProcess.exporter,
      faultDelayMs: 20,
      onError: () => {},
      handle: async (job) => {
        mayDefer.push(job.lock.mayDefer);
        await new Promise<void>((resolve) => ends.push(resolve));
        await deliver(exporter)(job);
      },
    });
    handOff.owner = consumer;
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }); // so that it waits for the next one, however long
    try {
      expect(await put(batch(3))).toEqual(['taken']);
      // What is settled while the exporter's own connection is lost has come along on the receiver's.
      exporter.redis.disconnect();
      ends[0]!();
      await new Promise((resolve) => setImmediate(resolve));
      expect((await store.books()).delivered).toBeUndefined();
      expect(await put(batch(3))).toEqual(['taken']);
      expect((await store.books()).delivered).toBe(10);
      expect(await put(batch(3))).toEqual(['taken']);
      expect([mayDefer[0], mayDefer[2]]).toEqual([true, false]);
      await exporter.redis.connect();
      ends[2]!();
      consumer.setConcurrency(0);
    } finally {
      vi.useRealTimers();
    }
    await untilDelivered(20);
    ends[1]!();
    await untilDelivered(30);
    await consumer.close(5_000);
    expect(await leftOvers()).toEqual([]);
    exporter.redis.disconnect();
  });

  it('no batch bypasses if others wait ahead, there is no room, or the breaker is open', async () => {
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const consumer = taker(store, () => ended, { wakeSignal: inProcess.exporter });
    handOff.owner = consumer;
    const results = emptied(put);
    await expectObstaclesToHold(results);
    expect(await results(batch(2_000_000))).toEqual(['queued']); // more than the exporter may hold
    expect(await results(batch())).toEqual(['taken']); // all of that was why
    consumer.setConcurrency(0);
    expect(await results(batch())).toEqual(['queued']);
    end();
    await consumer.close(5_000);
    expect(await results(batch())).toEqual(['queued']);
  });

  it('a batch whose exporter died is taken over when its lock expires', async () => {
    handOff.owner = {
      reserveSlot: () => ({ token: 'gone', lockMs: 300, start: () => {}, release: () => {} }),
    };
    expect(await put(batch(3))).toEqual(['taken']);
    const consumer = taker(store, deliver(store), { wakeSignal: inProcess.exporter });
    await untilDelivered(10);
    await consumer.close(5_000);
    expect((await store.accounting()).difference).toBe(0);
  });
});

describe('bypassing the scheduler, to exporters in other processes', () => {
  const WINDOW = { exportWindow: { batches: 2, bytes: 1_000 } };
  const put: Put = async (...batches) =>
    (await new Store(store.redis, { ...OPTIONS, ...WINDOW }).enqueue([batches], Date.now()))[0]!;

  it('a batch goes to their queue in the step that stores it, wakes only them, and is accounted for', async () => {
    const consumer = taker(store, deliver(store));
    await store.redis.del(store.keys.wake);
    expect(await put(batch(3))).toEqual(['moved']);
    expect(await store.redis.exists(store.keys.wake)).toBe(0);
    await untilDelivered(10);
    expect(await store.books()).toMatchObject({ accepted: 10, delivered: 10 });
    expect(await store.schedulerHash()).toEqual({ 'moved:high': '10' }); // and no decision
    await consumer.close(5_000);
    expect(await leftOvers()).toEqual([]);
    expect((await store.accounting()).difference).toBe(0);
  });

  it('a batch waits there like a moved one, for our consumers and for BullMQ', async () => {
    expect(await put(batch(3))).toEqual(['moved']);
    expect((await store.depth()).stages.export.high).toEqual({ batches: 1, items: 10, bytes: 3 });
    const direct = await exportJob();
    await store.redis.flushall();
    await exportBatches(batch(3));
    expect(direct).toEqual(await exportJob());
  });

  it('no batch bypasses if others wait ahead, there is no room, or the breaker is open', async () => {
    const results = emptied(put);
    await expectObstaclesToHold(results);
    expect(await results(batch())).toEqual(['moved']); // all of that was why
    const confirmed = new Store(store.redis, { ...OPTIONS, ...WINDOW, replicas: { least: 1, waitMs: 10 } });
    await expect(confirmed.enqueue([[batch()]], Date.now())).rejects.toThrow(); // no replica has it
    expect(await store.redis.llen(store.keys.queue('export', 'wait'))).toBe(0);
    await store.redis.flushall();
    expect(await put(batch())).toEqual(['moved']);
    expect(await put(batch())).toEqual(['queued']); // behind that
  });

  it('a settlement is sent with the next take, unless batches wait for its room or the window is small', async () => {
    const deferrable: (boolean | undefined)[] = [];
    const large = { exportWindow: { batches: 64, bytes: 1_000 } };
    const handled = async (window: typeof large, ...batches: Batch[]) => {
      const own = new Store(open(), { ...OPTIONS, ...window });
      for (const each of batches) await own.enqueue([[each]], Date.now());
      const before = deferrable.length;
      const consumer = taker(own, async (job) => {
        deferrable.push(job.lock.mayDefer);
        await deliver(own)(job);
      });
      await waitUntil(() => deferrable.length > before, { what: 'a job was handled' });
      return { consumer, own };
    };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }); // no deferral ends by time
    try {
      const { consumer, own } = await handled(large, batch(3));
      await untilDelivered(10);
      vi.useRealTimers();
      await consumer.close(5_000);
      own.redis.disconnect();
    } finally {
      vi.useRealTimers();
    }
    expect(deferrable).toEqual([true]);
    expect(await leftOvers()).toEqual([]);
    for (const [window, ...batches] of [
      [WINDOW, batch(3)],
      [large, batch(3), batch(3)], // the second waits in its class queue, as nothing moves it
    ] as const) {
      await store.redis.flushall();
      const { consumer, own } = await handled(window, ...batches);
      await consumer.close(5_000);
      own.redis.disconnect();
    }
    expect(deferrable).toEqual([true, false, false]);
  });

  /** The one in the export queue, but for what is each one's own. */
  async function exportJob(): Promise<unknown> {
    const [id] = await store.redis.lrange(store.keys.queue('export', 'wait'), 0, -1);
    const { timestamp: _, data, ...job } = await store.redis.hgetall(store.keys.queue('export', id!));
    const { batches, ...rest } = JSON.parse(data!) as JobData;
    return { ...job, ...rest, batches: batches.map(({ key: __, receivedAt: ___, ...each }) => each) };
  }
});
