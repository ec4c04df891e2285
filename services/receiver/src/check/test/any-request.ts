import type { Message } from '@nrdot/testbed';

export type Signal = 'traces' | 'metrics' | 'logs';
export const NOW_MS = 1_900_000_000_000;
const HOUR_MS = 3_600_000;

export const named = (key: string, value: Message) => ({ key, value });
export const text = (stringValue: string): Message => ({ stringValue });

/** A request in which anything may be against a rule, near its limit or far from it. */
export function anyRequest(signal: Signal, random: () => number): Message {
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
