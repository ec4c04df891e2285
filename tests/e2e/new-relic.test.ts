/** To an upstream that demands what New Relic does, with nothing set but the preset and a key. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  complaint,
  encodeJson,
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

it('check reports the same counts as the upstream, by rule, live and for a file', async () => {
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

it('check.fix leaves New Relic nothing to prune or shorten, in protobuf, JSON and large requests, without losing an item', async () => {
  const own = temporaryDirectory();
  try {
    mock.reset();
    await using fixing = await startOne(own.path, mock, {
      exporter: { preset: 'newrelic', headers: { 'api-key': KEY } },
      check: { sample: 1, fix: true },
    });
    const now = () => BigInt(Date.now()) * 1_000_000n;
    const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
    const many = (count: number) => Array.from({ length: count }, (_, n) => text(`label.${n}`, 'v'));
    const attributes = [
      text('n'.repeat(300), 'v'),
      text('long', 'v'.repeat(5_000)),
      { key: 'map', value: { kvlistValue: { values: [text('k', 'v')] } } },
      {
        key: 'array',
        value: { arrayValue: { values: Array.from({ length: 65 }, () => ({ intValue: 1n })) } },
      },
      { key: 'bytes', value: { bytesValue: Buffer.alloc(130_000) } },
    ];
    const resource = { attributes: [text('service.name', 'shop'), ...many(80)] };
    const logs = (records: number) => ({
      resourceLogs: [
        {
          resource: { attributes: [text('service.name', 'shop')] },
          scopeLogs: [
            {
              logRecords: Array.from({ length: records }, () => ({
                timeUnixNano: now(),
                attributes: [attributes[1]!],
              })),
            },
          ],
        },
      ],
    });
    const traces = {
      resourceSpans: [
        {
          resource,
          scopeSpans: [
            {
              scope: { name: 's', attributes: many(9) },
              spans: [
                {
                  ...{ traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 1), startTimeUnixNano: now() },
                  ...{ attributes, links: [{ traceId: Buffer.alloc(16, 2), spanId: Buffer.alloc(8, 2) }] },
                },
              ],
            },
          ],
        },
      ],
    };
    const metrics = {
      resourceMetrics: [
        {
          scopeMetrics: [
            {
              metrics: [
                {
                  name: 'load',
                  gauge: {
                    dataPoints: [
                      {
                        ...{
                          timeUnixNano: now(),
                          asDouble: 1,
                          attributes: [text('load', 'v'), ...attributes],
                        },
                        exemplars: [{ timeUnixNano: now(), asDouble: 1 }],
                      },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
    };
    const post = async (signal: 'traces' | 'metrics' | 'logs', body: Uint8Array, type: string) => {
      const answer = await fetch(`${fixing.otlp}/v1/${signal}`, {
        method: 'POST',
        headers: { 'content-type': `application/${type}`, 'content-encoding': 'gzip' },
        body: Uint8Array.from(gzipSync(body)),
      });
      expect(answer.status).toBe(200);
    };
    const requests = [
      ['traces', traces, 1],
      ['metrics', metrics, 1],
      ['logs', logs(3), 3],
      ['logs', logs(400), 400], // beyond 1 MiB: read by another thread
    ] as const;
    let sent = 0;
    for (const [signal, request, items] of requests) {
      await post(signal, encodeProtobuf(signal, request).bytes, 'x-protobuf');
      await post(signal, encodeJson(signal, request).bytes, 'json');
      sent += 2 * items;
    }
    const load = { endpoint: fixing.otlp, rate: 0, batchSize: 200, items: 2_000, encoding: 'gzip' } as const;
    const report = await generate({ ...load, signals: { traces: 1, logs: 1 } });
    // What it knows points by is in their exemplars: these are only counted.
    await generate({ ...load, signals: { metrics: 1 } });
    await untilQuiet(fixing.admin, 60_000);
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    const { items, newRelic } = mock.stats();
    expect(newRelic).toEqual({});
    expect(items).toBe(sent + 4_000);
    const counts = Object.fromEntries(
      (await scrape(fixing.admin))
        .filter(
          ({ name, labels, value }) =>
            name === 'check_fixed_items_total' && labels.rule !== 'exemplar' && value > 0,
        )
        .map(({ labels, value }) => [`${labels.signal} ${labels.rule}`, value]),
    );
    const of = (signal: string) =>
      ['attribute_name', 'attribute_value', 'attribute_type', 'attribute_array', 'attribute_bytes'].map(
        (rule) => [`${signal} ${rule}`, 2],
      );
    expect(counts).toEqual({
      ...Object.fromEntries([...of('traces'), ...of('metrics')]),
      'traces attributes_too_many': 2,
      'traces span_link': 2,
      'metrics attribute_named_as_metric': 2,
      'logs attribute_value': 2 * 403,
    });
    const live = (await (await fetch(`${fixing.admin}/api/check`)).json()) as { rows: { effect: string }[] };
    expect(live.rows).toEqual([]);
  } finally {
    own[Symbol.dispose]();
  }
});
