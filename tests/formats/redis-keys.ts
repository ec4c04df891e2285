/** Keys of a Redis as JSON that a person can read, and back. */
import type { RedisConnection } from '@nrdot/redis';

export interface DumpedKey {
  key: string;
  type: string;
  /** As the commands SET (base64), HSET, RPUSH, ZADD, SADD or XADD want it. */
  value: string[];
}

const ADD: Record<string, string> = { string: 'SET', hash: 'HSET', list: 'RPUSH', zset: 'ZADD', set: 'SADD' };

/** @throws Error for a type of key that this does not know */
export async function dump(redis: RedisConnection, prefix: string): Promise<DumpedKey[]> {
  const keys = ((await redis.call('KEYS', `${prefix}:*`)) as string[]).sort();
  return Promise.all(
    keys.map(async (key) => {
      const type = (await redis.call('TYPE', key)) as string;
      const read: Record<string, () => Promise<string[]>> = {
        string: async () => [(await redis.getBuffer(key))!.toString('base64')],
        hash: async () => Object.entries(await redis.hgetall(key)).flat(),
        list: () => redis.lrange(key, 0, -1),
        zset: async () => {
          const pairs = await redis.zrange(key, '0', '-1', 'WITHSCORES');
          return pairs.map((_, i) => String(pairs[i ^ 1])); // ZADD wants the score first
        },
        set: () => redis.smembers(key),
        stream: async () => {
          const entries = await redis.xrange(key, '-', '+');
          return entries.flatMap(([id, fields]) => [id, String(fields.length), ...fields]);
        },
      };
      if (!read[type])
        throw new Error(`${key} is a ${type}; expected one of ${Object.keys(read).join(', ')}`);
      return { key, type, value: await read[type]() };
    }),
  );
}

export async function load(redis: RedisConnection, keys: readonly DumpedKey[]): Promise<void> {
  for (const { key, type, value } of keys) {
    if (type === 'string') await redis.set(key, Buffer.from(value[0]!, 'base64'));
    else if (type === 'stream') {
      for (let i = 0; i < value.length; ) {
        const fields = Number(value[i + 1]);
        await redis.call('XADD', key, value[i]!, ...value.slice(i + 2, i + 2 + fields));
        i += 2 + fields;
      }
    } else await redis.call(ADD[type]!, key, ...value);
  }
}
