import type { RedisConnection } from '@nrdot/redis';
import { Queue } from 'bullmq';
import { QUEUES } from './keys.ts';

/** The pipeline's queues as BullMQ objects, read-only: opening them writes nothing. */
export function openQueues(connection: RedisConnection, prefix: string): Queue[] {
  return QUEUES.map((name) => {
    const queue = new Queue(name, { connection, prefix, skipMetasUpdate: true, skipVersionCheck: true });
    queue.on('error', () => {}); // the connection says so itself
    return queue;
  });
}
