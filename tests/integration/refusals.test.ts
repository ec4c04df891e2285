/** A receiver whose Redis does not answer: what it says, and what it counts, when the client comes again. */
import { readStatus } from '@nrdot/otlp';
import { startNrdot, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { writeConfig } from '../kit.ts';

const MAX_KEYS = 2_048;
const POINTS = 3 * MAX_KEYS;

/** One counter with a label that never repeats. */
const storm = JSON.stringify({
  resourceMetrics: [
    {
      scopeMetrics: [
        {
          metrics: [
            {
              name: 'logins',
              sum: {
                aggregationTemporality: 1,
                isMonotonic: true,
                dataPoints: Array.from({ length: POINTS }, (_, i) => ({
                  asInt: '1',
                  attributes: [{ key: 'user', value: { stringValue: `user-${i}` } }],
                })),
              },
            },
          ],
        },
      ],
    },
  ],
});

it('a 503 after Redis did not answer does not claim that nothing was stored, and drops are counted once', async () => {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const file = writeConfig(dir.path, {
    redis: { url: redis.url, command_timeout: '500ms' },
    limiter: { max_keys: MAX_KEYS, aggregate_score: 0.8, critical_score: 0.8, critical_action: 'drop' },
  });
  await using receiver = startNrdot(['receiver', '--config', file], {}, dir.path);
  const [, otlp = ''] = await receiver.line(/"address":"([^"]+)","msg":"receiving/);
  const [, admin = ''] = await receiver.line(/"admin":"([^"]+)"/);
  const ready = async () => (await fetch(`http://${admin}/readyz`)).ok;
  await waitUntil(ready, { what: 'it is ready' });
  const send = async () => {
    const response = await fetch(`http://${otlp}/v1/metrics`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: storm,
    });
    const text = await response.text();
    if (response.status !== 200)
      return { status: response.status, said: readStatus(Buffer.from(text), 'application/json')?.message };
    const { partialSuccess = {} } = JSON.parse(text) as { partialSuccess?: { rejectedDataPoints?: string } };
    return { status: 200, rejected: Number(partialSuccess.rejectedDataPoints ?? 0) };
  };
  const dropped = async () => {
    const text = await (await fetch(`http://${admin}/metrics`)).text();
    const rows = text.matchAll(/^cl_dropped_samples_total\{[^}]*\} (\d+)$/gm);
    return [...rows].reduce((sum, [, value]) => sum + Number(value), 0);
  };
  const report = async () =>
    (await (await fetch(`http://${admin}/api/limiter`)).json()) as {
      totals: { requests: number; points: number };
    };
  const client = new Redis(redis.url);
  client.on('error', () => {}); // it is killed below
  try {
    await client.ping();
    redis.signal('SIGSTOP');
    expect(await send()).toEqual({
      status: 503,
      said: expect.stringMatching(/^Redis did not confirm it; it may still have been stored/),
    });
    redis.signal('SIGCONT');
    const accepted = async () => Number(await client.hget('{nrdot}:books', 'accepted'));
    await waitUntil(async () => (await accepted()) > 0, { what: 'Redis ran the step that had waited' });
    expect(await dropped()).toBe(0);

    await waitUntil(ready, { what: 'it is ready again' });
    const again = await waitUntil(
      async () => {
        const answer = await send();
        return answer.status === 200 ? answer : undefined;
      },
      { what: 'the client has an answer' },
    );
    expect(again.rejected).toBeGreaterThan(0);
    expect(await dropped()).toBe(again.rejected);
    expect((await report()).totals).toMatchObject({ requests: 1, points: POINTS });

    await redis.kill();
    await waitUntil(async () => !(await ready()), { what: 'it has noticed that Redis is down' });
    expect(await send()).toEqual({
      status: 503,
      said: 'Redis cannot be reached; nothing of this request was stored; try again later',
    });
  } finally {
    redis.signal('SIGCONT');
    client.disconnect();
  }
});
