/** One body of several: what a server that reads one gzip member, or one zstd frame, gets of it. */
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import {
  createGzip,
  type createInflateRaw,
  gunzipSync,
  gzipSync,
  inflateRawSync,
  constants as zlib,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gzipBody, withPadding } from '../test/gzip-bodies.ts';
import { findBlocks } from './deflate-blocks.ts';
import { asOneStream } from './merge.ts';

const LIMITS = { maxBytes: 64 * 1024 * 1024 };
const GZIP_HEADER_BYTES = 10;
const GZIP_TRAILER_BYTES = 8;

/** What a reader that knows nothing of a second member makes of a body without optional header fields. */
function firstMember(body: Buffer): { plain: Buffer; left: number } {
  const { buffer, engine } = inflateRawSync(body.subarray(GZIP_HEADER_BYTES), { info: true }) as unknown as {
    buffer: Buffer;
    engine: ReturnType<typeof createInflateRaw>;
  };
  return {
    plain: buffer,
    left: body.byteLength - GZIP_HEADER_BYTES - engine.bytesWritten - GZIP_TRAILER_BYTES,
  };
}

describe('several gzip bodies', () => {
  it('become one member with all their content, for any compressor', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(gzipBody, fc.nat({ max: 255 })), { minLength: 2, maxLength: 6 }),
        async (bodies) => {
          const members = bodies.map(([{ member }, padding]) =>
            withPadding(member, findBlocks(member, GZIP_HEADER_BYTES * 8)!.to, padding),
          );
          const whole = Buffer.concat(bodies.map(([{ plain }]) => plain));
          const joined = await asOneStream(members, 'gzip', LIMITS);
          expect(gunzipSync(joined).equals(whole)).toBe(true); // its CRC and size too
          expect(firstMember(joined).plain.equals(whole)).toBe(true);
          expect(firstMember(joined).left).toBe(0);
          // Not compressed anew: at most a few bytes for each joint.
          expect(joined.byteLength).toBeLessThanOrEqual(
            members.reduce((sum, { byteLength }) => sum + byteLength, 0) + 8,
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  it('with more blocks than any compressor makes are recompressed off the event loop, few per turn', async () => {
    const [head, empty] = [gzipSync('').subarray(0, GZIP_HEADER_BYTES), Buffer.from([0, 0, 0, 0xff, 0xff])];
    const { member, plain } = { plain: Buffer.from('what is in them'), member: gzipSync('what is in them') };
    const withBlocks = (blocks: number) =>
      Buffer.concat([head, Buffer.alloc(blocks * 5, empty), member.subarray(GZIP_HEADER_BYTES)]);
    const many = withBlocks(10_000);
    expect(gunzipSync(many)).toEqual(plain);
    const whole = await asOneStream([member, many], 'gzip', LIMITS);
    expect(firstMember(whole)).toEqual({ plain: Buffer.concat([plain, plain]), left: 0 });
    expect(whole.byteLength).toBeLessThan(100);

    const bodies = Array.from({ length: 40 }, () => withBlocks(1_000));
    let turns = 0;
    let isOver = false;
    const count = () => void (++turns && !isOver && setImmediate(count));
    setImmediate(count);
    const joined = await asOneStream(bodies, 'gzip', LIMITS);
    isOver = true;
    expect(turns).toBeGreaterThan(20);
    expect(joined.byteLength).toBeGreaterThan(200_000);
    expect(firstMember(joined)).toEqual({ plain: Buffer.concat(bodies.map(() => plain)), left: 0 });
  });

  it('that were flushed during compression become one member', async () => {
    for (const kind of [zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK]) {
      const gzip = createGzip();
      for (const word of ['first', 'second', 'third']) {
        gzip.write(word.repeat(50));
        await new Promise<void>((resolve) => gzip.flush(kind, resolve));
      }
      gzip.end();
      const body = await buffer(gzip);
      const joined = await asOneStream([body, gzipSync('a'), body], 'gzip', LIMITS);
      const plain = gunzipSync(body).toString();
      expect(gunzipSync(joined).toString()).toBe(`${plain}a${plain}`);
      expect(firstMember(joined)).toMatchObject({ left: 0, plain: gunzipSync(joined) });
    }
  });

  it('a client body of several members becomes one; a body of one member is unchanged', async () => {
    const parts = ['first ', 'second ', 'third'].map((word) => gzipSync(word.repeat(50)));
    const one = await asOneStream([Buffer.concat(parts)], 'gzip', LIMITS);
    expect(firstMember(one)).toEqual({ plain: gunzipSync(Buffer.concat(parts)), left: 0 });
    expect(await asOneStream([parts[0]!], 'gzip', LIMITS)).toBe(parts[0]);
  });

  it('names, comments and extra fields of a header are skipped', async () => {
    const member = gzipSync('what is in it');
    const extra = Buffer.from([4, 0, 1, 2, 0x1f, 0x8b]);
    const header = Buffer.concat([
      member.subarray(0, GZIP_HEADER_BYTES),
      extra,
      Buffer.from('name\0comment\0'),
    ]);
    header[3] = 4 | 8 | 16;
    const labelled = Buffer.concat([header, member.subarray(GZIP_HEADER_BYTES)]);
    const joined = await asOneStream([labelled, member], 'gzip', LIMITS);
    expect(firstMember(joined).plain.toString()).toBe('what is in itwhat is in it');
  });

  it('a large body goes through zlib, within the limit on its decompressed size', async () => {
    const noisy = gzipSync(randomBytes(2_000_000));
    expect(noisy.byteLength).toBeGreaterThan(1024 * 1024);
    const joined = await asOneStream([noisy, gzipSync('end')], 'gzip', LIMITS);
    expect(firstMember(joined)).toMatchObject({ left: 0, plain: { byteLength: 2_000_003 } });
    await expect(asOneStream([noisy, noisy], 'gzip', { maxBytes: 1_000_000 })).rejects.toThrow(
      /larger than 1000000/,
    );
  });

  it('damage causes an error, never a different body', async () => {
    const member = gzipSync(Buffer.from('abc'.repeat(5_000) + Math.PI));
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: member.byteLength - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, flip) => {
          const damaged = Buffer.from(member);
          damaged[at]! ^= flip;
          let joined: Buffer;
          try {
            joined = await asOneStream([member, damaged], 'gzip', LIMITS);
          } catch {
            return; // what it was made of cannot be read either
          }
          // What was joined says by its CRC that it is not whole, unless the damage was where nothing is read.
          try {
            expect(gunzipSync(joined).equals(Buffer.concat([gunzipSync(member), gunzipSync(damaged)]))).toBe(
              true,
            );
          } catch (error) {
            expect((error as NodeJS.ErrnoException).code).toMatch(/^Z_/);
          }
        },
      ),
    );
  });
});

describe('zstd', () => {
  it('several frames become one; one frame is unchanged', async () => {
    const frames = ['first ', 'second '].map((word) => zstdCompressSync(Buffer.from(word.repeat(50_000))));
    const checked = zstdCompressSync(Buffer.from('x'), { params: { [zlib.ZSTD_c_checksumFlag]: 1 } });
    for (const frame of [...frames, checked]) expect(await asOneStream([frame], 'zstd', LIMITS)).toBe(frame);
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]);
    for (const bodies of [frames, [Buffer.concat(frames)], [Buffer.concat([...frames, skippable])]]) {
      const one = await asOneStream(bodies, 'zstd', LIMITS);
      // Node's zstd ends at the first frame.
      expect(zstdDecompressSync(one).toString()).toBe('first '.repeat(50_000) + 'second '.repeat(50_000));
    }
  });
});

it('uncompressed bodies are concatenated', async () => {
  const one = Buffer.from('a');
  expect(await asOneStream([one], 'identity', LIMITS)).toBe(one);
  expect((await asOneStream([one, Buffer.from('b')], 'identity', LIMITS)).toString()).toBe('ab');
});
