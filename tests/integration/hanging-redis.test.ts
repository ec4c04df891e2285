/** A Redis that hangs under load: what comes meanwhile goes to the dlq's disk at once, and it is said. */
import { setTimeout as wait } from 'node:timers/promises';
import { keysOf } from '@nrdot/queue';
import { freePort, startMockUpstream, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { startServices, untilQuiet } from '../kit.ts';

const CLIENTS = 8;
/** Far more than a receiver answers that waits out a time limit for each commit. */
const MEANWHILE = 400;
const span = (n: number) =>
  JSON.stringify({
    resourceSpans: [
      {
        scopeSpans: [
          {
            spans: [
              {
                traceId: '0123456789abcdef0123456789abcdef',
                spanId: n.toString(16).padStart(16, '0'),
                name: 'x',
              },
            ],
          },
        ],
      },
    ],
  });

it('after the first time-outs batches go straight to the dlq, until Redis answers', async () => {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
  const dlqPort = await freePort();
  await using running = await startServices(dir.path, redis, mock, {
    redis: { url: redis.url, command_timeout: '2s' },
    dlq: { listen: `127.0.0.1:${dlqPort}`, url: `http://127.0.0.1:${dlqPort}` },
  });
  let sent = 0;
  let acknowledged = 0;
  let refused = 0;
  const over = new AbortController();
  const clients = Array.from({ length: CLIENTS }, async () => {
    while (!over.signal.aborted) {
      const response = await fetch(`${running.otlp}/v1/traces`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: span(++sent),
      });
      await response.arrayBuffer();
      if (response.status === 200) acknowledged++;
      else refused++;
      await wait(5);
    }
  });
  await waitUntil(() => acknowledged > 50, { what: 'traffic flows' });
  redis.signal('SIGSTOP');
  const already = acknowledged;
  await waitUntil(() => acknowledged >= already + MEANWHILE, {
    what: `${MEANWHILE} requests were acknowledged while Redis hung`,
    timeoutMs: 60_000,
  });
  redis.signal('SIGCONT');
  const receiver = running.processes.receiver!;
  await receiver.line(/Redis is back/);
  over.abort();
  await Promise.all(clients);
  const lines = receiver.output(2_000).split('\n');
  expect(
    lines.filter((line) => /lost Redis: no answer within 2 s; batches go to the dlq/.test(line)),
  ).toHaveLength(1);
  expect(lines.filter((line) => /Redis is back/.test(line))).toHaveLength(1);
  expect(refused).toBe(0);
  // What the dlq took is in the accounting with its next report, when it too has noticed that Redis is back.
  const client = new Redis(redis.url);
  const reportedAt = async () => Number(await client.hget(keysOf('{nrdot}').disk, 'reported'));
  const before = await reportedAt();
  await waitUntil(async () => (await reportedAt()) > before, { what: 'the dlq reports its disk again' });
  client.disconnect();
  const { accepted } = await untilQuiet(running.admin);
  // Twice: what had been sent to Redis when it hung, one commit, and what the first answers of a new hang would be.
  expect(accepted - acknowledged).toBeGreaterThanOrEqual(0);
  expect(accepted - acknowledged).toBeLessThanOrEqual(CLIENTS);
});
