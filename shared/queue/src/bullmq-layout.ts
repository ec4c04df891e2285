import type { RedisConnection } from '@nrdot/redis';
import { keysOf, QUEUES } from './keys.ts';

/**
 * The BullMQ version whose key layout the scripts share; `tests/integration/bullmq-contract.test.ts` checks both against it.
 */
export const BULLMQ_MAJOR = 6;

/**
 * BullMQ records in each queue which of its versions opened it last; one with another layout may write what the scripts cannot
 * read.
 */
export async function otherLayouts(redis: RedisConnection, prefix: string): Promise<string[]> {
  const { queue } = keysOf(prefix);
  const reads = QUEUES.map((name) => ['hget', queue(name, 'meta'), 'version']);
  const versions = (await redis.pipeline(reads).exec()) ?? [];
  return QUEUES.flatMap((name, i) => {
    const by = versions[i]?.[1];
    if (typeof by !== 'string' || by.startsWith(`bullmq:${BULLMQ_MAJOR}.`)) return [];
    return [
      `the queue ${name} was last opened by ${by.slice(0, 40)}; expected BullMQ ${BULLMQ_MAJOR}, whose key layout the pipeline shares: data that another version writes may never be read`,
    ];
  });
}
