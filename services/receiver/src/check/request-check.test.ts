import { encodeProtobuf, type NewRelicRule, readAsNewRelic, seededRandom } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { CheckCounts, OTHER_SERVICES } from './check-report.ts';
import { RequestCheck } from './request-check.ts';
import { anyRequest, NOW_MS, named, type Signal, text } from './test/any-request.ts';

const SIGNALS = ['traces', 'metrics', 'logs'] as const;

function counted(signal: Signal, body: Buffer) {
  const counts = new CheckCounts();
  new RequestCheck(counts).request(signal, body, NOW_MS);
  return counts;
}

describe('a request that is checked against the rules', () => {
  it('agrees with an independent implementation of the same rules for any content', () => {
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

  it('reports violations by service: names and sizes, never values', () => {
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

  it('lists a bounded number of services, and counts all of them', () => {
    const counts = new CheckCounts();
    for (let n = 0; n < 2_000; n++) counts.item('logs', 1, `service ${n}`);
    const { rows } = counts.report();
    expect(rows.length).toBeLessThanOrEqual(513);
    expect(rows.find(({ service }) => service === OTHER_SERVICES)!.items).toBe(2_000 - 512);
    expect(rows.reduce((sum, { items }) => sum + items, 0)).toBe(2_000);
  });
});
