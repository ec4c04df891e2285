/** One signal fails, hangs or is refused; the others go on as if it were not there. Judged by items, not by times. */
import {
  type Behaviour,
  complaint,
  generate,
  HEALTHY,
  judge,
  startMockUpstream,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { accounting, startOne, startServices, untilQuiet } from '../kit.ts';

const TRACES = 6_000;
const LOGS = 3_000;

const FAULTS: [string, Partial<Behaviour>][] = [
  ['refuses the scope of logs', { signalStatus: { logs: 403 } }],
  ['fails for logs', { signalStatus: { logs: 503 } }],
  ['throttles logs', { signalStatus: { logs: 429 }, retryAfterSeconds: 2 }],
  ['lets logs hang', { signalLatencyMs: { logs: 60_000 } }],
];

it.each([
  ...FAULTS.map(([what, behaviour]) => [what, behaviour, 'one process'] as const),
  [...FAULTS[3]!, 'services'] as const,
])('an upstream that %s still gets the traces (%o, %s)', async (_, behaviour, form) => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour });
  const config = { exporter: { timeout: '20s', concurrency: 4 } };
  const redis = form === 'services' ? await TestRedis.start({ dir: dir.path }) : undefined;
  await using running = redis
    ? await startServices(dir.path, redis, mock, config, { exporters: 1 })
    : await startOne(dir.path, mock, config);
  const load = (signals: Record<string, number>, items: number, rate: number) =>
    generate({
      ...{ endpoint: running.otlp, rate, items, batchSize: 20, connections: 4 },
      ...{ signals, retryInitialMs: 20 },
    });
  // The logs come first and go on beside the traces: they have every chance to fill what is shared.
  const logs = load({ logs: 1 }, LOGS, 1_500);
  const traces = await load({ traces: 1 }, TRACES, 3_000);
  await waitUntil(() => mock.received(traces.run).count >= traces.acknowledgedItems * 0.9, {
    what: '90 % of the traces have arrived',
  });
  expect(mock.received((await logs).run).count).toBe(0);
  await waitUntil(() => mock.received(traces.run).count === traces.acknowledgedItems, {
    what: 'all of the traces have arrived',
  });
  const books = await accounting(running.admin);
  expect(books.rejected + books.dropped).toBe(0);
  mock.set(HEALTHY);
  await untilQuiet(running.admin, 120_000);
  expect(complaint(judge(traces, mock.received(traces.run)))).toBe('');
  expect(complaint(judge(await logs, mock.received((await logs).run)))).toBe('');
  await mock.close();
  await redis?.[Symbol.asyncDispose]();
});
