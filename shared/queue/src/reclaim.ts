import type { Store } from './store.ts';

/**
 * Takes back what consumers of an earlier run held when they were killed, without waiting for their locks to expire.
 * Only for an owner of the whole pipeline, before it starts consumers.
 * @returns jobs taken back
 */
export async function reclaim({ keys, redis }: Pick<Store, 'keys' | 'redis'>): Promise<number> {
  let taken = 0;
  for (const queue of ['export', 'spill'] as const) {
    const active = keys.queue(queue, 'active');
    for (const id of await redis.lrange(active, 0, -1)) {
      await redis
        .multi()
        .lrem(active, 1, id)
        .del(`${keys.queue(queue, id)}:lock`)
        .rpush(keys.queue(queue, 'wait'), id)
        .zadd(keys.queue(queue, 'marker'), 0, '0')
        .exec();
      taken++;
    }
  }
  return taken;
}
