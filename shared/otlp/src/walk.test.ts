import { fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countItems, mutate, mutation, request, WALKED } from '../test/arbitrary.ts';
import { referenceRequest } from '../test/reference.ts';
import { OtlpError } from './error.ts';
import { walk } from './walk.ts';

const tag = (number: number, wireType: number) => number * 8 + wireType;
const message = (number: number, ...content: (number | number[])[]) => {
  const bytes = content.flat();
  return [tag(number, 2), bytes.length, ...bytes];
};
const fault = (bytes: number[], maxDepth?: number): OtlpError => {
  try {
    walk('traces', Uint8Array.from(bytes), maxDepth === undefined ? {} : { maxDepth });
  } catch (error) {
    if (error instanceof OtlpError) return error;
    throw error;
  }
  throw new Error('it was accepted');
};

describe('walk', () => {
  for (const signal of WALKED) {
    it(`accepts every ${signal} request and counts like the reference`, () => {
      fc.assert(
        fc.property(request(signal), ({ bytes, message: reference }) => {
          expect(walk(signal, bytes).items).toBe(countItems(signal, reference));
        }),
        { numRuns: 400 },
      );
    });

    it(`accepts damaged ${signal} only if the reference does, and then counts the same`, () => {
      fc.assert(
        fc.property(
          request(signal),
          fc.array(mutation, { minLength: 1, maxLength: 3 }),
          ({ bytes }, mutations) => {
            const damaged = mutations.reduce(mutate, bytes);
            let items: number | undefined;
            try {
              items = walk(signal, damaged).items;
            } catch (error) {
              expect(error).toBeInstanceOf(OtlpError);
              expect((error as OtlpError).httpStatus).toBe(400);
              return;
            }
            const reference = fromBinary(referenceRequest(signal), damaged);
            const counted = countItems(signal, reference);
            // A metric whose data is given twice keeps the last kind, or merges one kind: the walk counts both.
            if (signal === 'metrics') expect(items).toBeGreaterThanOrEqual(counted);
            else expect(items).toBe(counted);
          },
        ),
        { numRuns: 3_000 },
      );
    });

    it(`counts concatenated ${signal} requests as one`, () => {
      fc.assert(
        fc.property(request(signal), request(signal), (a, b) => {
          const both = Buffer.concat([a.bytes, b.bytes]);
          expect(walk(signal, both).items).toBe(walk(signal, a.bytes).items + walk(signal, b.bytes).items);
        }),
        { numRuns: 100 },
      );
    });
  }

  it('reports the error and its position', () => {
    const span = (...content: number[]) => message(1, message(2, message(2, content)));
    expect(fault(span(tag(5, 2), 9, 0x61)).message).toMatch(
      /^resource_spans\[0\]\.scope_spans\[0\]\.spans\[0\]\.name: the bytes end in the middle of a field/,
    );
    expect(fault(span(tag(7, 0), 1)).message).toMatch(/start_time_unix_nano: the field has a wire type/);
    expect(fault(span(tag(5, 2), 1, 0xff)).message).toMatch(/name: a string is not valid UTF-8/);
    expect(fault([tag(1, 3)]).message).toMatch(/^resource_spans\[0\]: the field has a wire type/);
    expect(fault([tag(9, 3)]).message).toMatch(/^field 9: groups are not part of OTLP/);
    expect(fault([tag(9, 7)]).message).toMatch(/wire type 7 does not exist/);
    expect(fault([0, 1]).message).toMatch(/field number 0/);
    expect(fault([0xff, 0xff, 0xff, 0xff, 0x7f]).message).toMatch(/out of range/);
    expect(fault([0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).message).toMatch(/out of range/);
    expect(fault([tag(9, 0), ...Array(9).fill(0xff), 2]).message).toMatch(/more than 64 bits/);
    expect(fault([tag(9, 2), 0x81, ...Array(4).fill(0x80), 0, 0x61]).message).toMatch(/longer than 5 bytes/);
    expect(fault([tag(9, 0), ...Array(10).fill(0xff), 1]).message).toMatch(/longer than 10 bytes/);
  });

  it('rejects messages that are nested too deeply, and accepts others', () => {
    const nested = (depth: number): number[] => {
      let value: number[] = [];
      for (let i = 0; i < depth; i++) {
        const array = Buffer.from(value);
        value = [
          tag(5, 2),
          ...varint(array.byteLength + 1 + varint(array.byteLength).length),
          tag(1, 2),
          ...varint(array.byteLength),
          ...array,
        ];
      }
      const attribute = [tag(2, 2), ...varint(value.length), ...value];
      const resource = [tag(1, 2), ...varint(attribute.length), ...attribute];
      const resourceSpans = [tag(1, 2), ...varint(resource.length), ...resource];
      return [tag(1, 2), ...varint(resourceSpans.length), ...resourceSpans];
    };
    expect(() => walk('traces', Uint8Array.from(nested(29)))).not.toThrow();
    expect(fault(nested(31)).message).toMatch(/nested too deeply/);
    expect(fault(nested(5_000)).message).toMatch(/nested too deeply/);
  });

  it('accepts packed and unpacked fields, explicit defaults, long varints, and any field order', () => {
    const point = [
      tag(6, 1),
      ...Array(8).fill(1),
      tag(6, 2),
      16,
      ...Array(16).fill(2),
      tag(10, 0),
      0x80,
      0x00,
    ];
    const histogram = message(9, message(1, point));
    const body = message(1, message(2, message(2, histogram, tag(1, 2), 0x81, 0x00, 0x6d)), message(1));
    expect(walk('metrics', Uint8Array.from(body)).items).toBe(1);
  });

  it('counts profiles by request, whatever their content', () => {
    expect(walk('profiles', Uint8Array.of(255, 1, 2)).items).toBe(1);
    expect(walk('profiles', new Uint8Array(0)).items).toBe(0);
  });
});

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return [...bytes, rest];
}
