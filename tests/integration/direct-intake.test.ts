/** The dlq as a process, taking batches over HTTP from receivers that can't use Redis. */
import { join } from 'node:path';
import { freePort, startNrdot, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { writeConfig } from '../kit.ts';

it('counts a batch once, however often it is retried without an answer, and whoever is killed meanwhile', async () => {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const port = await freePort();
  const file = writeConfig(dir.path, {
    redis: { url: redis.url },
    dlq: { listen: `127.0.0.1:${port}`, dir: join(dir.path, 'dlq') },
  });
  const start = async () => {
    const dlq = startNrdot(['dlq', '--config', file], {}, dir.path);
    await dlq.line(/ready to store spilled batches/);
    return dlq;
  };
  const send = async (id: string, items: number) => {
    const headers = {
      'x-nrdot-signal': 'traces',
      'x-nrdot-class': 'high',
      'x-nrdot-items': String(items),
      'x-nrdot-encoding': 'identity',
      'x-nrdot-received-at': String(Date.now()),
    };
    const answer = await fetch(`http://127.0.0.1:${port}/v1/batches/${id}`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/octet-stream' },
      body: Buffer.from('payload'),
    });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ stored: id });
  };
  await redis.kill();
  const first = await start();
  await send('d1', 3);
  await send('d1', 3);
  // The second before the first is written, too.
  await Promise.all([send('d2', 4), send('d2', 4), send('d2', 4), send('d3', 5)]);
  await first.end('SIGKILL');
  const again = await start();
  await send('d1', 3);
  await redis.start();
  const client = new Redis(redis.url);
  try {
    const booked = async () => Number((await client.hget('{nrdot}:books', 'accepted')) ?? 0);
    await waitUntil(async () => (await booked()) > 0, { what: 'Redis has the report' });
    expect(await booked()).toBe(12);
    // As if the answer to the booking had got lost: the same entry again.
    await again.end('SIGTERM');
    expect(await client.llen('{nrdot}:booked')).toBe(1);
    expect(await client.hgetall('{nrdot}:disk')).toMatchObject({ waiting: '12', unbooked: '0' });
  } finally {
    client.disconnect();
  }
});
