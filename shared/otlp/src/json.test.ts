import { fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { mutate, mutation, request, toOtlpJson, WALKED } from '../test/arbitrary.ts';
import { referenceRequest } from '../test/reference.ts';
import { OtlpError } from './error.ts';
import { jsonToProtobuf, readJson } from './json.ts';
import { walk } from './walk.ts';

const fault = (json: string): OtlpError => {
  try {
    jsonToProtobuf('traces', Buffer.from(json));
  } catch (error) {
    if (error instanceof OtlpError) return error;
    throw error;
  }
  throw new Error('it was accepted');
};
const decodeSpan = (fields: string) => {
  const body = jsonToProtobuf(
    'traces',
    Buffer.from(`{"resourceSpans":[{"scopeSpans":[{"spans":[${fields}]}]}]}`),
  );
  const decoded = fromBinary(referenceRequest('traces'), body) as unknown as {
    resourceSpans: { scopeSpans: { spans: Record<string, unknown>[] }[] }[];
  };
  return decoded.resourceSpans[0]!.scopeSpans[0]!.spans[0]!;
};

describe('jsonToProtobuf', () => {
  for (const signal of WALKED) {
    it(`converts ${signal} like the reference`, () => {
      fc.assert(
        fc.property(request(signal), ({ json, message }) => {
          const body = jsonToProtobuf(signal, Buffer.from(JSON.stringify(toOtlpJson(json))));
          walk(signal, body);
          const schema = referenceRequest(signal);
          // By their bytes: to the reference's own `equals`, two NaN differ.
          expect(toBinary(schema, fromBinary(schema, body))).toEqual(toBinary(schema, message));
        }),
        { numRuns: 400 },
      );
    });

    it(`rejects damaged ${signal}, or converts them to a valid request`, () => {
      fc.assert(
        fc.property(
          request(signal),
          fc.array(mutation, { minLength: 1, maxLength: 3 }),
          ({ json }, mutations) => {
            const damaged = mutations.reduce(mutate, Buffer.from(JSON.stringify(toOtlpJson(json))));
            let body: Buffer;
            try {
              body = jsonToProtobuf(signal, damaged);
            } catch (error) {
              expect(error).toBeInstanceOf(OtlpError);
              return;
            }
            // It is JSON for everybody else too, and a clean request.
            expect(() => JSON.parse(damaged.toString('utf8'))).not.toThrow();
            walk(signal, body);
          },
        ),
        { numRuns: 2_000 },
      );
    });
  }

  it('keeps every bit of 64-bit integers, as strings or bare numbers', () => {
    for (const written of ['"18446744073709551615"', '18446744073709551615']) {
      expect(decodeSpan(`{"startTimeUnixNano":${written}}`).startTimeUnixNano).toBe(18446744073709551615n);
    }
    expect(decodeSpan('{"startTimeUnixNano":1.5e3}').startTimeUnixNano).toBe(1500n);
    const attribute = (value: string) =>
      (
        decodeSpan(`{"attributes":[{"key":"k","value":{"intValue":${value}}}]}`) as {
          attributes: { value: { value: { value: bigint } } }[];
        }
      ).attributes[0]!.value.value.value;
    expect(attribute('-9223372036854775808')).toBe(-9223372036854775808n);
    expect(attribute('"9223372036854775807"')).toBe(9223372036854775807n);
    expect(attribute('-4294967296')).toBe(-4294967296n);
    expect(attribute('-1')).toBe(-1n);
  });

  it('keeps the sign of zero', () => {
    for (const written of ['-0', '-0.0', '"-0"']) {
      const { attributes } = decodeSpan(
        `{"attributes":[{"key":"k","value":{"doubleValue":${written}}}]}`,
      ) as {
        attributes: { value: { value: { value: number } } }[];
      };
      expect(attributes[0]!.value.value.value, written).toBe(-0);
    }
  });

  it('accepts ids in any case, both names of a field, null, enum names, and unknown fields', () => {
    const span = decodeSpan(
      '{"traceId":"5B8EFFF798038103D269B633813FC60C","span_id":"eee19b7ec3c1b174","kind":"SPAN_KIND_SERVER","name":null,"__proto__":{"x":[1,{}]},"new":"\\u0041"}',
    );
    expect(Buffer.from(span.traceId as Uint8Array).toString('hex')).toBe('5b8efff798038103d269b633813fc60c');
    expect(Buffer.from(span.spanId as Uint8Array).toString('hex')).toBe('eee19b7ec3c1b174');
    expect(span.kind).toBe(2);
    expect(span.name).toBe('');
    const escaped = decodeSpan(
      '{"spanId":"\\u0065EE19b7ec3c1b17\\u0034","startTimeUnixNano":"\\u0031\\u0032"}',
    );
    expect(Buffer.from(escaped.spanId as Uint8Array).toString('hex')).toBe('eee19b7ec3c1b174');
    expect(escaped).toMatchObject({ startTimeUnixNano: 12n });
  });

  it('writes a byte that is not UTF-8 for each half of a surrogate pair, in any context', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(fc.constantFrom('\ud800', '\udfff', 'a', 'é', '€', '😀'), fc.string({ unit: 'binary' })),
        ),
        (parts) => {
          const name = parts.join('');
          const json = JSON.stringify({ resourceLogs: [{ schemaUrl: name }] });
          const { body } = readJson('logs', Buffer.from(json), { lenient: true });
          const whole = [...name].map((each) => (each.isWellFormed() ? Buffer.from(each) : Buffer.of(0xff)));
          // Both messages have one field: tags and lengths stand before it.
          expect(body.subarray(body.byteLength - Buffer.concat(whole).byteLength)).toEqual(
            Buffer.concat(whole),
          );
        },
      ),
    );
  });

  it('reports the position and what was expected', () => {
    const at = (field: string) => `{"resourceSpans":[{"scopeSpans":[{"spans":[{},{${field}}]}]}]}`;
    const path = 'resourceSpans[0].scopeSpans[0].spans[1]';
    for (const [field, message] of [
      ['"name":5', `${path}.name: expected a string`],
      ['"traceId":"zz8efff798038103d269b633813fc60c"', `${path}.traceId: an id has a character`],
      ['"spanId":"abcd"', `${path}.spanId: an id of 4 hex digits; expected 16`],
      ['"startTimeUnixNano":"18446744073709551616"', `${path}.startTimeUnixNano: the integer does not fit`],
      ['"startTimeUnixNano":-1', `${path}.startTimeUnixNano: the integer does not fit`],
      ['"startTimeUnixNano":1.5', `${path}.startTimeUnixNano: "1.5" is not an integer`],
      ['"kind":"SERVER"', `${path}.kind: expected an integer, or one of`],
      ['"flags":4294967296', `${path}.flags: expected a fixed32`],
      ['"attributes":{}', `${path}.attributes: expected "["`],
      ['"name":"a","name":"b"', `${path}.name: the field is given twice`],
      ['"name":"\\x"', `${path}.name: a string has an invalid escape`],
      ['"name":"\\ud800"', `${path}.name: a string has half of a surrogate pair`],
      ['"kind":2147483648', `${path}.kind: expected an enum, from`],
      [
        '"attributes":[{"value":{"doubleValue":1e999}}]',
        `${path}.attributes[0].value.doubleValue: the number does not fit`,
      ],
      [
        '"attributes":[{"value":{"intValue":1,"boolValue":true}}]',
        `${path}.attributes[0].value.boolValue: expected one field of the oneof "value"`,
      ],
    ] as const) {
      expect(fault(at(field)).message).toContain(message);
    }
    expect(fault('').message).toContain('expected an object');
    expect(fault('{} x').message).toContain('unexpected data after the end');
    expect(fault('{"resourceSpans":[{"scopeSpans":[{"spans":[{}').message).toContain('expected');
    expect(fault(`{"x":${'['.repeat(100_000)}`).message).toContain('nested too deeply');
  });

  it('does not support JSON for profiles', () => {
    expect(() => jsonToProtobuf('profiles', Buffer.from('{}'))).toThrow(/JSON is not supported/);
  });
});

/** The value of an integer in the JSON mapping, or what is wrong with its text; slowly, by means of the language. */
function integerOf(text: string, [least, most]: readonly [bigint, bigint]): bigint | string {
  const none = `"${Buffer.from(text).toString('latin1').slice(0, 40)}" is not an integer`;
  const [, sign, whole, fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  if (whole === undefined || (text.length > 100 && !/^-?\d+$/.test(text))) return none;
  const tens = Number(exponent) - fraction.length;
  let value = BigInt(whole + fraction);
  // A text has at most 100 digits.
  const power = 10n ** BigInt(Math.min(Math.abs(tens), 200));
  if (tens < 0 && value % power !== 0n) return none;
  value = tens < 0 ? value / power : value * power;
  if (sign === '-') value = -value;
  if (value >= least && value <= most) return value;
  return `the integer does not fit; expected ${least < 0n ? 'a signed' : 'an unsigned'} one of 64 bits`;
}

it('reads every spelling of an integer exactly, and says what is wrong with the others', () => {
  const digits = fc.stringMatching(
    /^(0{0,3}|[0-9]{0,25}|1844674407370955161[0-9]|922337203685477580[0-9]|10{0,40})$/,
  );
  const spelling = fc
    .tuple(
      ...[fc.constantFrom('', '', '-', '+', ' '), digits, fc.constantFrom('', '', '.'), digits],
      ...[
        fc.constantFrom('', '', 'e', 'E', 'e-', 'e+', 'e--', 'é'),
        fc.oneof(fc.nat({ max: 30 }), fc.nat(), fc.constant('')),
      ],
      fc.constantFrom('', '', '', ' ', '.', 'x'),
    )
    .map((parts) => parts.join(''));
  const escaped = (text: string) => text.replace(/^./, (first) => `\\u00${first.charCodeAt(0).toString(16)}`);
  const bounds = { asInt: [-(2n ** 63n), 2n ** 63n - 1n], timeUnixNano: [0n, 2n ** 64n - 1n] } as const;
  fc.assert(
    fc.property(
      spelling,
      fc.constantFrom('asInt', 'timeUnixNano'),
      fc.integer({ min: 0, max: 2 }),
      (text, name, way) => {
        const isBare = way === 0 && /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text);
        const written = isBare ? text : `"${way === 1 ? text : escaped(text)}"`;
        const json = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"${name}":${written}}]}}]}]}]}`;
        const wanted = integerOf(text, bounds[name]);
        const { body, message } = readJson('metrics', Buffer.from(json), { lenient: true });
        if (typeof wanted === 'string') {
          expect(message).toBe(
            `resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0].${name}: ${wanted}`,
          );
          return;
        }
        expect(message).toBe('');
        const decoded = fromBinary(referenceRequest('metrics'), body) as unknown as Metrics;
        const point = decoded.resourceMetrics[0]!.scopeMetrics[0]!.metrics[0]!.data.value.dataPoints[0]!;
        expect(name === 'asInt' ? point.value.value : point.timeUnixNano).toBe(wanted);
      },
    ),
    { numRuns: 5_000 },
  );
});

it.each(['1e0', '1.0', '"1E0"', '10e-1', '1e19', '1e99', '1.5', '"x"'])(
  'makes no text, pattern or big integer for each of many integers: %s',
  (written) => {
    const made = (integers: number) => {
      const counts = Array(integers).fill(written).join();
      const json = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[${counts}]}]}}]}]}]}`;
      const spies = [
        vi.spyOn(Buffer.prototype, 'toString'),
        vi.spyOn(RegExp.prototype, 'exec'),
        vi.spyOn(globalThis, 'BigInt'),
      ];
      readJson('metrics', Buffer.from(json), { lenient: true });
      const calls = spies.map(({ mock }) => mock.calls.length);
      for (const spy of spies) spy.mockRestore();
      return calls;
    };
    expect(made(1_000)).toEqual(made(10));
  },
);

interface Metrics {
  resourceMetrics: {
    scopeMetrics: {
      metrics: { data: { value: { dataPoints: { timeUnixNano: bigint; value: { value: bigint } }[] } } }[];
    }[];
  }[];
}

describe('the size of the result', () => {
  const zeros = (n: number) =>
    Buffer.from(
      `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[0${',0'.repeat(n)}]}]}}]}]}]}`,
    );
  it.each([0, 10, 1_000, 100_000])('is bounded to the byte, with %i more numbers', (n) => {
    const json = zeros(n);
    const { byteLength } = jsonToProtobuf('metrics', json);
    expect(jsonToProtobuf('metrics', json, { maxBodyBytes: byteLength }).byteLength).toBe(byteLength);
    const less = () => jsonToProtobuf('metrics', json, { maxBodyBytes: byteLength - 1 });
    expect(less).toThrow(OtlpError);
    expect(less).toThrow(
      `larger than ${byteLength - 1} bytes when converted; send smaller batches or raise receiver.max_body`,
    );
  });
});
