import type { RedisConnection } from './connection.ts';
import { primaryOf } from './replicas.ts';

const OLDEST_MAJOR = 7;

/** Requirements of the configuration. */
export interface Expected {
  durability: 'always' | 'everysec';
  maxBytes: number;
  /** Replicas that must have a batch before it is acknowledged; 0 or absent for none. */
  minReplicas?: number;
  /** What is odd about the keys on this server; their layout is not known here. */
  warningsOf?(redis: RedisConnection): Promise<string[]>;
}

/**
 * Checks that the server with the keys of this prefix can keep the promises: version, role, no eviction, AOF. A managed Redis
 * may forbid CONFIG; settings that cannot be read are a warning.
 * @returns problems stop a service, warnings are logged
 * @throws when Redis does not answer
 */
export async function inspectServer(
  connection: RedisConnection,
  prefix: string,
  expect: Expected,
): Promise<{ problems: string[]; warnings: string[] }> {
  const problems: string[] = [];
  const warnings: string[] = [];
  const redis = (await primaryOf(connection, prefix)) ?? connection;
  const info = `${await redis.info('server')}\n${await redis.info('replication')}`;
  const version = /^(?:redis|valkey)_version:(\S+)/m.exec(info)?.[1] ?? 'unknown';
  const role = /^role:(\S+)/m.exec(info)?.[1];
  if (role === 'slave') problems.push('this Redis is a replica, which accepts no writes; expected a primary');
  if (Number.parseInt(version, 10) < OLDEST_MAJOR)
    problems.push(`Redis ${version} is too old; expected ${OLDEST_MAJOR} or later`);
  try {
    const policy = await setting(redis, 'maxmemory-policy');
    if (policy !== 'noeviction')
      problems.push(
        `maxmemory-policy is "${policy}"; expected "noeviction", or Redis may evict queued batches`,
      );
    if ((await setting(redis, 'appendonly')) !== 'yes') {
      warnings.push('appendonly is off: Redis loses its data when it restarts; expected "appendonly yes"');
    } else {
      const fsync = await setting(redis, 'appendfsync');
      if (fsync === 'no' || (expect.durability === 'always' && fsync !== 'always'))
        warnings.push(`appendfsync is "${fsync}"; redis.durability is "${expect.durability}"`);
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
  warnings.push(...((await expect.warningsOf?.(redis)) ?? []));
  return { problems, warnings };
}

async function setting(redis: RedisConnection, name: string): Promise<string> {
  const reply = (await redis.config('GET', name)) as string[];
  return reply[1] ?? '';
}
