import type { RedisConnection } from './connection.ts';
import { keysOf, QUEUES } from './keys.ts';
import { primaryOf } from './replicas.ts';

const OLDEST_MAJOR = 7;
/**
 * The BullMQ version whose key layout the scripts share; `tests/integration/bullmq-contract.test.ts` checks both against it.
 */
export const BULLMQ_MAJOR = 6;

/** Result of inspecting the server: problems stop a service, warnings are logged. */
export interface ServerReport {
  version: string;
  problems: string[];
  warnings: string[];
}

/** Requirements of the configuration. */
export interface Expected {
  durability: 'always' | 'everysec';
  maxBytes: number;
  /** Replicas that must have a batch before it is acknowledged; 0 or absent for none. */
  minReplicas?: number;
}

/**
 * Checks that the server with the keys of this prefix can keep the promises: version, role, no eviction, AOF. A managed Redis
 * may forbid CONFIG; settings that cannot be read are a warning.
 * @throws when Redis does not answer
 */
export async function inspectServer(
  connection: RedisConnection,
  prefix: string,
  expect: Expected,
): Promise<ServerReport> {
  const problems: string[] = [];
  const warnings: string[] = [];
  const redis = (await primaryOf(connection, prefix)) ?? connection;
  const info = `${await redis.info('server')}\n${await redis.info('replication')}`;
  const version = /^(?:redis|valkey)_version:(\S+)/m.exec(info)?.[1] ?? 'unknown';
  const role = /^role:(\S+)/m.exec(info)?.[1];
  if (role === 'slave') problems.push('this Redis is a replica, which takes no writes; expected a primary');
  if (Number.parseInt(version, 10) < OLDEST_MAJOR) {
    problems.push(`Redis ${version} is too old; expected ${OLDEST_MAJOR} or later`);
  }
  try {
    const policy = await setting(redis, 'maxmemory-policy');
    if (policy !== 'noeviction') {
      problems.push(
        `maxmemory-policy is "${policy}"; expected "noeviction", or Redis may throw queued batches away`,
      );
    }
    if ((await setting(redis, 'appendonly')) !== 'yes') {
      warnings.push(
        'appendonly is off: what Redis holds is lost when it restarts; expected "appendonly yes"',
      );
    } else {
      const fsync = await setting(redis, 'appendfsync');
      if (fsync === 'no' || (expect.durability === 'always' && fsync !== 'always')) {
        warnings.push(`appendfsync is "${fsync}"; redis.durability is "${expect.durability}"`);
      }
    }
    const wanted = expect.minReplicas ?? 0;
    if (wanted > 0 && Number(await setting(redis, 'min-replicas-to-write')) < wanted) {
      warnings.push(
        `min-replicas-to-write is below redis.min_replicas (${wanted}): without replicas each batch is in Redis and on the dlq's disk, and delivered twice`,
      );
    }
    const maxmemory = Number(await setting(redis, 'maxmemory'));
    if (maxmemory > 0 && expect.maxBytes > maxmemory * 0.75) {
      warnings.push(
        `queue.max_bytes (${expect.maxBytes}) is over 75 % of Redis' maxmemory (${maxmemory}): Redis may run out of memory first`,
      );
    }
  } catch (error) {
    warnings.push(
      `CONFIG GET was refused, so eviction and AOF could not be checked (${(error as Error).message})`,
    );
  }
  warnings.push(...(await otherLayouts(redis, prefix)));
  return { version, problems, warnings };
}

/**
 * BullMQ records in each queue which of its versions opened it last; one with another layout may write what the scripts cannot
 * read.
 */
async function otherLayouts(redis: RedisConnection, prefix: string): Promise<string[]> {
  const { queue } = keysOf(prefix);
  const pipeline = redis.pipeline();
  for (const name of QUEUES) pipeline.hget(queue(name, 'meta'), 'version');
  const versions = (await pipeline.exec()) ?? [];
  return QUEUES.flatMap((name, i) => {
    const by = versions[i]?.[1];
    if (typeof by !== 'string' || by.startsWith(`bullmq:${BULLMQ_MAJOR}.`)) return [];
    return [
      `the queue ${name} was last opened by ${by.slice(0, 40)}; expected BullMQ ${BULLMQ_MAJOR}, whose layout of keys the pipeline shares: what another version writes may never be read`,
    ];
  });
}

async function setting(redis: RedisConnection, name: string): Promise<string> {
  const reply = (await redis.config('GET', name)) as string[];
  return reply[1] ?? '';
}
