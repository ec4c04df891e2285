import type { Store } from './store.ts';

/**
 * Requeues the jobs of an earlier run that was killed, without waiting for their locks to expire. Only for a process that owns
 * the whole pipeline, before it starts consumers.
 * @returns the number of jobs
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
