/** To an upstream that demands what New Relic does, with nothing set but the preset and a key. */
import {
  complaint,
  encodeProtobuf,
  generate,
  judge,
  type MockUpstream,
  seededRandom,
  startMockUpstream,
  temporaryDirectory,
} from '@nrdot/testbed';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Running, startOne, untilQuiet } from '../kit.ts';

const KEY = 'k'.repeat(40);
let dir: ReturnType<typeof temporaryDirectory>;
let mock: MockUpstream;
let pipeline: Running;
beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { newRelic: true } });
  pipeline = await startOne(dir.path, mock, {
    exporter: { preset: 'newrelic', headers: { 'api-key': KEY } },
  });
});
afterAll(async () => {
  await pipeline[Symbol.asyncDispose]();
  await mock.close();
  dir[Symbol.dispose]();
});

it('no request is refused for its size, single or merged, and nothing is lost', async () => {
  mock.set({ outage: true }); // so that batches wait, and are merged
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = seededRandom(seed);
  const request = (logRecords: number) => ({
    resourceLogs: [
      {
        resource: { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }] },
        scopeLogs: [
          {
            logRecords: Array.from({ length: logRecords }, () => ({
              timeUnixNano: BigInt(Date.now()) * 1_000_000n,
              body: {
                stringValue: Array.from({ length: 2_000 }, () => Math.floor(random() * 36).toString(36)).join(
                  '',
                ),
              },
            })),
          },
        ],
      },
    ],
  });
  const sizes = [1, 40, 1_600, 200, 400, 480];
  for (const records of sizes) {
    const { bytes } = encodeProtobuf('logs', request(records));
    const answer = await fetch(`${pipeline.otlp}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf' },
      body: Uint8Array.from(bytes),
    });
    expect(answer.status).toBe(200);
  }
  const report = await generate({
    endpoint: pipeline.otlp,
    rate: 0,
    batchSize: 200,
    items: 4_000,
    signals: { traces: 1, metrics: 1, logs: 1 },
    encoding: 'gzip',
  });
  mock.set({ outage: false });
  await untilQuiet(pipeline.admin, 60_000);
  expect(complaint(judge(report, mock.received(report.run))), `seed ${seed}`).toBe('');
  const { byStatus, items, newRelic } = mock.stats();
  expect(Object.keys(byStatus)).toEqual(['200']);
  expect(items).toBe(4_000 + sizes.reduce((sum, records) => sum + records, 0));
  // What the generator makes has exemplars; nothing else of it is against a rule.
  expect(Object.keys(newRelic).filter((rule) => rule !== 'exemplar')).toEqual([]);
});
