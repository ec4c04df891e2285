import { fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { request, WALKED } from '../test/arbitrary.ts';
import { referenceRequest } from '../test/reference.ts';
import { OtlpError } from './error.ts';
import { jsonToProtobuf } from './json.ts';
import { jsonParts, protobufToJson } from './json-writer.ts';

describe('protobufToJson', () => {
  for (const signal of WALKED) {
    it(`writes ${signal} that read back as in the reference, for one request or several`, () => {
      const schema = referenceRequest(signal);
      const canonical = (bytes: Uint8Array) => Buffer.from(toBinary(schema, fromBinary(schema, bytes)));
      fc.assert(
        fc.property(fc.array(request(signal), { minLength: 1, maxLength: 3 }), (requests) => {
          const bytes = Buffer.concat(requests.map((each) => each.bytes));
          const text = protobufToJson(signal, bytes)!;
          expect(text).not.toContain('\n');
          JSON.parse(text);
          expect(canonical(jsonToProtobuf(signal, Buffer.from(text)))).toEqual(canonical(bytes));
        }),
        { numRuns: 100 },
      );
    });
  }

  it('writes ids in hex, 64-bit integers as strings, enums as integers, and numbers that JSON lacks as their names', () => {
    const bytes = jsonToProtobuf(
      'metrics',
      Buffer.from(
        `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA",
        "isMonotonic":true,"dataPoints":[{"timeUnixNano":"18446744073709551615","asInt":"-9223372036854775808","exemplars":[
        {"traceId":"0123456789ABCDEF0123456789abcdef","asDouble":"NaN"},{"asDouble":-0}]}]}}]}]}]}`,
      ),
    );
    expect(protobufToJson('metrics', bytes)).toBe(
      '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"dataPoints":[{' +
        '"timeUnixNano":"18446744073709551615","exemplars":[{"asDouble":"NaN","traceId":' +
        '"0123456789abcdef0123456789abcdef"},{"asDouble":-0}],"asInt":"-9223372036854775808"}],' +
        '"aggregationTemporality":1,"isMonotonic":true}}]}]}]}',
    );
  });

  it('merges a message in parts, and takes the last member of a oneof, as protobuf does', () => {
    const schema = referenceRequest('logs');
    // One record whose body is a string and then an integer; its resource comes twice.
    const resource = Buffer.from([0x0a, 0x04, 0x0a, 0x02, 0x0a, 0x00]);
    const record = Buffer.from([0x12, 0x09, 0x12, 0x07, 0x2a, 0x05, 0x0a, 0x01, 0x61, 0x18, 0x05]);
    const body = Buffer.concat([Buffer.from([0x0a, 23]), resource, record, resource]);
    const text = protobufToJson('logs', body)!;
    expect(JSON.parse(text)).toEqual({
      resourceLogs: [
        {
          resource: { attributes: [{ key: '' }, { key: '' }] },
          scopeLogs: [{ logRecords: [{ body: { intValue: '5' } }] }],
        },
      ],
    });
    expect(fromBinary(schema, body)).toMatchObject({
      resourceLogs: [
        {
          resource: { attributes: [{}, {}] },
          scopeLogs: [{ logRecords: [{ body: { value: { case: 'intValue', value: 5n } } }] }],
        },
      ],
    });
  });

  it('rejects profiles, and input that is not a request', () => {
    expect(protobufToJson('profiles', Buffer.from('x'))).toBeUndefined();
    expect(() => protobufToJson('traces', Buffer.from('not protobuf'))).toThrow(OtlpError);
  });

  it('holds little of what it writes, however many messages that is', () => {
    const messages = 4_000_000;
    // Log records, or attributes of one record, that are empty.
    for (const [head, tag] of [
      [[0x0a, 0x12], 0x12],
      [[0x0a, 0x12, 0x12], 0x32],
    ] as const) {
      let body = Buffer.alloc(2 * messages, Buffer.from([tag, 0]));
      for (const each of head.toReversed()) body = Buffer.concat([Buffer.from([each]), lengthOf(body), body]);
      let chars = 0;
      let longest = 0;
      const before = process.memoryUsage().heapUsed;
      let most = 0;
      for (const part of jsonParts('logs', body)!) {
        chars += part.length;
        longest = Math.max(longest, part.length);
        most = Math.max(most, process.memoryUsage().heapUsed - before);
      }
      expect(chars).toBeGreaterThan(3 * messages);
      expect(longest).toBeLessThan(128 * 1024);
      expect(most).toBeLessThan(200 * 2 ** 20);
    }
  });
});

function lengthOf({ byteLength }: Buffer): Buffer {
  const bytes = [0, 7, 14, 21, 28].map((shift, i) => ((byteLength >>> shift) & 0x7f) | (i < 4 ? 0x80 : 0));
  return Buffer.from(bytes);
}
