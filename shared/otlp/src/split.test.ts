import { fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { request, WALKED } from '../test/arbitrary.ts';
import { referenceRequest } from '../test/reference.ts';
import { splitRequest } from './split.ts';
import { walk } from './walk.ts';

describe('splitRequest', () => {
  for (const signal of WALKED) {
    it(`splits ${signal} into two requests that hold every item once, down to single items`, () => {
      fc.assert(
        fc.property(request(signal), ({ bytes }) => {
          const total = walk(signal, bytes).items;
          const halves = splitRequest(signal, bytes);
          if (total < 2) {
            expect(halves).toBeUndefined();
            return;
          }
          const [a, b] = halves!.map((half) => walk(signal, half).items) as [number, number];
          expect(a).toBeGreaterThan(0);
          expect(b).toBeGreaterThan(0);
          expect(a + b).toBe(total);
          // Single items at the end of cutting are the same, whichever way.
          expect(singles(signal, bytes)).toHaveLength(total);
        }),
        { numRuns: 300 },
      );
    });

    it(`keeps resource and scope of the items of ${signal}`, () => {
      fc.assert(
        fc.property(request(signal), ({ bytes }) => {
          const schema = referenceRequest(signal);
          for (const single of singles(signal, bytes)) {
            const decoded = fromBinary(schema, single);
            const again = fromBinary(schema, toBinary(schema, decoded));
            expect(toBinary(schema, again)).toEqual(toBinary(schema, decoded));
          }
        }),
        { numRuns: 100 },
      );
    });
  }

  it('does not split profiles', () => {
    expect(splitRequest('profiles', Buffer.from('anything'))).toBeUndefined();
  });
});

function singles(signal: 'traces' | 'metrics' | 'logs', bytes: Uint8Array): Buffer[] {
  const halves = splitRequest(signal, bytes);
  if (!halves) return walk(signal, bytes).items > 0 ? [Buffer.from(bytes)] : [];
  return halves.flatMap((half) => singles(signal, half));
}
