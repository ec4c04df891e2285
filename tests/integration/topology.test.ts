/** The same steps on a Redis Cluster and behind Sentinel: all keys share a slot, and a failed-over primary is found. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LimiterState } from '@nrdot/key-budget';
import { type Batch, Doctor, jobDataOf, newBatchId, Store, Taker } from '@nrdot/queue';
import { connect, NotReplicated, type RedisTarget } from '@nrdot/redis';
import { freePort, Process, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { ClusterRedis, SentinelRedis } from '../faults/topology.ts';
import { OPTIONS as COMMON, MOVE } from './store-on-redis.ts';

const OPTIONS = { ...COMMON, prefix: '{nrdot}', maxBytes: 1e9, maxItems: 1e9 };
const LIMITS = { token: 'test', lockMs: 1_000, maxJobs: 1, maxBytes: 1e6, alone: true, lookForLost: false };
const batch = (): Batch => ({
  id: newBatchId(Date.now()),
  signal: 'traces',
  class: 'high',
  origin: 'live',
  encoding: 'identity',
  items: 10,
  receivedAt: Date.now(),
  payload: Buffer.from('payload'),
});

/** Sends batches all the way through the queues. @returns items delivered */
async function through(target: RedisTarget, batches: number): Promise<number> {
  const redis = connect(target, { kind: 'consumer', name: 'store', commandTimeoutMs: 5_000 });
  const store = new Store(redis, OPTIONS);
  await waitUntil(async () => (await redis.ping()) === 'PONG', { what: 'Redis answered' });
  const consumer = new Taker({
    store,
    queue: 'export',
    concurrency: 4,
    maxBytes: 1e6,
    faultDelayMs: 20,
    handle: async ({ data, payloads }) => {
      expect(payloads.every((payload) => String(payload) === 'payload')).toBe(true);
      await store.settle(data, 'export', { outcome: 'delivered' });
    },
    onError: () => {},
  });
  const before = (await store.books()).delivered ?? 0;
  await store.enqueue(
    Array.from({ length: batches }, () => [batch()]),
    Date.now(),
  );
  await store.move({ ...MOVE, mergeBytes: 1_000 });
  await waitUntil(async () => (await store.accounting()).queued === 0, { what: 'all items were delivered' });
  const { delivered, difference } = await store.accounting();
  expect(difference).toBe(0);
  await consumer.close(5_000);
  redis.disconnect();
  return delivered - before;
}

describe('the queues', () => {
  it('work on a Redis Cluster', async () => {
    using dir = temporaryDirectory();
    await using server = await TestRedis.start({
      dir: dir.path,
      args: ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'],
    });
    const node = connect({ url: server.url }, { kind: 'consumer', name: 'setup', commandTimeoutMs: 5_000 });
    await node.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await waitUntil(async () => String(await node.call('CLUSTER', 'INFO')).includes('cluster_state:ok'), {
      what: 'the cluster is up',
    });
    node.disconnect();
    expect(await through({ cluster: [{ host: '127.0.0.1', port: server.port }] }, 20)).toBe(200);
  });

  it('stay atomic while the slot of a Cluster is migrated', async () => {
    using dir = temporaryDirectory();
    await using cluster = await ClusterRedis.start(dir.path, OPTIONS.prefix);
    const target = { cluster: [{ host: '127.0.0.1', port: cluster.primary.port }] };
    const redis = connect(target, { kind: 'consumer', name: 'store', commandTimeoutMs: 5_000 });
    const store = new Store(redis, OPTIONS);
    const two = [batch(), batch()];
    await store.enqueue([two], Date.now());
    const job = { ...jobDataOf(two[0]!), batches: two.flatMap((one) => jobDataOf(one).batches) };
    // All that the script names is there and stays; what it comes upon in the middle has left.
    await redis.rpush(store.keys.outcomes, 'done by-somebody');
    await cluster.beginMove();
    await cluster.moveKeys([store.keys.payload(two[1]!.id)]);
    await expect(store.settle(job, 'queued', { outcome: 'delivered' })).rejects.toThrow();
    await cluster.endMove();
    expect(await store.settle(job, 'queued', { outcome: 'delivered' })).toBe(20);
    expect(await store.accounting()).toMatchObject({ accepted: 20, delivered: 20, difference: 0 });
    redis.disconnect();
  });

  it('of the limiter write nothing on the node to which their slot is being migrated', async () => {
    using dir = temporaryDirectory();
    await using cluster = await ClusterRedis.start(dir.path, OPTIONS.prefix);
    const target = { cluster: [{ host: '127.0.0.1', port: cluster.primary.port }] };
    const redis = connect(target, { kind: 'consumer', name: 'store', commandTimeoutMs: 5_000 });
    const state = new LimiterState(redis, { prefix: OPTIONS.prefix, holder: 'h', leaseMs: 60_000 });
    const begin = {
      ...{ epoch: 'e', seed: 1, watchMs: 1, generation: 1, generationsKept: 1 },
      ...{ sourcesSinceSec: 0, log: 0, maxKeys: 10 },
    };
    await state.lease('token', false, begin);
    await cluster.beginMove();
    await cluster.moveKeys([`${OPTIONS.prefix}:limiter`]);
    await expect(state.lease('another', false, begin)).rejects.toThrow();
    await cluster.endMove();
    expect(await state.lease('token', true, begin)).toMatchObject({ slot: 0, isNew: false });
    redis.disconnect();
  });

  it('wait for replicas if configured, and report when there are too few', async () => {
    using dir = temporaryDirectory();
    await using redis = await SentinelRedis.start(dir.path, { refuseWithoutReplica: false });
    const connection = connect(redis.target, { kind: 'producer', name: 'store', commandTimeoutMs: 20_000 });
    const storeThatWaits = (waitMs: number) =>
      new Store(connection, { ...OPTIONS, replicas: { least: 1, waitMs } });
    await waitUntil(async () => (await connection.ping()) === 'PONG', { what: 'Redis answered' });
    expect(await storeThatWaits(10_000).enqueue([[batch()]], Date.now())).toEqual([['queued']]);
    await (await storeThatWaits(10_000).take('spill', LIMITS)).onReplicas!();
    const store = storeThatWaits(200);
    await using away = await redis.withoutReplica();
    void away;
    await expect(store.enqueue([[batch()]], Date.now())).rejects.toThrow(NotReplicated);
    await expect(store.book({ id: 'x', counts: { accepted: 1 } })).rejects.toThrow(NotReplicated);
    const taken = await store.take('spill', LIMITS);
    await expect(taken.onReplicas!()).rejects.toThrow(NotReplicated);
    // What is replayed is on the disk still.
    expect(await store.enqueue([[{ ...batch(), origin: 'replay' }]], Date.now())).toEqual([['queued']]);
    connection.disconnect();
  });

  it.each(['Cluster', 'Sentinel'] as const)('are examined and repaired on a %s', async (form) => {
    using dir = temporaryDirectory();
    const cluster = form === 'Cluster' ? await ClusterRedis.start(dir.path, OPTIONS.prefix) : undefined;
    const sentinel = form === 'Sentinel' ? await SentinelRedis.start(dir.path) : undefined;
    const target = cluster
      ? { cluster: [{ host: '127.0.0.1', port: cluster.primary.port }] }
      : (sentinel as SentinelRedis).target;
    const redis = connect(target, { kind: 'consumer', name: 'store', commandTimeoutMs: 5_000 });
    try {
      const store = new Store(redis, OPTIONS);
      const { keys } = store;
      const doctor = () => new Doctor(store, { maxBodyBytes: 1e6, recheckMs: 20, accountingSettleMs: 50 });
      const [first, second, third] = [batch(), batch(), batch()];
      await store.enqueue([[first], [second], [third]], Date.now());
      expect(await doctor().run(false)).toMatchObject({ damage: [], jobs: 3, payloads: 3, difference: 0 });
      await redis.lrem(keys.queue('high', 'wait'), 1, first.id);
      await redis.del(keys.payload(second.id));
      await redis.hincrby(keys.depth, 'queued:high:items', 5);
      const found = await doctor().run(true);
      expect(found.damage.map(({ kind, mended }) => [kind, mended])).toEqual([
        ['job_without_payload', 1],
        ['stray_job', 1],
        ['depth', 1],
        ['books', 1],
      ]);
      expect(await doctor().run(false)).toMatchObject({ damage: [], jobs: 2, difference: 0 });
      expect(await store.waiting('high', 5)).toEqual([first.id, third.id]);
      if (!cluster) return;
      // While the slot is moved nothing is changed.
      await cluster.beginMove();
      await expect(doctor().run(true)).rejects.toThrow();
      await cluster.endMove();
      expect((await doctor().run(false)).damage).toEqual([]);
    } finally {
      redis.disconnect();
      await cluster?.[Symbol.asyncDispose]();
      await sentinel?.[Symbol.asyncDispose]();
    }
  });

  it('work behind Sentinel, before and after a failover', async () => {
    using dir = temporaryDirectory();
    using other = temporaryDirectory();
    await using primary = await TestRedis.start({ dir: dir.path });
    await using replica = await TestRedis.start({
      dir: other.path,
      args: ['--replicaof', '127.0.0.1', String(primary.port), '--repl-diskless-sync-delay', '0'],
    });
    const port = await freePort();
    const file = join(dir.path, 'sentinel.conf');
    writeFileSync(
      file,
      [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${dir.path}`,
        `sentinel monitor mymaster 127.0.0.1 ${primary.port} 1`,
        'sentinel down-after-milliseconds mymaster 500',
        'sentinel failover-timeout mymaster 2000',
      ].join('\n'),
    );
    await using sentinel = new Process('redis-sentinel', 'redis-server', [file, '--sentinel']);
    await sentinel.line(/\+slave/);
    const node = connect({ url: replica.url }, { kind: 'consumer', name: 'setup', commandTimeoutMs: 5_000 });
    await waitUntil(async () => (await node.info('replication')).includes('master_link_status:up'), {
      what: 'the replica follows',
    });
    const target = { sentinels: [{ host: '127.0.0.1', port }], sentinelName: 'mymaster' };
    expect(await through(target, 20)).toBe(200);
    await primary.kill();
    await waitUntil(async () => (await node.info('replication')).includes('role:master'), {
      what: 'the replica was promoted',
    });
    node.disconnect();
    expect(await through(target, 20)).toBe(200);
  });
});
