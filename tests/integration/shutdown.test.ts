/** Processes end in their time whatever Redis does meanwhile. */
import { RedisLink } from '@nrdot/redis';
import { startMockUpstream, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { startServices } from '../kit.ts';

describe('shutdown', () => {
  it('fails commands that wait on a reconnecting connection', async () => {
    using dir = temporaryDirectory();
    await using redis = await TestRedis.start({ dir: dir.path });
    const quiet = { info: () => {}, warn: () => {}, error: () => {} };
    const link = new RedisLink(
      { url: redis.url },
      {
        kind: 'consumer',
        name: 'test',
        commandTimeoutMs: 1_000,
        prefix: '{nrdot}',
        expect: { durability: 'always', maxBytes: 1 },
      },
      quiet,
    );
    await link.untilReady();
    await redis.kill();
    await waitUntil(() => link.redis.status === 'reconnecting', {
      what: 'the link waits to reconnect',
      everyMs: 1,
    });
    const waiting = link.redis.ping();
    waiting.catch(() => {}); // looked at below
    link.close();
    await expect(waiting).rejects.toThrow(/closed/i);
  });

  it.each(['away', 'frozen'])('stops every service on SIGTERM while Redis is %s', async (how) => {
    using dir = temporaryDirectory();
    await using redis = await TestRedis.start({ dir: dir.path });
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    await using running = await startServices(dir.path, redis, mock, { admin: { shutdown_timeout: '1s' } });
    if (how === 'away') await redis.kill();
    else redis.signal('SIGSTOP');
    await Promise.all(
      Object.entries(running.processes).map(async ([name, process]) =>
        expect(await process.end('SIGTERM', 20_000), name).toBe(0),
      ),
    );
    redis.signal('SIGCONT');
    await mock.close();
  });
});
