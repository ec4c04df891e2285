/** To an upstream that demands what New Relic does, with nothing set but the preset and a key. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  complaint,
  encodeProtobuf,
  generate,
  judge,
  type MockUpstream,
  seededRandom,
  startMockUpstream,
  startNrdot,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Running, scrape, startOne, untilQuiet } from '../kit.ts';

const KEY = 'k'.repeat(40);
let dir: ReturnType<typeof temporaryDirectory>;
let mock: MockUpstream;
let pipeline: Running;
beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { newRelic: true } });
  pipeline = await startOne(dir.path, mock, {
    exporter: { preset: 'newrelic', headers: { 'api-key': KEY } },
    check: { sample: 1 },
  });
});
afterAll(async () => {
  await pipeline[Symbol.asyncDispose]();
  await mock.close();
  dir[Symbol.dispose]();
});

async function nrdot(args: readonly string[]): Promise<{ code: number | string; stdout: string }> {
  await using child = startNrdot([...args], { NO_COLOR: '1' }, dir.path);
  await waitUntil(() => !child.running, { what: `nrdot ${args.join(' ')} has ended` });
  return { code: child.child.exitCode ?? 'killed', stdout: child.output() };
}

it('check names the same counts as the upstream, by rule, live and of a file', async () => {
  mock.reset();
  const HOUR_NS = 3_600_000_000_000n;
  const at = (hours: number) => BigInt(Date.now()) * 1_000_000n + BigInt(hours) * HOUR_NS;
  const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
  const resource = { attributes: [text('service.name', 'shop')] };
  const logs = {
    resourceLogs: [
      {
        resource,
        scopeLogs: [
          {
            logRecords: [
              ...Array.from({ length: 7 }, () => ({ timeUnixNano: at(-50) })),
              ...Array.from({ length: 5 }, () => ({
                timeUnixNano: at(0),
                attributes: [text('message', 'm'.repeat(5_000))],
              })),
              { timeUnixNano: at(0) },
            ],
          },
        ],
      },
    ],
  };
  const metrics = {
    resourceMetrics: [
      {
        resource: { attributes: [...resource.attributes, text('note', 'n'.repeat(4_096))] },
        scopeMetrics: [
          {
            metrics: [
              {
                name: 'load',
                gauge: {
                  dataPoints: [0, -49, 25].map((hours) => ({ timeUnixNano: at(hours), asDouble: 1 })),
                },
              },
              { name: 'ratio', gauge: { dataPoints: [{ timeUnixNano: at(0), asDouble: Number.NaN }] } },
            ],
          },
        ],
      },
    ],
  };
  for (const [signal, request] of [
    ['logs', logs],
    ['metrics', metrics],
  ] as const) {
    const { bytes } = encodeProtobuf(signal, request);
    writeFileSync(join(dir.path, `${signal}.binpb`), bytes);
    const answer = await fetch(`${pipeline.otlp}/v1/${signal}`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf' },
      body: Uint8Array.from(bytes),
    });
    expect(answer.status).toBe(200);
  }
  await untilQuiet(pipeline.admin, 60_000);
  const expected = {
    log_too_old: 7,
    metric_too_old: 1,
    metric_too_new: 1,
    not_finite: 1,
    attribute_value: 6,
  };
  expect(mock.stats().newRelic).toEqual(expected);
  const counts = (rows: readonly { rule: string; items: number }[]) => {
    const byRule: Record<string, number> = {};
    for (const { rule, items } of rows) byRule[rule] = (byRule[rule] ?? 0) + items;
    return byRule;
  };
  const live = await fetch(`${pipeline.admin}/api/check`);
  expect(counts(((await live.json()) as { rows: [] }).rows)).toEqual(expected);
  for (const [rule, items] of Object.entries(expected)) {
    const found = (await scrape(pipeline.admin)).filter(
      ({ name, labels }) => name === 'check_items_total' && labels.rule === rule,
    );
    expect(
      found.reduce((sum, { value }) => sum + value, 0),
      rule,
    ).toBe(items);
  }
  const { code, stdout } = await nrdot([
    ...['check', 'file', '--json', '--signal', 'logs'],
    join(dir.path, 'logs.binpb'),
  ]);
  expect(code).toBe(3);
  expect(counts((JSON.parse(stdout) as { rows: [] }).rows)).toEqual({ log_too_old: 7, attribute_value: 5 });
  const status = await fetch(`${pipeline.admin}/api/status`);
  expect(await status.json()).toMatchObject({
    check: {
      sample: 1,
      items: 17,
      broken: expect.arrayContaining([{ rule: 'log_too_old', signal: 'logs', effect: 'dropped', items: 7 }]),
    },
  });
  const shown = await nrdot(['check', 'traffic', '--admin', new URL(pipeline.admin).host]);
  expect(shown.stdout).toMatch(/dropped +7 \(\S+ %\) +logs +shop +log_too_old/);
  expect(shown.stdout).toContain('message: 5000 bytes');
  expect(shown.code).toBe(0);
});

it('no request is refused for its size, single or merged, and nothing is lost', async () => {
  mock.reset();
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
