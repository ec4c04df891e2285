/** How near the limits of the account is: what two exporters sent, against what arrived at the upstream. */
import {
  generate,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { scrape, startServices, untilQuiet } from '../kit.ts';

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
let redis: TestRedis;
beforeEach(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  redis = await TestRedis.start({ dir: dir.path });
});
afterEach(async () => {
  await redis.stop();
  await mock.close();
  dir[Symbol.dispose]();
});

interface Status {
  exporter?: { sent?: Record<string, { requests: number; items: number; bytes: number }> };
  account?: { of: string; signal?: string; perMinute: number; limitPerMinute: number }[];
}

it('is in status, metrics and the command, and matches what arrived, failed attempts included', async () => {
  await using running = await startServices(
    dir.path,
    redis,
    mock,
    {
      exporter: {
        account_limits: {
          requests_per_minute: 1_000_000,
          points_per_minute: 1_000_000,
          records_per_minute: 500,
        },
      },
    },
    { exporters: 2 },
  );
  const read = async () => (await (await fetch(`${running.admin}/api/status`)).json()) as Status;
  await waitUntil(async () => (await read()).exporter?.sent, { what: 'the exporters have reported' });
  mock.set({ errorRate: 0.3, errorStatus: 503 });
  await generate({
    ...{ endpoint: running.otlp, items: 3_000, batchSize: 50, rate: 0, unitValues: true },
    ...{ signals: { traces: 1, metrics: 1, logs: 1 }, encoding: 'gzip' },
  });
  mock.set({ errorRate: 0 });
  await untilQuiet(running.admin, 60_000);
  const { requests } = mock.stats();
  const status = await waitUntil(
    async () => {
      const now = await read();
      const sent = Object.values(now.exporter?.sent ?? {});
      const isTold = sent.reduce((sum, of) => sum + of.requests, 0) === requests;
      // What was sent in a minute is known from the second time on that an exporter has told.
      return isTold && now.account?.[0]?.of === 'records' ? now : undefined;
    },
    { what: `the exporters have reported ${requests} requests, and records are nearest to their limit` },
  );
  const { traces, metrics, logs } = status.exporter!.sent!;
  const sent = [traces!, metrics!, logs!];
  expect(sent.reduce((sum, { items }) => sum + items, 0)).toBeGreaterThanOrEqual(3_000);
  expect(sent.every(({ bytes }) => bytes > 0)).toBe(true);
  expect(status.account?.map(({ of }) => of).sort()).toEqual(['points', 'records', 'requests']);
  expect(status.account?.[0]).toMatchObject({ of: 'records', limitPerMinute: 500 });
  expect(status.account?.[0]?.perMinute).toBeGreaterThan(500);
  const found = (await scrape(running.admin)).filter(({ name }) => name.startsWith('pipeline_account_'));
  expect(found.map(({ name, labels }) => `${name} ${labels.of}`).sort()).toEqual(
    ['limit_per_minute', 'per_minute'].flatMap((name) =>
      ['points', 'records', 'requests'].map((of) => `pipeline_account_${name} ${of}`),
    ),
  );
  await using child = startNrdot(
    ['status', '--admin', new URL(running.admin).host],
    { NO_COLOR: '1' },
    dir.path,
  );
  await waitUntil(() => !child.running, { what: 'nrdot status has ended' });
  expect(child.output()).toMatch(/^account +\d+ % of 500 records a minute, /m);
  expect(child.output()).toContain('exporter.account_limits');
});
