/** Where blocks end, found from the end of their stream and by following every code. */
import { gunzipSync, gzipSync, constants as zlib } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gzipBody, plainBody, withPadding } from '../test/gzip-bodies.ts';
import { findBlocks } from './deflate-blocks.ts';

const HEADER_BITS = 80;
const TRAILER_BYTES = 8;

const ends = (member: Buffer) => {
  const end = member.byteLength - TRAILER_BYTES;
  return {
    known: findBlocks(member, HEADER_BITS, end),
    followed: findBlocks(member, HEADER_BITS),
  };
};

describe('the blocks of a stream whose end is known', () => {
  it('match those found by following every code, for any compressor', () => {
    fc.assert(
      fc.property(gzipBody, ({ member }) => {
        const { known, followed } = ends(member);
        expect(known).toBeDefined();
        expect(known).toEqual(followed);
        expect(Math.ceil(known!.to / 8)).toBe(member.byteLength - TRAILER_BYTES);
      }),
      { numRuns: 300 },
    );
  });

  it('do not depend on the unused bits of the last byte', () => {
    fc.assert(
      fc.property(gzipBody, fc.nat({ max: 255 }), ({ member, plain }, padding) => {
        const before = findBlocks(member, HEADER_BITS)!;
        const padded = withPadding(member, before.to, padding);
        expect(gunzipSync(padded).equals(plain)).toBe(true);
        expect(ends(padded)).toEqual({ known: before, followed: before });
      }),
      { numRuns: 300 },
    );
  });

  it('are found if the end code is all zeros, as in fixed codes and where nothing is more frequent', () => {
    const fixed = gzipSync(Buffer.from('a few words, and a few words'), { strategy: zlib.Z_FIXED });
    // One byte value in one block, in matches of every length: the end is no rarer than they are.
    const stretches = Buffer.concat(
      Array.from({ length: 60 }, (_, i) => Buffer.from(`${'\0'.repeat(i + 3)}\u0001`)),
    );
    for (const member of [fixed, gzipSync(stretches), gzipSync(Buffer.alloc(0)), gzipSync('a'.repeat(1e5))]) {
      const { known, followed } = ends(member);
      expect(known).toBeDefined();
      expect(known).toEqual(followed);
    }
  });

  it('are not found if the stream ends elsewhere', () => {
    fc.assert(
      fc.property(plainBody, fc.integer({ min: 1, max: 20 }), (plain, more) => {
        const member = gzipSync(plain, { strategy: zlib.Z_FIXED });
        const longer = Buffer.concat([member, Buffer.alloc(more)]);
        expect(findBlocks(longer, HEADER_BITS, longer.byteLength - TRAILER_BYTES)).toBeUndefined();
      }),
    );
  });
});

it('never reads outside its buffer', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 400 }), fc.boolean(), (bytes, isKnown) => {
      const body = Buffer.from(bytes);
      const end = body.byteLength - TRAILER_BYTES;
      const found = findBlocks(body, 0, isKnown ? end : undefined);
      if (found) expect(found.to).toBeLessThanOrEqual(end * 8);
    }),
    { numRuns: 2_000 },
  );
});
