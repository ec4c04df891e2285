/** On a real redis-server: how long a payload lives, with a job that holds it and without. */
import { type Batch, InProcessHandOff, type JobData, Store, WakeSignal } from '@nrdot/queue';
import { connect } from '@nrdot/redis';
import { waitUntil } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { batch, enqueue, exported, MOVE, OPTIONS, redis, server, store, useStore } from './store-on-redis.ts';

const UNCLAIMED_S = 600;

useStore();

/** A store for whom Redis stops in the middle of a step, as a kill would: some of its commands are denied. */
async function cut(...denied: string[]): Promise<Store> {
  await redis.call('ACL', 'SETUSER', 'cut', 'reset', 'on', 'nopass', '~*', '&*', '+@all', ...denied);
  const connection = connect(
    { url: server.url, username: 'cut', password: 'any' },
    { kind: 'producer', name: 'cut', commandTimeoutMs: 5_000 },
  );
  await waitUntil(() => connection.status === 'ready', { what: 'it is connected' });
  return new Store(connection, OPTIONS);
}

const payloadKeys = () => redis.keys(store.keys.payload('*'));
/** Lets ten minutes pass for every payload: whatever has a time to live is gone. @returns keys that are left */
async function tenMinutesLater(): Promise<string[]> {
  for (const key of await payloadKeys()) await redis.call('PEXPIRE', key, '0', 'XX');
  return payloadKeys();
}

it('a payload without a job expires after 600 s, leaving nothing', async () => {
  const cutOff = await cut('-evalsha', '-eval');
  try {
    const b = batch('high');
    await expect(cutOff.enqueue([[b]], Date.now())).rejects.toThrow(/NOPERM/);
    expect(await redis.getBuffer(store.keys.payload(b.id))).toEqual(b.payload);
    const unclaimed = async (key: string) => {
      const seconds = await redis.ttl(store.keys.payload(key));
      expect(seconds).toBeGreaterThan(UNCLAIMED_S - 60);
      expect(seconds).toBeLessThanOrEqual(UNCLAIMED_S);
    };
    await unclaimed(b.id);

    // A hand-over in pieces that does not come to its end.
    await enqueue(batch('normal'));
    await store.move(MOVE);
    const [job] = await exported();
    const [ref] = job.batches;
    const piece = { ...job, batches: [{ ...ref, key: `${ref.key}-a` }] };
    const order = [
      { queue: 'export' as const, data: piece, payloads: [{ key: `${ref.key}-a`, bytes: Buffer.from('a') }] },
    ];
    await expect(cutOff.handOver(job, order, 'next', Date.now())).rejects.toThrow(/NOPERM/);
    await unclaimed(`${ref.key}-a`);

    expect(await tenMinutesLater()).toEqual([store.keys.payload(ref.key)]);
    expect((await store.depth()).total.batches).toBe(1);
    expect((await store.books()).accepted).toBe(10);
    // The client got no 200 and comes again.
    expect(await enqueue(b)).toEqual(['queued']);
    expect((await store.accounting()).difference).toBe(0);
  } finally {
    cutOff.redis.disconnect();
  }
});

it('a job whose payload expired before it was added is not created', async () => {
  const cutOff = await cut('-set');
  try {
    await expect(cutOff.enqueue([[batch('high')]], Date.now())).rejects.toThrow(/NOPERM/);
    expect(await store.waiting('high', 10)).toEqual([]);
    expect(await store.books()).toEqual({});
    expect((await store.depth()).total.batches).toBe(0);
  } finally {
    cutOff.redis.disconnect();
  }
});

it('a payload owned by a job lives until it is settled, however long that takes, even if Redis is killed', async () => {
  const bytes = new Map<string, Buffer>();
  const held = async (what: string, keys: string[]) => {
    expect((await tenMinutesLater()).sort(), what).toEqual(keys.map(store.keys.payload).sort());
    for (const key of keys) {
      const origin = [...bytes.keys()].find((id) => key.startsWith(id))!;
      expect(await redis.getBuffer(store.keys.payload(key)), what).toEqual(bytes.get(origin));
    }
  };
  const put = async (one: Batch) => {
    bytes.set(one.id, one.payload as Buffer);
    expect(await enqueue(one)).toEqual(['queued']);
    return one.id;
  };
  const live = await put(batch('high', 10, { payload: Buffer.from('live') }));
  const replayed = await put(batch('high', 10, { payload: Buffer.from('replayed'), origin: 'replay' }));
  await held('in the queues of their classes', [live, replayed]);

  expect((await store.move(MOVE)).jobs).toBe(2);
  const waiting = await put(batch('normal', 10, { payload: Buffer.from('it waits') }));
  await held('in the export queue', [live, replayed, waiting]);

  const limits = {
    token: 'one',
    lockMs: 60_000,
    maxJobs: 10,
    maxBytes: 1e6,
    alone: true,
    lookForLost: false,
  };
  const { jobs } = await store.take('export', limits);
  expect(jobs).toHaveLength(2);
  await held('with an exporter', [live, replayed, waiting]);

  for (const { id } of jobs) await store.release({ queue: 'export', id, token: 'one', ended: false }, 1);
  await held('until the next try', [live, replayed, waiting]);

  const again: JobData[] = [];
  await waitUntil(
    async () => {
      const taken = (await store.take('export', limits)).jobs;
      again.push(...taken.map(({ data }) => JSON.parse(data) as JobData));
      return again.length === 2;
    },
    { what: 'it is time for the next try of both' },
  );
  const job = again.find(({ origin }) => origin === 'live')!;
  const [ref] = job.batches;
  const spilled = { ...job, batches: [{ ...ref!, key: `${live}-s` }], reason: 'retries_exhausted' };
  const order = [{ queue: 'spill' as const, data: spilled, payloads: [{ key: `${live}-s`, old: live }] }];
  expect(await store.handOver(job, order, 'last', Date.now())).toBe(1);
  await held('handed over to the spill queue', [`${live}-s`, replayed, waiting]);

  await store.report('traces', 'auth', 0);
  expect(await store.drain(10, Date.now())).toBe(1);
  await held('drained while the breaker is open', [`${live}-s`, replayed, waiting]);

  await server.kill();
  await server.start();
  await waitUntil(async () => (await redis.ping()) === 'PONG', { what: 'Redis answers again' });
  await held('after a kill of Redis', [`${live}-s`, replayed, waiting]);

  expect(await store.settle(spilled, 'spill', { outcome: 'stored' })).toBe(10);
  await held('settled', [replayed, waiting]);
});

it('a payload that bypasses the queues is owned from the same step', async () => {
  const handOff = new InProcessHandOff();
  handOff.owner = {
    reserveSlot: () => ({ token: 'one', lockMs: 60_000, start: () => {}, release: () => {} }),
  };
  const options = { ...OPTIONS, exportWindow: { batches: 2, bytes: 1_000 } };
  const direct = new Store(redis, options, {
    scheduler: new WakeSignal(),
    exporter: new WakeSignal(),
    handOff,
  });
  const b = batch('high');
  expect(await direct.enqueue([[b]], Date.now())).toEqual([['taken']]);
  expect(await tenMinutesLater()).toEqual([store.keys.payload(b.id)]);
});
