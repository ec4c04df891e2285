/** The Redis that `nrdot up` starts keeps what it is told to keep, as durably as it is told. */
import { join } from 'node:path';
import { inspectServer } from '@nrdot/redis';
import { createLogger } from '@nrdot/telemetry';
import { temporaryDirectory } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { PrivateRedis } from '../../cli/src/private-redis.ts';

const MAXMEMORY = 64 * 1024 * 1024;

it.each([
  ['always', []],
  ['everysec', ['appendfsync is "everysec"; redis.durability is "always"']],
] as const)('durability %s', async (durability, warningsForAlways) => {
  using dir = temporaryDirectory();
  const own = new PrivateRedis(
    join(dir.path, 'redis'),
    { durability, private: { redisServer: 'redis-server', maxmemoryBytes: MAXMEMORY } },
    createLogger({ level: 'silent', format: 'json' }),
  );
  await own.start();
  const redis = new Redis({ path: own.socket });
  try {
    const setting = async (name: string) => ((await redis.config('GET', name)) as string[])[1];
    expect({
      appendonly: await setting('appendonly'),
      appendfsync: await setting('appendfsync'),
      policy: await setting('maxmemory-policy'),
      maxmemory: await setting('maxmemory'),
      port: await setting('port'),
      save: await setting('save'),
    }).toEqual({
      appendonly: 'yes',
      appendfsync: durability,
      policy: 'noeviction',
      maxmemory: String(MAXMEMORY),
      port: '0',
      save: '',
    });
    const found = await inspectServer(redis, '{nrdot}', { durability: 'always', maxBytes: 1_000 });
    expect(found.problems).toEqual([]);
    expect(found.warnings).toEqual(warningsForAlways);
    expect(
      (await inspectServer(redis, '{nrdot}', { durability: 'everysec', maxBytes: 1_000 })).warnings,
    ).toEqual([]);
    // One that may throw batches away, or forgets them, is not taken as it is.
    await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await redis.config('SET', 'appendonly', 'no');
    const unfit = await inspectServer(redis, '{nrdot}', { durability, maxBytes: MAXMEMORY });
    expect(unfit.problems.join()).toMatch(/"allkeys-lru"; expected "noeviction"/);
    expect(unfit.warnings.join()).toMatch(/appendonly is off.*over 75 % of Redis' maxmemory/);
  } finally {
    redis.disconnect();
    await own.stop();
  }
});
