import protobuf from 'protobufjs/light.js';
import { describe, expect, it } from 'vitest';
import { JsonReader } from './json-reader.ts';
import { exportResponse, readExportResponse, readStatus, statusBody } from './response.ts';

const PROTOBUF = 'application/x-protobuf';
const JSON_TYPE = 'application/json; charset=utf-8';

describe('responses', () => {
  it('of full success are empty, with partial_success unset', () => {
    expect(exportResponse('traces', 'protobuf')).toHaveLength(0);
    expect(exportResponse('traces', 'json').toString()).toBe('{}');
  });

  it('of partial success round-trip in both formats, for each signal', () => {
    for (const signal of ['traces', 'metrics', 'logs', 'profiles'] as const) {
      const partial = { rejected: 3, message: 'dropped by the limiter' };
      expect(readExportResponse(signal, exportResponse(signal, 'protobuf', partial), PROTOBUF)).toEqual(
        partial,
      );
      expect(readExportResponse(signal, exportResponse(signal, 'json', partial), JSON_TYPE)).toEqual(partial);
    }
    expect(exportResponse('logs', 'json', { rejected: 1, message: '' }).toString()).toContain(
      '"rejectedLogRecords":"1"',
    );
  });

  it('that are damaged or odd count as empty, never as an error', () => {
    for (const body of [
      '',
      '<html>',
      '{"partialSuccess":null}',
      '[]',
      '{"partialSuccess":{"rejectedSpans":"-4"}}',
    ]) {
      expect(readExportResponse('traces', Buffer.from(body), JSON_TYPE)).toBeUndefined();
      expect(readExportResponse('traces', Buffer.from(body), PROTOBUF)).toBeUndefined();
    }
    expect(readStatus(Buffer.from([255, 255]), PROTOBUF)).toBeUndefined();
  });

  it('that reject more items than were sent count as rejecting all', () => {
    const body = (count: string) => Buffer.from(`{"partialSuccess":{"rejectedSpans":${count}}}`);
    for (const count of ['"9223372036854775807"', '1e300'])
      expect(readExportResponse('traces', body(count), JSON_TYPE)?.rejected).toBe(Number.MAX_SAFE_INTEGER);
  });

  const LARGE_BYTES = 4 * 1024 * 1024;
  const many = (text: string) => text.repeat(Math.ceil(LARGE_BYTES / text.length));
  const large = 'x'.repeat(LARGE_BYTES);
  const field = (number: number, bytes: Uint8Array) =>
    Buffer.concat([
      protobuf.Writer.create()
        .uint32(number * 8 + 2)
        .bytes(bytes)
        .finish(),
    ]);

  /** What reading takes: values and fields that are looked at, and the longest text that becomes values at once. */
  function workOf(read: () => unknown): { steps: number; parsed: number } {
    const work = { steps: 0, parsed: 0 };
    const { skip } = JsonReader.prototype;
    const { uint32 } = protobuf.Reader.prototype;
    const { parse } = JSON;
    JsonReader.prototype.skip = function (depth) {
      work.steps++;
      skip.call(this, depth);
    };
    protobuf.Reader.prototype.uint32 = function () {
      work.steps++;
      return uint32.call(this);
    };
    JSON.parse = (text, reviver) => {
      work.parsed = Math.max(work.parsed, text.length);
      return parse(text, reviver);
    };
    try {
      read();
    } finally {
      JsonReader.prototype.skip = skip;
      protobuf.Reader.prototype.uint32 = uint32;
      JSON.parse = parse;
    }
    return work;
  }

  it.each<[string, string, string | Buffer, RegExp]>([
    [
      'values before the message',
      JSON_TYPE,
      `{"details":[${many('[],')}[]],"message":"m"}`,
      /^\{"details":\[\[\]/,
    ],
    ['values behind the message', JSON_TYPE, `{"message":"m","details":[${many('[],')}[]]}`, /^m$/],
    ['members', JSON_TYPE, `{"message":"m",${many('"a":1,')}"b":2}`, /^m$/],
    ['members of the same name', JSON_TYPE, `{${many('"message":"m",')}"b":2}`, /^m$/],
    ['a long message', JSON_TYPE, `{"code":3,"message":"${large}"}`, /^x{300,9000}$/],
    ['a long message of escapes', JSON_TYPE, `{"code":3,"message":"a${many('\\u00e9')}"}`, /^aé{300,9000}$/],
    ['a long key', JSON_TYPE, `{"${large}":1,"message":"m"}`, /^m$/],
    ['blanks', JSON_TYPE, `{"message":"m"${' '.repeat(LARGE_BYTES)}}`, /^m$/],
    ['a long number', JSON_TYPE, `{"code":${'9'.repeat(LARGE_BYTES)},"message":"m"}`, /^m$/],
    ['no JSON at all', JSON_TYPE, large, /^x{1000}$/],
    ['fields', PROTOBUF, Buffer.concat([field(2, Buffer.from('m')), Buffer.from(many('\x18\x01'))]), /^m$/],
    ['messages', PROTOBUF, Buffer.from(many('\x12\x01m')), /^m$/],
    ['a long message', PROTOBUF, field(2, Buffer.from(large)), /^x{300,9000}$/],
    ['long text', 'text/plain', large, /^x{1000}$/],
  ])('of megabytes (%s, %s) are read in a bounded number of steps', (_, type, text, message) => {
    const body = Buffer.from(text as string);
    const { steps, parsed } = workOf(() => {
      expect(readStatus(body, type)?.message).toMatch(message);
      readExportResponse('traces', body, type);
    });
    expect(steps).toBeLessThan(50_000);
    expect(parsed).toBeLessThan(10_000);
  });

  it.each<[string, string | Buffer]>([
    [JSON_TYPE, `{"partialSuccess":{"rejectedSpans":"3","errorMessage":"${large}"}}`],
    [JSON_TYPE, `{"partialSuccess":{"errorMessage":"${large}","rejectedSpans":3}}`],
    [JSON_TYPE, `{"partialSuccess":{"rejectedSpans":3,"errorMessage":"xx"},"more":[${many('{},')}{}]}`],
    [PROTOBUF, field(1, Buffer.concat([Buffer.from([8, 3]), field(2, Buffer.from(large))]))],
    [PROTOBUF, field(1, Buffer.concat([field(2, Buffer.from(large)), Buffer.from([8, 3])]))],
    [
      PROTOBUF,
      Buffer.concat([
        exportResponse('traces', 'protobuf', { rejected: 3, message: 'xx' }),
        Buffer.from(many('\n\0')),
      ]),
    ],
  ])('of megabytes still report how much was rejected (%s, %#)', (type, text) => {
    const body = Buffer.from(text as string);
    const { steps, parsed } = workOf(() =>
      expect(readExportResponse('traces', body, type)).toEqual({
        rejected: 3,
        message: expect.stringMatching(/^x{2,9000}$/),
      }),
    );
    expect(steps).toBeLessThan(50_000);
    expect(parsed).toBeLessThan(10_000);
  });

  it('of failures are a Status, in both formats', () => {
    const status = { code: 3, message: 'spans[0].name: expected a string' };
    expect(readStatus(statusBody('protobuf', status.code, status.message), PROTOBUF)).toEqual(status);
    expect(readStatus(statusBody('json', status.code, status.message), JSON_TYPE)).toEqual(status);
    expect(readStatus(Buffer.from('Bad gateway'), 'text/plain')).toEqual({ code: 0, message: 'Bad gateway' });
  });
});
