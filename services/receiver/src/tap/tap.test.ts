import { gzipSync } from 'node:zlib';
import { jsonToProtobuf, type Signal } from '@nrdot/otlp';
import type { Batch, PriorityClass } from '@nrdot/queue';
import { AdminError } from '@nrdot/service';
import { describe, expect, it } from 'vitest';
import { sampleOf } from './sample.ts';
import { Tap, type TapLine, type TapSession, type TapWish } from './tap.ts';

const ANY: TapWish = { signal: undefined, class: undefined, service: undefined, limit: 20, seconds: 60 };

const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });

/** A resource with so many log records. */
function logs(service: string, records: number, body = 'a line'): object {
  return {
    resource: { attributes: [text('service.name', service)] },
    scopeLogs: [
      {
        logRecords: Array.from({ length: records }, (_, i) => ({
          severityText: 'INFO',
          body: { stringValue: `${body} ${i}` },
        })),
      },
    ],
  };
}

function request(...resourceLogs: object[]): Buffer {
  return jsonToProtobuf('logs', Buffer.from(JSON.stringify({ resourceLogs })));
}

function batch(payload: Buffer, of: Partial<Batch> = {}): Batch {
  return {
    id: 'b',
    signal: 'logs' as Signal,
    class: 'normal' as PriorityClass,
    origin: 'live',
    encoding: 'identity',
    items: 1,
    receivedAt: 1_000,
    payload,
    ...of,
  };
}

async function linesOf(session: TapSession): Promise<TapLine[]> {
  const lines: TapLine[] = [];
  for await (const line of session) lines.push(JSON.parse(line) as TapLine);
  return lines;
}

describe('a sample', () => {
  it('contains the first items of a request, of the requested service', () => {
    const body = request(logs('a', 3), logs('b', 100), logs('a', 3));
    expect(sampleOf('logs', body, undefined, 4).map(({ service }) => service)).toEqual(['a', 'a', 'a', 'b']);
    expect(sampleOf('logs', body, 'b', 2).map(({ about }) => about.body)).toEqual(['a line 0', 'a line 1']);
    expect(sampleOf('logs', body, 'a', 5)).toHaveLength(5);
    expect(sampleOf('logs', body, 'c', 5)).toEqual([]);
  });

  it('describes spans, and every kind of point, briefly', () => {
    const metric = (kind: string, point: object) => ({
      name: kind,
      unit: 's',
      [kind]: { dataPoints: [point] },
    });
    const body = jsonToProtobuf(
      'metrics',
      Buffer.from(
        JSON.stringify({
          resourceMetrics: [
            {
              scopeMetrics: [
                {
                  metrics: [
                    metric('gauge', { asDouble: 1.5, attributes: [text('secret', 'x')] }),
                    metric('sum', { asInt: '9007199254740993' }),
                    metric('histogram', { count: '3', sum: 6, min: 1, max: 3 }),
                    metric('exponentialHistogram', { count: '2', sum: 4 }),
                    metric('summary', { count: '1', sum: 2 }),
                  ],
                },
              ],
            },
          ],
        }),
      ),
    );
    expect(sampleOf('metrics', body, undefined, 9).map(({ about }) => about)).toEqual([
      { kind: 'gauge', unit: 's', value: 1.5 },
      { kind: 'sum', unit: 's', value: '9007199254740993' },
      { kind: 'histogram', unit: 's', count: 3, sum: 6, min: 1, max: 3 },
      { kind: 'exponentialHistogram', unit: 's', count: 2, sum: 4 },
      { kind: 'summary', unit: 's', count: 1, sum: 2 },
    ]);
    expect(sampleOf('metrics', body, undefined, 1)[0]!.attributes).toEqual({ secret: '[redacted]' });
  });

  it('shows a service whose name is an object with built-in property names', () => {
    const value = { kvlistValue: { values: [text('toString', 'x'), text('valueOf', 'y')] } };
    const resource = { attributes: [{ key: 'service.name', value }] };
    const body = request({ resource, scopeLogs: [{ logRecords: [{}] }] }, logs('b', 1));
    const services = sampleOf('logs', body, undefined, 5).map(({ service }) => service);
    expect(services).toEqual(['{"toString":"x","valueOf":"y"}', 'b']);
  });

  it('is bounded, however large an item is', () => {
    let nested: object = { stringValue: 'deep' };
    for (let i = 0; i < 10; i++) nested = { arrayValue: { values: [nested] } };
    const record = {
      body: { arrayValue: { values: Array.from({ length: 50 }, (_, i) => ({ intValue: i })) } },
      attributes: [
        { key: 'deep', value: nested },
        { key: 'bytes', value: { bytesValue: Buffer.alloc(5).toString('base64') } },
        text('long', 'x '.repeat(10_000)),
        ...Array.from({ length: 100 }, (_, i) => text(`k${i}`, 'v')),
      ],
    };
    const [item] = sampleOf('logs', request({ scopeLogs: [{ logRecords: [record] }] }), undefined, 5);
    expect(item!.about.body).toHaveLength(17);
    expect(Object.keys(item!.attributes)).toHaveLength(33);
    expect(item!.attributes).toMatchObject({ deep: [[[['…']]]], bytes: '<5 bytes>', '…': '71 more' });
    expect(JSON.stringify(item).length).toBeLessThan(2_000);
  });

  it('decodes a bounded number of resources, however small', () => {
    const empty = Buffer.from([0x0a, 0]); // an empty ResourceLogs
    const [few, many] = [127, 128].map((resources) =>
      sampleOf(
        'logs',
        Buffer.concat([...Array.from({ length: resources }, () => empty), request(logs('a', 1))]),
        undefined,
        5,
      ),
    );
    expect(few).toHaveLength(1);
    expect(many).toEqual([]);
  });

  it('examines a bounded part of a batch, and skips items that are too large', () => {
    const text16 = (depth: number): object =>
      depth === 0
        ? { stringValue: 'token'.repeat(80) }
        : { arrayValue: { values: Array.from({ length: 16 }, () => text16(depth - 1)) } };
    const of = (depth: number) =>
      sampleOf(
        'logs',
        request({ scopeLogs: [{ logRecords: [{ body: text16(depth), eventName: 'e' }] }] }),
        undefined,
        5,
      );
    const shown = JSON.stringify(of(2));
    expect(shown.split('token')).not.toHaveLength(1);
    expect(shown).toContain('"…"');
    expect(shown.length).toBeLessThan(64 * 1024);
    expect(of(3)).toEqual([]);
  });
});

describe('a tap', () => {
  it('costs nothing while none is open, and shows what arrives while one is', async () => {
    const tap = new Tap();
    expect(tap.open).toBe(false);
    const session = tap.begin({ ...ANY, class: 'high', limit: 2 });
    expect(tap.open).toBe(true);
    tap.offer(batch(request(logs('a', 1)))); // of another class
    tap.offer(batch(gzipSync(request(logs('a', 9))), { class: 'high', encoding: 'gzip' }));
    const lines = await linesOf(session);
    expect(lines.slice(0, 2)).toMatchObject([
      { at: 1_000, signal: 'logs', class: 'high', service: 'a', about: { body: 'a line 0' } },
      { about: { body: 'a line 1' } },
    ]);
    expect(lines[2]).toEqual({ end: 'limit', items: 2, batches: 1, sampled: 1 });
    expect(tap.open).toBe(false);
  });

  it('skips a batch of very many items, however small, which would take long to cut', async () => {
    const tap = new Tap();
    const session = tap.begin(ANY);
    tap.offer(batch(request(logs('a', 1)), { items: 16_385 }));
    const lines = linesOf(session);
    setImmediate(() => tap.stop());
    expect(await lines).toEqual([{ end: 'stopped', items: 0, batches: 1, sampled: 0 }]);
  });

  it('buffers little under any traffic, and skips what cannot be decoded', async () => {
    const tap = new Tap();
    const session = tap.begin({ ...ANY, limit: 1_000 });
    tap.offer(batch(Buffer.from('not gzip'), { encoding: 'gzip' }));
    for (let i = 0; i < 1_000; i++) tap.offer(batch(request(logs('a', 1))));
    tap.stop();
    expect(await linesOf(session)).toEqual([{ end: 'stopped', items: 0, batches: 1_001, sampled: 0 }]);
  });

  it('is limited to four at a time; a client that leaves makes room, even while waiting', async () => {
    const tap = new Tap();
    const sessions = [1, 2, 3, 4].map(() => tap.begin(ANY));
    expect(() => tap.begin(ANY)).toThrow(AdminError);
    const waiting = sessions[0]!.next();
    await sessions[0]!.return();
    expect((await waiting).done).toBe(true);
    tap.begin(ANY);
    tap.stop();
    expect(tap.open).toBe(false);
  });
});
