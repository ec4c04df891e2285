import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  encodeProtobuf,
  type Message,
  type MockUpstream,
  NEW_RELIC_LIMITS,
  NEW_RELIC_RULES,
  type NewRelicRule,
  readAsNewRelic,
  startMockUpstream,
} from './index.ts';

type Signal = 'traces' | 'metrics' | 'logs';

const HOUR_MS = 3_600_000;
const NOW_MS = 1_900_000_000_000;
const at = (hours: number) => BigInt(NOW_MS + hours * HOUR_MS) * 1_000_000n;
const text = (value: string): Message => ({ stringValue: value });
const named = (key: string, value: Message = text('v')): Message => ({ key, value });
const many = (count: number) => Array.from({ length: count }, (_, n) => named(`a${n}`));
const list = (values: Message[]): Message => ({ arrayValue: { values } });
const { attributes } = NEW_RELIC_LIMITS;

function told(signal: Signal, request: Message): NewRelicRule[] {
  const rules: NewRelicRule[] = [];
  readAsNewRelic(signal, Buffer.from(encodeProtobuf(signal, request).bytes), NOW_MS, (rule) =>
    rules.push(rule),
  );
  return rules;
}

const gauge = (point: Message, name = 'load') => ({
  resourceMetrics: [{ scopeMetrics: [{ metrics: [{ name, gauge: { dataPoints: [point] } }] }] }],
});
const point = (more: Message = {}): Message => ({ timeUnixNano: at(0), asDouble: 1, ...more });
const span = (more: Message = {}): Message => ({
  traceId: Buffer.alloc(16, 1),
  spanId: Buffer.alloc(8, 1),
  startTimeUnixNano: at(0),
  ...more,
});
const spans = (one: Message): Message => ({ resourceSpans: [{ scopeSpans: [{ spans: [one] }] }] });
const logs = (one: Message): Message => ({ resourceLogs: [{ scopeLogs: [{ logRecords: [one] }] }] });
const delta = (isMonotonic: boolean): Message => ({
  resourceMetrics: [
    {
      scopeMetrics: [
        { metrics: [{ name: 'n', sum: { aggregationTemporality: 1, isMonotonic, dataPoints: [point()] } }] },
      ],
    },
  ],
});

describe('what New Relic would do', () => {
  it.each<[NewRelicRule, Signal, Message, Message]>([
    [
      'metric_too_old',
      'metrics',
      gauge(point({ timeUnixNano: at(-48.1) })),
      gauge(point({ timeUnixNano: at(-47.9) })),
    ],
    [
      'metric_too_new',
      'metrics',
      gauge(point({ timeUnixNano: at(24.1) })),
      gauge(point({ timeUnixNano: at(23.9) })),
    ],
    ['log_too_old', 'logs', logs({ timeUnixNano: at(-49) }), logs({ timeUnixNano: at(-47) })],
    ['not_finite', 'metrics', gauge(point({ asDouble: Number.NaN })), gauge(point({ asDouble: 1e308 }))],
    ['delta_level', 'metrics', delta(false), delta(true)],
    ['span_incomplete', 'traces', spans(span({ startTimeUnixNano: 0n })), spans(span())],
    ['span_incomplete', 'traces', spans(span({ spanId: Buffer.alloc(8) })), spans(span())],
    [
      'attribute_type',
      'logs',
      logs({ attributes: [named('m', { kvlistValue: { values: [named('k')] } })] }),
      logs({ attributes: [named('m', list([text('a'), text('b')]))] }),
    ],
    [
      'attribute_type',
      'logs',
      logs({ attributes: [named('m', list([text('a'), { intValue: 1n }]))] }),
      logs({ attributes: [named('m', list([{ intValue: 2n }, { intValue: 1n }]))] }),
    ],
    [
      'attribute_array',
      'traces',
      spans(span({ attributes: [named('l', list(Array.from({ length: 65 }, () => text('a'))))] })),
      spans(span({ attributes: [named('l', list(Array.from({ length: 64 }, () => text('a'))))] })),
    ],
    [
      'attribute_bytes',
      'traces',
      spans(span({ attributes: [named('b', { bytesValue: Buffer.alloc(128_001) })] })),
      spans(span({ attributes: [named('b', { bytesValue: Buffer.alloc(128_000) })] })),
    ],
    [
      'attribute_named_as_metric',
      'metrics',
      gauge(point({ attributes: [named('load')] })),
      gauge(point({ attributes: [named('loaded')] })),
    ],
    [
      'attributes_too_many',
      'metrics',
      gauge(point({ attributes: many(attributes.point + 1) })),
      gauge(point({ attributes: many(attributes.point) })),
    ],
    [
      'exemplar',
      'metrics',
      gauge(point({ exemplars: [{ timeUnixNano: at(0), asDouble: 1 }] })),
      gauge(point()),
    ],
    ['span_link', 'traces', spans(span({ links: [{ traceId: Buffer.alloc(16, 2) }] })), spans(span())],
    [
      'attribute_name',
      'logs',
      logs({ attributes: [named('n'.repeat(256))] }),
      logs({ attributes: [named('n'.repeat(255))] }),
    ],
    [
      'attribute_value',
      'logs',
      logs({ attributes: [named('n', text('é'.repeat(4_096)))] }),
      logs({ attributes: [named('n', text('é'.repeat(4_095)))] }),
    ],
  ])('%s', (rule, signal, breaks, keeps) => {
    expect(told(signal, breaks)).toEqual([rule]);
    expect(told(signal, keeps)).toEqual([]);
  });

  it('docs/new-relic.md has every rule', () => {
    const page = readFileSync(new URL('../../../docs/new-relic.md', import.meta.url), 'utf8');
    for (const rule of Object.keys(NEW_RELIC_RULES)) expect(page).toContain(`\`${rule}\``);
  });

  it('attributes of a resource and of a scope have separate limits', () => {
    const request = (resource: number, scope: number): Message => ({
      resourceLogs: [
        {
          resource: { attributes: many(resource) },
          scopeLogs: [
            { scope: { name: 's', attributes: many(scope) }, logRecords: [{ timeUnixNano: at(0) }] },
          ],
        },
      ],
    });
    expect(told('logs', request(attributes.resource, attributes.scope))).toEqual([]);
    expect(told('logs', request(attributes.resource + 1, attributes.scope))).toEqual(['attributes_too_many']);
    expect(told('logs', request(attributes.resource, attributes.scope + 1))).toEqual(['attributes_too_many']);
  });
});

describe('a mock upstream like New Relic', () => {
  const KEY = 'k'.repeat(40);
  let mock: MockUpstream;
  beforeAll(async () => {
    mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { newRelic: true } });
  });
  afterAll(() => mock.close());

  const body = Buffer.from(encodeProtobuf('logs', logs({ timeUnixNano: at(0) })).bytes);
  async function post(headers: Record<string, string>, sent: Buffer = body, path = '/v1/logs') {
    const answer = await fetch(mock.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf', 'api-key': KEY, ...headers },
      body: new Uint8Array(sent),
    });
    expect(await answer.text()).toBe('');
    return answer;
  }

  it('answers only with a status', async () => {
    expect((await post({})).status).toBe(200);
    expect((await post({ 'api-key': '' })).status).toBe(401);
    expect((await post({ 'api-key': 'my-key' })).status).toBe(403);
    expect((await post({}, body, '/v2/logs')).status).toBe(404);
    expect((await post({ 'content-encoding': 'deflate' })).status).toBe(415);
    expect((await post({}, Buffer.alloc(1_000_000, 0xff))).status).toBe(413);
    expect((await post({}, Buffer.from([0xff]))).status).toBe(400);
  });

  it('reads the first gzip member, and counts what it drops behind a 200', async () => {
    mock.reset();
    const old = Buffer.from(encodeProtobuf('logs', logs({ timeUnixNano: 1_000_000n })).bytes);
    const twice = Buffer.concat([gzipSync(old), gzipSync(old)]);
    expect((await post({ 'content-encoding': 'gzip' }, twice)).status).toBe(200);
    expect(mock.stats().newRelic).toEqual({ log_too_old: 1 });
  });

  it('refuses further requests of a signal until the minute ends', async () => {
    mock.set({ requestsPerMinute: 1 });
    const answers = [await post({}), await post({}), await post({})];
    const last = answers.at(-1)!;
    expect(last.status).toBe(429);
    expect(Number(last.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(Number(last.headers.get('retry-after'))).toBeLessThanOrEqual(60);
    mock.set({ requestsPerMinute: 0 });
  });
});
