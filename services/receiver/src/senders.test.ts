/** What real senders send that is not quite what the specification says: it is taken, or the rest of it is. */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { fromBinary, type JsonObject } from '@bufbuild/protobuf';
import { loadConfig } from '@nrdot/config';
import { jsonToProtobuf, readExportResponse, type Signal, walk } from '@nrdot/otlp';
import { afterEach, describe, expect, it } from 'vitest';
import { referenceRequest } from '../../../shared/otlp/test/reference.ts';
import { field } from '../../../tests/cost/shapes.ts';
import { type Kept, post, SPAN, startReceiver } from '../../../tests/security/receiver.ts';

let receiver: Kept | undefined;
afterEach(() => receiver?.stop());

const text = (value: string) => Buffer.from(value);
const BAD = Buffer.from([0x61, 0xff, 0x62]);
const TRACE_ID = Buffer.alloc(16, 1);
const SPAN_ID = Buffer.alloc(8, 2);
const request = (...items: Buffer[]) => field(1, field(2, ...items));
const log = (body: Buffer, ...more: Buffer[]) => field(2, field(5, field(1, body)), ...more);
const span = (name: Buffer, traceId = TRACE_ID, spanId = SPAN_ID, ...more: Buffer[]) =>
  field(2, field(1, traceId), field(2, spanId), field(5, name), ...more);
const attribute = (value: Buffer) => field(1, field(1, text('k')), field(2, field(1, value)));
const fixed64 = (number: number, ...values: number[]) =>
  field(number, ...values.map((value) => Buffer.from(new BigUint64Array([BigInt(value)]).buffer)));
const count = (value: number) =>
  Buffer.concat([Buffer.from([4 * 8 + 1]), Buffer.from(new BigUint64Array([BigInt(value)]).buffer)]);
const metric = (data: number, ...points: Buffer[]) =>
  field(
    2,
    field(1, text('m')),
    field(data, ...points.map((point) => field(1, point)), Buffer.from([0x10, 2])),
  );

interface Answer {
  status: number;
  rejected: number;
  message: string;
}

async function send(signal: Signal, body: Buffer, type = 'application/x-protobuf'): Promise<Answer> {
  const answer = await fetch(`${receiver!.url}/v1/${signal}`, {
    method: 'POST',
    headers: { 'content-type': type },
    body: new Uint8Array(body),
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (type === 'application/json') {
    const { partialSuccess = {}, message = '' } = JSON.parse(bytes.toString()) as {
      partialSuccess?: Record<string, string>;
      message?: string;
    };
    const { errorMessage = message, ...rejected } = partialSuccess;
    return {
      status: answer.status,
      rejected: Number(Object.values(rejected)[0] ?? 0),
      message: errorMessage,
    };
  }
  const partial = readExportResponse(signal, bytes, type);
  return { status: answer.status, rejected: partial?.rejected ?? 0, message: partial?.message ?? '' };
}

/** What was kept, as the reference parser reads it. */
function kept(signal: 'traces' | 'logs'): JsonObject {
  const { payload, items } = receiver!.batches.at(-1)!;
  expect(walk(signal, payload).items).toBe(items);
  return JSON.parse(
    JSON.stringify(fromBinary(referenceRequest(signal), payload), (_, value) =>
      typeof value === 'bigint'
        ? String(value)
        : value instanceof Uint8Array
          ? Buffer.from(value).toString('hex')
          : value,
    ),
  ) as JsonObject;
}

describe('a request with some bad items', () => {
  it('is accepted without the items whose strings are not UTF-8', async () => {
    receiver = await startReceiver();
    const many = Array.from({ length: 1_000 }, (_, i) => log(i === 17 ? BAD : text(`line ${i}`)));
    const answer = await send('logs', request(...many));
    expect(answer).toMatchObject({ status: 200, rejected: 1 });
    expect(answer.message).toContain('resource_logs[0].scope_logs[0].log_records[17].body.string_value');
    expect(receiver.batches[0]!.items).toBe(999);
    const said = JSON.stringify(kept('logs'));
    expect([said.includes('line 16'), said.includes('line 17"'), said.includes('line 18')]).toEqual([
      true,
      false,
      true,
    ]);
  });

  it('loses everything below a bad resource, scope or metric, and nothing else', async () => {
    receiver = await startReceiver();
    const good = field(1, field(2, log(text('good'))));
    const resource = field(1, field(1, attribute(BAD)), field(2, log(text('a')), log(text('b'))));
    expect(await send('logs', Buffer.concat([resource, good]))).toMatchObject({ status: 200, rejected: 2 });
    const scope = field(1, field(2, field(1, field(1, BAD)), log(text('a'))), field(2, log(text('b'))));
    expect(await send('logs', scope)).toMatchObject({ status: 200, rejected: 1 });
    const name = field(2, field(1, BAD), field(5, field(1), field(1), field(1)));
    expect(await send('metrics', request(name, metric(5, Buffer.alloc(0))))).toMatchObject({
      status: 200,
      rejected: 3,
    });
    expect(receiver.batches.map(({ items }) => items)).toEqual([1, 1, 1]);
  });

  it('is accepted with U+FFFD, or refused as a whole, if so configured', async () => {
    receiver = await startReceiver({ invalidUtf8: 'replace' });
    const answer = await send('logs', request(log(BAD), log(text('b'))));
    expect(answer).toMatchObject({ status: 200, rejected: 0 });
    expect(answer.message).toContain('U+FFFD');
    expect(receiver.batches[0]!.items).toBe(2);
    expect(JSON.stringify(kept('logs'))).toContain('a\ufffdb');
    await receiver.stop();
    receiver = await startReceiver({ invalidUtf8: 'reject_request' });
    expect((await send('logs', request(log(BAD), log(text('b'))))).status).toBe(400);
    expect(receiver.batches).toEqual([]);
    for (const mode of ['reject_item', 'replace', 'reject_request'])
      expect(
        loadConfig({ env: {}, text: `receiver: {invalid_utf8: ${mode}}` }).config.receiver.invalidUtf8,
      ).toBe(mode);
  });

  it('is accepted without them as JSON', async () => {
    receiver = await startReceiver();
    const record = (body: Buffer) => Buffer.concat([text('{"body":{"stringValue":"'), body, text('"}}')]);
    const json = (...records: Buffer[]) =>
      Buffer.concat([
        text('{"resourceLogs":[{"scopeLogs":[{"logRecords":['),
        ...records.flatMap((one, i) => (i ? [text(','), one] : [one])),
        text(']}]}]}'),
      ]);
    const body = json(record(BAD), record(text('good')), record(Buffer.concat([text('\\n'), BAD])));
    expect(await send('logs', body, 'application/json')).toMatchObject({ status: 200, rejected: 2 });
    expect(JSON.stringify(kept('logs'))).toContain('good');
    expect((await send('logs', Buffer.concat([BAD, body]), 'application/json')).status).toBe(400);
    const ids =
      '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102","name":"short"},{"traceId":"zz","name":"no hex"},{"name":"none"}]}]}]}';
    expect(await send('traces', text(ids), 'application/json')).toMatchObject({ status: 200, rejected: 2 });
  });

  it('keeps a log record without an id of the wrong length, and drops such a span', async () => {
    receiver = await startReceiver();
    const hex = text('0123456789abcdef0123456789abcdef'); // 32 characters in the place of 16 bytes
    const answer = await send('logs', request(log(text('a'), field(9, hex), field(10, SPAN_ID))));
    expect(answer).toMatchObject({ status: 200, rejected: 0 });
    expect(answer.message).toContain('trace_id');
    const payload = Buffer.from(receiver.batches[0]!.payload);
    expect([payload.includes(SPAN_ID), payload.includes(hex)]).toEqual([true, false]);
    const spans = await send(
      'traces',
      request(
        span(text('bad'), hex),
        span(text('bad'), TRACE_ID, hex),
        span(text('bad'), TRACE_ID, SPAN_ID, field(4, hex)),
        span(text('bad link'), TRACE_ID, SPAN_ID, field(13, field(1, hex))),
        span(text('good')),
      ),
    );
    expect(spans).toMatchObject({ status: 200, rejected: 4 });
    expect(JSON.stringify(kept('traces'))).toContain('good');
    expect(JSON.stringify(kept('traces'))).not.toContain('bad');
  });

  it('drops a histogram whose counts contradict each other, and keeps one whose counts do not', async () => {
    receiver = await startReceiver();
    const histogram = (total: number, counts: number[], bounds: number) =>
      Buffer.concat([
        count(total),
        ...(counts.length ? [fixed64(6, ...counts)] : []),
        ...(bounds ? [field(7, Buffer.alloc(8 * bounds))] : []),
      ]);
    const sound = [
      histogram(3, [1, 2], 1),
      histogram(7, [], 0),
      histogram(5, [5], 0),
      histogram(0, [0, 0], 1),
    ];
    const bad = [histogram(3, [1, 2], 2), histogram(4, [1, 2], 1), histogram(1, [], 1)];
    expect(await send('metrics', request(metric(9, ...sound)))).toMatchObject({
      status: 200,
      rejected: 0,
      message: '',
    });
    expect(await send('metrics', request(metric(9, ...sound, ...bad)))).toMatchObject({
      status: 200,
      rejected: 3,
    });
    expect(receiver.batches.map(({ items }) => items)).toEqual([4, 4]);
    const exponential = (total: number, zeros: number, counts: number[]) =>
      Buffer.concat([
        count(total),
        Buffer.concat([Buffer.from([7 * 8 + 1]), count(zeros).subarray(1)]),
        field(8, field(2, Buffer.from(counts))),
      ]);
    const both = request(metric(10, exponential(6, 1, [2, 3]), exponential(7, 1, [2, 3])));
    expect(await send('metrics', both)).toMatchObject({ status: 200, rejected: 1 });
  });

  it('is acknowledged if no item is left, but refused if its framing is broken', async () => {
    receiver = await startReceiver();
    expect(await send('logs', request(log(BAD)))).toMatchObject({ status: 200, rejected: 1 });
    expect((await send('logs', Buffer.concat([request(log(BAD)), Buffer.from([0x0a, 0x7f])]))).status).toBe(
      400,
    );
    expect(receiver.batches).toEqual([]);
  });
});

describe('a path', () => {
  it.each(['/v1/traces', '/v1/traces/', '//v1/traces', '//v1//traces//', '/v1/traces?a=b'])(
    '%s',
    async (path) => {
      receiver = await startReceiver();
      expect((await post(receiver.url, {}, SPAN, path)).status).toBe(200);
      const preflight = await fetch(receiver.url + path, { method: 'OPTIONS' });
      expect(preflight.status).toBe(204);
      expect((await fetch(receiver.url + path)).status).toBe(405);
    },
  );

  it('with a long query', async () => {
    receiver = await startReceiver();
    const path = `/v1/traces?key=${'x'.repeat(4_000)}`;
    expect((await post(receiver.url, {}, SPAN, path)).status).toBe(200);
  });

  it.each(['/', '/v1/trace', '/v1/traces/x', '/x/v1/traces', '/v1/traces%2f'])('not %s', async (path) => {
    receiver = await startReceiver();
    expect((await post(receiver.url, {}, SPAN, path)).status).toBe(404);
  });

  it.each([
    ['http://gateway.example/v1/traces', 200],
    ['HTTPS://gateway.example:4318//v1/traces/?a=b', 200],
    ['http://gateway.example', 404],
    ['http://v1/traces', 404],
    ['gateway.example/v1/traces', 400],
  ])('in absolute form, as proxies may send it: %s is %i', async (path, status) => {
    receiver = await startReceiver();
    const sent = httpRequest({
      ...{ host: '127.0.0.1', port: receiver.port, method: 'POST', path },
      headers: { 'content-type': 'application/json' },
    }).end(SPAN);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(status);
  });

  it('has the configured prefix, and no other', async () => {
    const { pathPrefix } = loadConfig({ env: {}, text: 'receiver: {path_prefix: otlp/team-a/}' }).config
      .receiver;
    receiver = await startReceiver({ pathPrefix });
    expect((await post(receiver.url, {}, SPAN, '/otlp/team-a/v1/traces/')).status).toBe(200);
    expect((await post(receiver.url, {}, SPAN, '/v1/traces')).status).toBe(404);
    for (const prefix of ['/', '""', '/a', 'a/b'])
      expect(() => loadConfig({ env: {}, text: `receiver: {path_prefix: ${prefix}}` })).not.toThrow();
    for (const prefix of ['/a b', '/a?b', '//a', 'a#'])
      expect(() => loadConfig({ env: {}, text: `receiver: {path_prefix: "${prefix}"}` })).toThrow();
  });
});

describe('an encoding', () => {
  it('accepts zlib as deflate, and answers 415 to unsupported ones, naming those supported', async () => {
    receiver = await startReceiver();
    const { deflateSync } = await import('node:zlib');
    const body = new Uint8Array(deflateSync(SPAN));
    const answer = await fetch(`${receiver.url}/v1/traces`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', 'content-encoding': 'zlib' },
    });
    expect(answer.status).toBe(200);
    for (const encoding of ['snappy', 'x-snappy-framed', 'lz4', 'br']) {
      const refused = await post(receiver.url, { 'content-encoding': encoding });
      expect(refused.status).toBe(415);
      expect(await refused.text()).toContain('gzip');
    }
  });
});

describe('an integer of JSON', () => {
  const nanoseconds = (written: string) => {
    const body = `{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":${written}}]}]}]}`;
    const decoded = fromBinary(
      referenceRequest('traces'),
      jsonToProtobuf('traces', text(body)),
    ) as unknown as {
      resourceSpans: { scopeSpans: { spans: { startTimeUnixNano: bigint }[] }[] }[];
    };
    return decoded.resourceSpans[0]!.scopeSpans[0]!.spans[0]!.startTimeUnixNano;
  };

  it.each([
    ['1.7324640001234568e+18', 1732464000123456800n],
    ['"1.7324640001234568e+18"', 1732464000123456800n],
    ['1.8446744073709551615e19', 18446744073709551615n],
    ['"18446744073709551615.000"', 18446744073709551615n],
    ['1E3', 1000n],
    ['1000e-3', 1n],
    ['0.001e3', 1n],
    ['0e99', 0n],
    ['0.0', 0n],
    ['100000000000000000000e-2', 1000000000000000000n],
  ])('%s', (written, value) => expect(nanoseconds(written)).toBe(value));

  it.each([
    '1.5',
    '1e-1',
    '1e20',
    '1.8446744073709551616e19',
    '"1e999999999"',
    '"1.5e0"',
    '"e3"',
    '"1e"',
    '-1e3',
    '"0x10"',
  ])('not %s', (written) => expect(() => nanoseconds(written)).toThrow(/integer/));
});
