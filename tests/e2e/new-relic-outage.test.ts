/** Sixty hours without New Relic: what it would drop for its age is dropped here, counted, and nothing else is. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  encodeProtobuf,
  type Message,
  type NewRelicRule,
  readAsNewRelic,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { accounting, scrape, startOne, untilQuiet } from '../kit.ts';

const HOUR_MS = 3_600_000;
const OUTAGE_HOURS = 60;
/** When something is sent, in hours from the beginning: not at the very limit of 48 before the end. */
const SENT_AT = [0, 5, 11, 13, 20, 35, 50, 59];
const KEY = 'k'.repeat(40);

type Signal = 'traces' | 'metrics' | 'logs';

/** One request with so many items, each of now. */
function request(signal: Signal, items: number, nowMs: number): Buffer {
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }] };
  const at = BigInt(nowMs) * 1_000_000n;
  const many = (make: (i: number) => Message) => Array.from({ length: items }, (_, i) => make(i));
  const byte = (length: number, i: number) => new Uint8Array(length).fill((i % 255) + 1);
  const message: Message = {
    traces: {
      resourceSpans: [
        {
          resource,
          scopeSpans: [
            {
              spans: many((i) => ({
                ...{ traceId: byte(16, i), spanId: byte(8, i), name: 'pay' },
                ...{ startTimeUnixNano: at, endTimeUnixNano: at },
              })),
            },
          ],
        },
      ],
    },
    metrics: {
      resourceMetrics: [
        {
          resource,
          scopeMetrics: [
            {
              metrics: many((i) => ({
                name: `load.${i}`,
                gauge: { dataPoints: [{ timeUnixNano: at, asDouble: i }] },
              })),
            },
          ],
        },
      ],
    },
    logs: { resourceLogs: [{ resource, scopeLogs: [{ logRecords: many(() => ({ timeUnixNano: at })) }] }] },
  }[signal];
  return Buffer.from(encodeProtobuf(signal, message).bytes);
}

it('survives 60 hours, and drops what New Relic would no longer accept', async () => {
  using dir = temporaryDirectory();
  const clock = join(dir.path, 'clock');
  const passed = (hours: number) => {
    const shiftMs = (hours - OUTAGE_HOURS) * HOUR_MS;
    // At once: a file that is read while it is written would be empty.
    writeFileSync(`${clock}.new`, String(shiftMs));
    renameSync(`${clock}.new`, clock);
    return shiftMs;
  };
  passed(0);
  const mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    behaviour: { newRelic: true, outage: true },
  });
  try {
    await using pipeline = await startOne(
      dir.path,
      mock,
      { exporter: { preset: 'newrelic', headers: { 'api-key': KEY } } },
      {
        NODE_OPTIONS: `--import=${new URL('../shifted-clock.ts', import.meta.url).href}`,
        NRDOT_TEST_CLOCK: clock,
      },
    );
    const sent: { signal: Signal; body: Buffer; items: number }[] = [];
    const total = () => sent.reduce((sum, { items }) => sum + items, 0);
    for (const [i, hours] of SENT_AT.entries()) {
      const shiftMs = passed(hours);
      await waitUntil(
        async () => {
          const { at } = (await (await fetch(`${pipeline.admin}/api/status`)).json()) as { at: number };
          return Math.abs(at - Date.now() - shiftMs) < HOUR_MS / 10;
        },
        { what: `it is hour ${hours} in the pipeline` },
      );
      for (const [signal, items] of [
        ['metrics', 10 + i],
        ['logs', 100 + i],
        ['traces', 1_000 + i],
      ] as const) {
        const body = request(signal, items, Date.now() + shiftMs);
        const answer = await fetch(`${pipeline.otlp}/v1/${signal}`, {
          method: 'POST',
          headers: { 'content-type': 'application/x-protobuf' },
          body: Uint8Array.from(body),
        });
        expect(answer.status).toBe(200);
        sent.push({ signal, body, items });
      }
      await waitUntil(
        async () => {
          // What is tried again and too old by then goes before the end.
          const { accepted, queued, on_disk, dropped } = await accounting(pipeline.admin);
          return accepted === total() && queued + on_disk + dropped === total();
        },
        { what: `all of hour ${hours} is kept` },
      );
    }
    expect(mock.stats().items).toBe(0);

    passed(OUTAGE_HOURS);
    mock.set({ outage: false });
    const books = await untilQuiet(pipeline.admin, 120_000);

    // What it would have made of every request as it was sent, by now.
    const expected: Partial<Record<NewRelicRule, number>> = {};
    for (const { signal, body } of sent)
      readAsNewRelic(signal, body, Date.now(), (rule) => {
        expected[rule] = (expected[rule] ?? 0) + 1;
      });
    expect(expected).toEqual({ metric_too_old: 10 + 11 + 12, log_too_old: 100 + 101 + 102 });
    const tooOld = 33 + 303;
    expect(mock.stats().newRelic).toEqual({});
    expect(mock.stats().items).toBe(total() - tooOld);
    expect(books).toMatchObject({
      accepted: total(),
      delivered: total() - tooOld,
      dropped: tooOld,
      rejected: 0,
    });
    const dropped = (await scrape(pipeline.admin)).filter(
      ({ name, value }) => name === 'pipeline_dropped_items_total' && value > 0,
    );
    expect(dropped).toMatchObject([{ labels: { reason: 'too_old' }, value: tooOld }]);
  } finally {
    await mock.close();
  }
});
