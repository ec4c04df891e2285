/**
 * The OpenTelemetry Collector as the upstream, with a mock behind it. It answers when the mock has answered it: it has no queue, so
 * that what it was sent and did not pass on is NRDOT+'s to send again. Ids are compared, not bytes: it encodes anew.
 */
import {
  complaint,
  generate,
  judge,
  type MockUpstream,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { findCollector } from '../bench/peers/build.ts';
import { accounting, type Running, startOne, untilQuiet } from '../kit.ts';
import { startCollector } from '../servers/servers.ts';

const SIGNALS = { traces: 1, metrics: 1, logs: 1 };
const LOAD = { rate: 0, batchSize: 20, items: 2_400, signals: SIGNALS, connections: 8 };
const BATCHES = LOAD.items / LOAD.batchSize;

const binary = findCollector();
const start = (mock: MockUpstream, dir: string, port?: number) =>
  startCollector(
    binary!,
    dir,
    { endpoint: mock.url, sending_queue: { enabled: false }, retry_on_failure: { enabled: false } },
    port === undefined ? {} : { port },
  );

/** An application's load, through NRDOT+ and the Collector. */
async function withBoth(
  config: Record<string, unknown>,
  run: (
    mock: MockUpstream,
    running: Running,
    collector: Awaited<ReturnType<typeof start>>,
    dir: string,
  ) => Promise<void>,
): Promise<void> {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', encodedAnew: true });
  await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
  await using collector = await start(mock, dir.path);
  await using running = await startOne(dir.path, collector, config);
  await run(mock, running, collector, dir.path);
}

/** All that was acknowledged has arrived, each signal as itself. */
async function expectArrived(
  mock: MockUpstream,
  running: Running,
  report: Awaited<ReturnType<typeof generate>>,
): Promise<void> {
  expect(await untilQuiet(running.admin)).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
  expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  expect(mock.stats()).toMatchObject({ corrupted: 0, foreign: 0, misplaced: 0, unreadable: 0 });
  expect(report.acknowledgedItems).toBe(LOAD.items);
}

const absent = binary ? '' : ' (left out: make test-senders installs it, where Go is at hand)';
describe.skipIf(!binary)(`the OpenTelemetry Collector as the upstream${absent}`, () => {
  it.each(['identity', 'gzip', 'zstd'] as const)('accepts single batches, in %s', (encoding) =>
    withBoth({ scheduler: { merge_bytes: '1B' } }, async (mock, running) => {
      const report = await generate({ ...LOAD, endpoint: running.otlp, encoding });
      await expectArrived(mock, running, report);
      expect(mock.stats()).toMatchObject({ requests: BATCHES, items: LOAD.items, duplicates: 0 });
      expect(mock.stats().bySignal).toEqual(report.acknowledgedBySignal);
    }),
  );

  it.each(['identity', 'gzip'] as const)('accepts merged batches, in %s', (encoding) =>
    withBoth({ exporter: { concurrency: 1 } }, async (mock, running) => {
      mock.set({ latencyMs: 1_500 });
      const load = { ...LOAD, endpoint: running.otlp, encoding };
      // One signal after the other: what is merged came one after the other.
      const traces = await generate({ ...load, signals: { traces: 1 } });
      const metrics = await generate({ ...load, signals: { metrics: 1 } });
      const logs = await generate({ ...load, signals: { logs: 1 } });
      mock.set({ latencyMs: 0 });
      for (const report of [traces, metrics, logs]) await expectArrived(mock, running, report);
      expect(mock.stats().requests).toBeLessThan((3 * BATCHES) / 2);
      expect(mock.stats()).toMatchObject({ items: 3 * LOAD.items, duplicates: 0 });
    }),
  );

  it.each(['SIGTERM', 'SIGKILL'] as const)('that stops by %s and restarts loses nothing', (signal) =>
    withBoth({}, async (mock, running, collector, dir) => {
      const sent = generate({ ...LOAD, endpoint: running.otlp, rate: 1_200 });
      await waitUntil(() => mock.stats().items >= LOAD.items / 4, { what: 'a quarter has arrived' });
      await collector.process.end(signal);
      await waitUntil(async () => (await accounting(running.admin)).on_disk > 0, {
        what: 'what it does not accept is on disk',
      });
      await using _again = await start(mock, dir, collector.port);
      await expectArrived(mock, running, await sent);
    }),
  );
});
