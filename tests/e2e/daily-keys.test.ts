/** Series of a UTC day over two receivers: told where people look, kept below the limit where that is wanted, without Redis too. */
import {
  complaint,
  generate,
  judge,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Running, scrape, startOne, startServices, untilQuiet } from '../kit.ts';

const DAILY_KEYS = 1_000;
/** Four times the standard error of a HyperLogLog. */
const HLL_ERROR = 0.0325;

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
let redis: TestRedis;
beforeEach(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  redis = await TestRedis.start({ dir: dir.path });
});
afterEach(async () => {
  await redis.stop().catch(() => {});
  await mock.close();
  dir[Symbol.dispose]();
});

/** A point for each of some values of the label `id`. */
async function send(otlp: string, metric: string, from: number, to: number): Promise<number> {
  const dataPoints = Array.from({ length: to - from }, (_, i) => ({
    timeUnixNano: String(BigInt(Date.now()) * 1_000_000n),
    asDouble: 1,
    attributes: [{ key: 'id', value: { stringValue: `id ${from + i}` } }],
  }));
  const metrics = [{ name: metric, gauge: { dataPoints } }];
  const { status } = await fetch(`${otlp}/v1/metrics`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ resourceMetrics: [{ scopeMetrics: [{ metrics }] }] }),
  });
  return status;
}

const keysOf = async (running: Running, metric: string) => {
  const found = await Promise.all(running.receivers.map(({ admin }) => scrape(admin)));
  const values = found
    .flat()
    .filter(({ name, labels }) => name === 'cl_daily_keys' && labels.metric === metric)
    .map(({ value }) => value);
  return Math.max(0, ...values);
};

it('is reported in metrics, status, commands and the event log', async () => {
  await using running = await startServices(
    dir.path,
    redis,
    mock,
    { limiter: { daily_keys: DAILY_KEYS } },
    { receivers: 2, exporters: 1 },
  );
  const [first, second] = running.receivers;
  expect(await send(first!.otlp, 'requests', 0, 600)).toBe(200);
  expect(await send(second!.otlp, 'requests', 300, 900)).toBe(200);
  expect(await send(second!.otlp, 'few', 0, 5)).toBe(200);
  // Beyond what is shown of a name they differ.
  const long = 'n'.repeat(120);
  expect(await send(second!.otlp, `${long}.more`, 0, 50)).toBe(200);
  expect(await send(second!.otlp, `${long}.less`, 0, 8)).toBe(200);
  await waitUntil(async () => (await keysOf(running, 'requests')) >= 900 * (1 - HLL_ERROR), {
    what: 'both receivers have reported their series',
  });
  expect(await keysOf(running, 'requests')).toBeLessThanOrEqual(900 * (1 + HLL_ERROR));
  await waitUntil(async () => (await keysOf(running, long)) >= 50 * (1 - HLL_ERROR), {
    what: 'the larger of two metrics that are shown by one name',
  });
  const status = await waitUntil(
    async () => {
      const read = (await (await fetch(`${running.admin}/api/status`)).json()) as {
        limiter?: { daily?: { limit: number; metrics: { metric: string; keys: number }[] } };
        findings: { code: string; text: string }[];
      };
      return read.findings.some(({ code }) => code === 'daily_keys') ? read : undefined;
    },
    { what: 'the status reports it' },
  );
  expect(status.limiter?.daily).toMatchObject({
    limit: DAILY_KEYS,
    metrics: [{ metric: 'requests' }, {}, {}, {}],
  });
  expect(status.findings.find(({ code }) => code === 'daily_keys')?.text).toContain('"requests"');
  await waitUntil(
    async () => (await (await fetch(`${running.admin}/api/events`)).text()).includes('limiter.daily_keys'),
    { what: 'an event reports it' },
  );
  const shown = async (...args: string[]) => {
    await using child = startNrdot(args, { NO_COLOR: '1' }, dir.path);
    await waitUntil(() => !child.running, { what: `nrdot ${args[0]} has ended` });
    return child.output();
  };
  const host = (admin: string) => new URL(admin).host;
  expect(await shown('status', '--admin', host(running.admin))).toMatch(/^day +\d+ series since .*requests/m);
  expect(await shown('limiter', '--admin', host(first!.admin))).toMatch(/^requests +\d+ +\d+ % +-$/m);
});

it('loses nothing acknowledged without Redis, and no request waits for a count', async () => {
  await using running = await startOne(dir.path, mock, {
    limiter: { daily_keys: DAILY_KEYS, daily_mode: 'enforce' },
    redis: { url: redis.url, command_timeout: '1s' },
  });
  expect(await send(running.otlp, 'requests', 0, 100)).toBe(200);
  await redis.stop();
  const report = await generate({
    ...{ endpoint: running.otlp, items: 2_000, batchSize: 50, rate: 0, signals: { metrics: 1 } },
    ...{ metricKinds: { gauge: 1 }, cardinality: 500 },
  });
  expect(report.acknowledgedItems + report.rejectedItems).toBe(2_000);
  await redis.start();
  // Books that have not heard of the disk yet balance, too.
  await waitUntil(() => complaint(judge(report, mock.received(report.run))) === '', {
    what: 'all that was acknowledged has arrived',
    timeoutMs: 60_000,
  });
  await untilQuiet(running.admin, 60_000);
  // What went past Redis is counted when it is seen again.
  expect(await send(running.otlp, 'requests', 0, 300)).toBe(200);
  await waitUntil(async () => (await keysOf(running, 'requests')) >= 300 * (1 - HLL_ERROR), {
    what: 'the series are counted',
  });
});
