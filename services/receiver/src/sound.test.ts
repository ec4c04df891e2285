import type { InvalidUtf8 } from '@nrdot/otlp';
import { protobufToJson } from '@nrdot/otlp';
import { describe, expect, it } from 'vitest';
import { soundProtobuf } from './sound.ts';

const read = (
  signal: 'traces' | 'metrics',
  json: string,
  invalidUtf8: InvalidUtf8 | 'reject_request' = 'reject_item',
) => soundProtobuf(signal, 'json', Buffer.from(json), { maxDepth: 64, invalidUtf8 });
const spans = (...fields: string[]) =>
  `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"},${fields.map((each) => `{${each}}`).join()},{"name":"z"}]}]}]}`;
const attribute = (value: string) => `"attributes":[{"key":"k","value":{${value}}}]`;

describe('a JSON request in which a value is not of its type', () => {
  it.each([
    ['"startTimeUnixNano":"18446744073709551616"', 'startTimeUnixNano: the integer does not fit'],
    ['"startTimeUnixNano":1e400', 'startTimeUnixNano: the integer does not fit'],
    ['"endTimeUnixNano":-1', 'endTimeUnixNano: the integer does not fit'],
    ['"startTimeUnixNano":""', 'startTimeUnixNano: "" is not an integer'],
    ['"startTimeUnixNano":"-"', 'startTimeUnixNano: "-" is not an integer'],
    [attribute('"doubleValue":""'), 'attributes[0].value.doubleValue: "" is not a number'],
    [attribute('"doubleValue":"n/a"'), 'attributes[0].value.doubleValue: "n/a" is not a number'],
    ['"startTimeUnixNano":1.5', 'startTimeUnixNano: "1.5" is not an integer'],
    ['"flags":4294967296', 'flags: expected a fixed32, from 0 to 4294967295'],
    ['"kind":2147483648', 'kind: expected an enum, from -2147483648 to 2147483647'],
    ['"kind":"SERVER"', "kind: expected an integer, or one of the enum's names"],
    [attribute('"doubleValue":1e999'), 'attributes[0].value.doubleValue: the number does not fit'],
    [attribute('"doubleValue":"-1e999"'), 'attributes[0].value.doubleValue: the number does not fit'],
    [
      attribute('"intValue":1,"stringValue":"x"'),
      'attributes[0].value.stringValue: expected one field of the oneof "value"',
    ],
    ...['A', 'AAA A', 'AAAA\\nAAAA', '*', 'AA=A', '====', 'ÄÄÄÄ'].map((text): [string, string] => [
      attribute(`"bytesValue":"${text}"`),
      'attributes[0].value.bytesValue: expected bytes in base64',
    ]),
  ])('loses only that item: %s', (bad, said) => {
    const { items, rejected, message, body } = read('traces', spans(bad, bad));
    expect({ items, rejected }).toEqual({ items: 2, rejected: 2 });
    expect(message).toMatch(/^rejected 2 spans with a bad value; the first: resourceSpans\[0\]\./);
    expect(message).toContain(`.scopeSpans[0].spans[1].${said}`);
    expect(protobufToJson('traces', body)).toContain('"z"');
  });

  it('loses only what the value describes, if it belongs to a resource or metric', () => {
    const resource = (count: string) =>
      `{"resource":{"droppedAttributesCount":${count}},"scopeSpans":[{"spans":[{},{"kind":"x"}]}]}`;
    const { items, rejected } = read('traces', `{"resourceSpans":[${resource('-1')},${resource('1')}]}`);
    expect({ items, rejected }).toEqual({ items: 1, rejected: 3 });
    const sum = (temporality: string) =>
      `{"sum":{"dataPoints":[{},{}],"aggregationTemporality":${temporality}}}`;
    const metrics = read(
      'metrics',
      `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[${sum('"NONE"')},${sum('2')}]}]}]}`,
    );
    expect(metrics).toMatchObject({ items: 2, rejected: 2 });
  });

  it('tells no position of another flaw, since items before it are missing', () => {
    const { rejected, message } = read('traces', spans('"kind":"x"', '"traceId":"ab"', '"traceId":"ab"'));
    expect(rejected).toBe(3);
    expect(message).toBe(
      "rejected 1 span with a bad value; the first: resourceSpans[0].scopeSpans[0].spans[1].kind: expected an integer, or one of the enum's names. rejected 2 spans; of the first, a value is not an id of 16 bytes",
    );
  });

  it('accepts infinity if it is written as such', () => {
    expect(read('traces', spans(attribute('"doubleValue":"Infinity"')))).toMatchObject({
      items: 3,
      message: '',
    });
  });
});

describe('half of a surrogate pair', () => {
  const half = spans('"name":"x\\ud800y"', '"name":"\\ud83d\\ude00"');
  it('is treated as invalid UTF-8', () => {
    expect(read('traces', half)).toMatchObject({
      ...{ items: 3, rejected: 1 },
      message: expect.stringContaining('name is not valid UTF-8'),
    });
    const replaced = read('traces', half, 'replace');
    expect(replaced).toMatchObject({ items: 4, rejected: 0 });
    expect(protobufToJson('traces', replaced.body)).toContain('"x\ufffdy"');
    expect(() => read('traces', half, 'reject_request')).toThrow(/not valid UTF-8/);
  });
});
