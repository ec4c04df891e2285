import {
  encodeProtobuf,
  type Message,
  type NewRelicRule,
  readAsNewRelic,
  seededRandom,
} from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { CheckCounts, OTHER_SERVICES } from './check-report.ts';
import { RequestCheck } from './request-check.ts';

type Signal = 'traces' | 'metrics' | 'logs';
const SIGNALS = ['traces', 'metrics', 'logs'] as const;
const HOUR_MS = 3_600_000;
const NOW_MS = 1_900_000_000_000;

function counted(signal: Signal, body: Buffer) {
  const counts = new CheckCounts();
  new RequestCheck(counts).request(signal, body, NOW_MS);
  return counts;
}

const named = (key: string, value: Message) => ({ key, value });
const text = (stringValue: string): Message => ({ stringValue });

/** A request in which anything may be against a rule, near its limit or far from it. */
function anyRequest(signal: Signal, random: () => number): Message {
  const pick = <T>(...from: T[]): T => from[Math.floor(random() * from.length)]!;
  const list = <T>(most: number, make: (n: number) => T) =>
    Array.from({ length: Math.floor(random() * (most + 1)) }, (_, n) => make(n));
  const value = (): Message =>
    pick<() => Message>(
      () => text('v'.repeat(pick(0, 10, 4_095, 4_096))),
      () => text('é'.repeat(pick(2_047, 2_048, 4_095, 4_096))),
      () => ({ intValue: 7n }),
      () => ({ bytesValue: Buffer.alloc(pick(3, 128_000, 128_001)) }),
      () => ({ kvlistValue: { values: [named('k', text('v'))] } }),
      () => ({ arrayValue: { values: Array.from({ length: pick(0, 2, 64, 65) }, () => text('e')) } }),
      () => ({ arrayValue: { values: [text('e'), pick<Message>(text('f'), { intValue: 1n })] } }),
      () => ({ arrayValue: { values: [{ arrayValue: { values: [] } }] } }),
      () => ({}),
    )();
  const attributes = (limit: number) => {
    const all = list(3, (n) => named(pick(`a${n}`, 'metric', 'n'.repeat(pick(255, 256))), value()));
    const more = pick(0, 0, 0, limit - all.length, limit - all.length + 1);
    return [...all, ...Array.from({ length: more }, (_, n) => named(`m${n}`, text('v')))];
  };
  const time = () => BigInt(NOW_MS + pick(0, 0, 0, -47, -49, 23, 25) * HOUR_MS) * 1_000_000n;
  const point = (): Message => ({
    timeUnixNano: time(),
    attributes: attributes(64),
    ...pick<Message>({}, {}, { exemplars: [{ timeUnixNano: 1n }] }),
  });
  const number = () => ({ ...point(), asDouble: pick(1, 1, Number.NaN, Number.POSITIVE_INFINITY) });
  const metric = (): Message => ({
    name: pick('metric', 'other', ''),
    ...pick<() => Message>(
      () => ({ gauge: { dataPoints: list(3, number) } }),
      () => ({
        sum: {
          aggregationTemporality: pick(0, 1, 2),
          isMonotonic: pick(true, false),
          dataPoints: list(3, number),
        },
      }),
      () => ({
        histogram: {
          aggregationTemporality: 1,
          dataPoints: list(2, () => ({ ...point(), count: 1n, sum: pick(1, Number.NaN) })),
        },
      }),
      () => ({
        exponentialHistogram: {
          aggregationTemporality: 2,
          dataPoints: list(2, () => ({ ...point(), count: 1n })),
        },
      }),
      () => ({
        summary: { dataPoints: list(2, () => ({ timeUnixNano: time(), attributes: attributes(64) })) },
      }),
    )(),
  });
  const span = (): Message => ({
    traceId: Buffer.alloc(16, pick(0, 1, 1, 1)),
    spanId: Buffer.alloc(8, pick(0, 1, 1, 1)),
    startTimeUnixNano: pick(0n, time(), time()),
    attributes: attributes(254),
    ...pick<Message>({}, {}, { links: [{ traceId: Buffer.alloc(16, 2) }] }),
  });
  const log = (): Message => ({
    ...pick<Message>({ timeUnixNano: time() }, { observedTimeUnixNano: time() }, {}),
    attributes: attributes(255),
  });
  const [resources, scopes, items, make] = {
    traces: ['resourceSpans', 'scopeSpans', 'spans', span],
    metrics: ['resourceMetrics', 'scopeMetrics', 'metrics', metric],
    logs: ['resourceLogs', 'scopeLogs', 'logRecords', log],
  }[signal] as [string, string, string, () => Message];
  return {
    [resources]: list(2, () => ({
      resource: { attributes: attributes(64) },
      [scopes]: list(2, () => ({ scope: { name: 's', attributes: attributes(8) }, [items]: list(3, make) })),
    })),
  };
}

describe('a request that is held against the rules', () => {
  it('finds what another reading of the same pages finds, whatever is in it', () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = seededRandom(seed);
    for (let round = 0; round < 400; round++) {
      for (const signal of SIGNALS) {
        const body = Buffer.from(encodeProtobuf(signal, anyRequest(signal, random)).bytes);
        const expected = new Map<NewRelicRule, number>();
        readAsNewRelic(signal, body, NOW_MS, (rule) => expected.set(rule, (expected.get(rule) ?? 0) + 1));
        const found = counted(signal, body)
          .totals()
          .map(({ rule, items }) => [rule, items] as const);
        expect(Object.fromEntries(found), `seed ${seed}, round ${round}`).toEqual(
          Object.fromEntries(expected),
        );
      }
    }
  });

  it('says by service what broke a rule: names and sizes, and nothing of the values', () => {
    const request = (service: string) => ({
      resourceLogs: [
        {
          resource: { attributes: [named('service.name', text(service))] },
          scopeLogs: [
            { logRecords: [{ attributes: [named('http.url', text('hunter2'.repeat(1_000)))] }, {}] },
          ],
        },
      ],
    });
    const counts = new CheckCounts();
    const check = new RequestCheck(counts);
    for (const service of ['shop', 'cart', 'shop'])
      check.request('logs', Buffer.from(encodeProtobuf('logs', request(service)).bytes), NOW_MS);
    expect(counts.report()).toEqual({
      checked: { logs: 6 },
      rows: [
        {
          rule: 'attribute_value',
          effect: 'shortened',
          what: 'a text of more than 4,095 characters',
          signal: 'logs',
          service: 'shop',
          items: 2,
          example: 'http.url: 7000 bytes',
        },
        expect.objectContaining({ service: 'cart', items: 1, example: 'http.url: 7000 bytes' }),
      ],
    });
  });

  it('has a bound of services, and counts all of them', () => {
    const counts = new CheckCounts();
    for (let n = 0; n < 2_000; n++) counts.item('logs', 1, `service ${n}`);
    const { rows } = counts.report();
    expect(rows.length).toBeLessThanOrEqual(513);
    expect(rows.find(({ service }) => service === OTHER_SERVICES)!.items).toBe(2_000 - 512);
    expect(rows.reduce((sum, { items }) => sum + items, 0)).toBe(2_000);
  });
});
