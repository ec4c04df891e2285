import { Cluster, type Redis } from 'ioredis';
import type { RedisConnection } from './connection.ts';

/** How many replicas must have a write before it counts as durable. */
export interface ReplicaOptions {
  least: number;
  /** Maximum wait for them, in ms. */
  waitMs: number;
}

/** Redis has applied a write, but too few replicas have it: a failover may lose it. */
export class NotReplicated extends Error {
  override readonly name = 'NotReplicated';
}

/**
 * Makes a write whose replication can be awaited. WAIT covers only writes on its own connection: on a new connection, to a
 * replica that was promoted meanwhile, it would confirm a write that this server never had.
 * @returns `onReplicas` throws NotReplicated if the write may be lost in a failover
 * @throws the error of the write
 */
export async function writingOn<T>(
  redis: RedisConnection,
  prefix: string,
  { least, waitMs }: ReplicaOptions,
  write: () => Promise<T>,
): Promise<{ result: T; onReplicas: () => Promise<void> }> {
  const primary = await primaryOf(redis, prefix);
  const connection = primary?.stream;
  const same = async () => (await primaryOf(redis, prefix)) === primary && primary?.stream === connection;
  const untilReplicated = async () => {
    if (!primary || !connection || !(await same()))
      throw new NotReplicated('the connection to Redis changed during a write');
    const have = await primary.wait(least, waitMs);
    if (!(await same()))
      throw new NotReplicated('the connection to Redis changed while waiting for replicas');
    if (have < least)
      throw new NotReplicated(
        `${have} replicas of Redis have acknowledged a write; expected ${least} within ${waitMs} ms (redis.min_replicas)`,
      );
  };
  return { result: await write(), onReplicas: untilReplicated };
}

/** The connection to the node that has the keys with this prefix now. */
export async function primaryOf(redis: RedisConnection, prefix: string): Promise<Redis | undefined> {
  if (!(redis instanceof Cluster)) return redis;
  const slot = await slotOf(redis, prefix);
  const owner = redis.slots[slot]?.[0];
  return redis.nodes('master').find(({ options: { host, port } }) => `${host}:${port}` === owner);
}

const slots = new WeakMap<Cluster, Promise<number>>();

function slotOf(redis: Cluster, prefix: string): Promise<number> {
  let slot = slots.get(redis);
  if (!slot) {
    slot = redis.cluster('KEYSLOT', prefix);
    slots.set(redis, slot);
    slot.catch(() => slots.delete(redis)); // the next write asks again
  }
  return slot;
}
