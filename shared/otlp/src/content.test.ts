import { createHook } from 'node:async_hooks';
import { deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  borrowContent,
  type ContentEncoding,
  decodeContent,
  encodeContent,
  parseContentEncoding,
} from './content.ts';
import { OtlpError } from './error.ts';
import { ScratchGunzip } from './scratch-gunzip.ts';

const MAX = { maxBytes: 4 * 1024 * 1024 };
const COMPRESSED: ContentEncoding[] = ['gzip', 'deflate', 'zstd'];
const fault = async (
  body: Buffer,
  encoding: ContentEncoding,
  maxBytes = MAX.maxBytes,
): Promise<OtlpError> => {
  try {
    await decodeContent(body, encoding, { maxBytes });
  } catch (error) {
    if (error instanceof OtlpError) return error;
    throw error;
  }
  throw new Error('it was accepted');
};

describe('content encodings', () => {
  it('round-trip', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 5_000 }),
        fc.constantFrom(...COMPRESSED),
        async (bytes, encoding) => {
          const body = Buffer.from(bytes);
          expect(await decodeContent(await encodeContent(body, encoding), encoding, MAX)).toEqual(body);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('round-trip if they are too large for the synchronous path', async () => {
    const body = Buffer.alloc(3 * 1024 * 1024);
    for (let i = 0; i < body.byteLength; i += 4) body.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
    for (const encoding of COMPRESSED) {
      const wire = await encodeContent(body, encoding);
      expect(wire.byteLength).toBeGreaterThan(1024 * 1024);
      expect(body.equals(await decodeContent(wire, encoding, MAX))).toBe(true);
    }
  });

  it('may come in several gzip members and zstd frames, and as raw deflate', async () => {
    const [a, b] = [Buffer.from('first'), Buffer.from('second')];
    expect(String(await decodeContent(Buffer.concat([gzipSync(a), gzipSync(b)]), 'gzip', MAX))).toBe(
      'firstsecond',
    );
    const frames = Buffer.concat([zstdCompressSync(a), zstdCompressSync(b), zstdCompressSync(a)]);
    expect(String(await decodeContent(frames, 'zstd', MAX))).toBe('firstsecondfirst');
    const some = decodeContent(Buffer.concat(Array(16).fill(zstdCompressSync(a))), 'zstd', MAX);
    expect(String(some), 'in one turn').toBe('first'.repeat(16));
    const many = decodeContent(Buffer.concat(Array(250).fill(zstdCompressSync(a))), 'zstd', MAX);
    expect(many, 'not in one turn of the event loop').toBeInstanceOf(Promise);
    expect(String(await many)).toBe('first'.repeat(250));
    expect(String(await decodeContent(deflateRawSync(a), 'deflate', MAX))).toBe('first');
  });

  it('give the same result in borrowed buffers, valid or damaged, in sequence', async () => {
    const borrowed = async (wire: Buffer, encoding: ContentEncoding, maxBytes: number) => {
      try {
        return Buffer.from(await borrowContent(wire, encoding, { maxBytes }));
      } catch (error) {
        return (error as OtlpError).message;
      }
    };
    const decoded = async (wire: Buffer, encoding: ContentEncoding, maxBytes: number) => {
      try {
        return await decodeContent(wire, encoding, { maxBytes });
      } catch (error) {
        return (error as OtlpError).message;
      }
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 2_000 }), { minLength: 1, maxLength: 3 }),
        fc.constantFrom(...COMPRESSED),
        fc.nat(3_000),
        fc.option(fc.tuple(fc.nat(4_000), fc.nat(255)), { nil: undefined }),
        fc.constantFrom('whole', 'cut', 'trailing'),
        async (parts, encoding, maxBytes, damage, end) => {
          let wire = Buffer.concat(
            await Promise.all(parts.map((part) => encodeContent(Buffer.from(part), encoding))),
          );
          if (damage && wire.length > 0) wire[damage[0] % wire.length] = damage[1];
          if (end === 'cut') wire = wire.subarray(0, wire.length >> 1);
          if (end === 'trailing') wire = Buffer.concat([wire, Buffer.alloc(3)]);
          expect(await borrowed(wire, encoding, maxBytes)).toEqual(await decoded(wire, encoding, maxBytes));
        },
      ),
      { numRuns: 500 },
    );
    const large = Buffer.alloc(3 * 1024 * 1024, 'x');
    expect(large.equals(await borrowContent(gzipSync(large), 'gzip', MAX))).toBe(true);
  });

  it('reuse one decoder with the pinned version of Node', () => {
    const gunzip = new ScratchGunzip();
    for (const text of ['one', 'two', 'three']) {
      expect(String(gunzip.decompress(gzipSync(text), 100))).toBe(text);
      expect(gunzip.decompress(gzipSync(text).subarray(0, 21), 100)).toBeUndefined();
    }
  });

  it('are refused with 413 if they are bombs, at any size on the wire', async () => {
    const bomb = Buffer.alloc(64 * 1024 * 1024);
    for (const wire of [
      [gzipSync(bomb), 'gzip'],
      [deflateSync(bomb), 'deflate'],
      [zstdCompressSync(bomb), 'zstd'],
      [Buffer.concat(Array(9).fill(gzipSync(Buffer.alloc(500_000)))), 'gzip'],
      [Buffer.concat(Array(9).fill(zstdCompressSync(Buffer.alloc(500_000)))), 'zstd'],
    ] as [Buffer, ContentEncoding][]) {
      expect((await fault(...wire)).httpStatus).toBe(413);
    }
    expect((await fault(Buffer.alloc(11), 'identity', 10)).httpStatus).toBe(413);
    const empty = Buffer.concat(Array(300).fill(zstdCompressSync(Buffer.alloc(0))));
    expect((await fault(empty, 'zstd')).message).toContain('more than 256 frames');
  });

  it('are decompressed two at a time if large, so many together stay within the limit of one', async () => {
    const noise = Buffer.alloc(1_200_000);
    for (let i = 0; i < noise.byteLength; i += 4) noise.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
    const wires = await Promise.all(
      Array.from({ length: 12 }, async (_, i): Promise<[Buffer, ContentEncoding]> => {
        const encoding = COMPRESSED[i % COMPRESSED.length]!;
        return [await encodeContent(noise, encoding), encoding];
      }),
    );
    // Each decoder is an async resource of Node's: so many were made when that one began.
    let made = 0;
    const hook = createHook({
      init: (_id, type) => void (made += type === 'ZLIB' || type === 'ZSTD' ? 1 : 0),
    });
    hook.enable();
    let ended = 0;
    try {
      wires[7]![0][100_000]! ^= 0xff; // one that fails gives its turn back, too
      const all = wires.map(async ([wire, encoding]) => {
        await Promise.resolve(decodeContent(wire, encoding, MAX)).catch(() => {});
        ended++;
        expect(made).toBeLessThanOrEqual(ended + 3); // both may end, and the next begin, before either is seen here
      });
      expect(made).toBe(2);
      await Promise.all(all);
    } finally {
      hook.disable();
    }
    expect(made).toBe(12);
  });

  it('reserve memory in advance, and are decompressed off the event loop if they become large', async () => {
    const large = Buffer.alloc(60 * 1024 * 1024);
    const limits = { maxBytes: 64 * 1024 * 1024 };
    const lie = Buffer.concat([gzipSync(large), gzipSync('small')]); // its last member is small
    for (const [wire, encoding, declared] of [
      [zstdCompressSync(large), 'zstd', large.byteLength],
      [gzipSync(large), 'gzip', large.byteLength],
      [lie, 'gzip', 5],
      [deflateSync(large), 'deflate', 0],
    ] as [Buffer, ContentEncoding, number][]) {
      const full = new Error('no room');
      let made = 0;
      const hook = createHook({
        init: (_id, type) => void (made += type === 'ZLIB' || type === 'ZSTD' ? 1 : 0),
      }).enable();
      let asked: number[] = [];
      try {
        const refused = (async () =>
          decodeContent(wire, encoding, {
            ...limits,
            reserve: (bytes) => {
              asked.push(bytes);
              if (bytes > 1_000_000 || asked.length > 4) throw full;
            },
          }))();
        await expect(refused).rejects.toBe(full);
        if (declared > 1_000_000) expect([asked, made]).toEqual([[declared], 0]);
      } finally {
        hook.disable();
      }
      asked = [];
      const decoding = decodeContent(wire, encoding, { ...limits, reserve: (bytes) => asked.push(bytes) });
      expect(decoding).toBeInstanceOf(Promise);
      const { byteLength } = await decoding;
      expect(asked[0]).toBe(declared);
      expect(asked.reduce((sum, bytes) => sum + bytes)).toBe(byteLength);
    }
  });

  it('are decompressed and compressed off the event loop if that may take long, whatever their size', async () => {
    const bytes = 200_000;
    const nothing = Buffer.concat([
      gzipSync('').subarray(0, 10),
      Buffer.alloc(bytes, Buffer.from([0, 0, 0, 0xff, 0xff])), // empty stored blocks
      gzipSync('').subarray(10),
    ]);
    for (const decode of [decodeContent, borrowContent]) {
      const decoding = decode(nothing, 'gzip', MAX);
      expect(decoding).toBeInstanceOf(Promise);
      expect((await decoding).byteLength).toBe(0);
    }
    for (const encoding of COMPRESSED) {
      let made = 0;
      const hook = createHook({ init: (_id, type) => void (made += /^ZLIB|^ZSTD/.test(type) ? 1 : 0) });
      hook.enable();
      const encoded = encodeContent(Buffer.alloc(bytes), encoding);
      hook.disable();
      expect(made, encoding).toBe(1);
      expect((await decodeContent(await encoded, encoding, MAX)).byteLength).toBe(bytes);
    }
  });

  it('may declare more than their actual size, which only reserves memory', async () => {
    const wire = gzipSync('small');
    wire.writeUInt32LE(20_000, wire.byteLength - 4);
    const asked: number[] = [];
    const decoding = (async () =>
      decodeContent(wire, 'gzip', { ...MAX, reserve: (bytes) => asked.push(bytes) }))();
    await expect(decoding).rejects.toThrow(/not valid gzip/);
    expect(asked).toEqual([20_000]);
  });

  it('are refused with 400 if they do not match their label', async () => {
    const plain = Buffer.from('not compressed at all');
    for (const encoding of COMPRESSED) {
      expect((await fault(plain, encoding)).message).toContain(`not valid ${encoding}`);
      const wire = await encodeContent(plain, encoding);
      expect((await fault(wire.subarray(0, -3), encoding)).httpStatus).toBe(400);
      expect((await fault(Buffer.concat([wire, Buffer.from('trailing')]), encoding)).httpStatus).toBe(400);
    }
    expect((await fault(Buffer.alloc(0), 'zstd')).httpStatus).toBe(400);
    expect((await fault(Buffer.alloc(0), 'gzip')).httpStatus).toBe(400);
  });

  it('never fail in another way', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom(...COMPRESSED),
        fc.boolean(),
        async (bytes, encoding, begun) => {
          const wire = begun
            ? Buffer.concat([(await encodeContent(Buffer.from('begun'), encoding)).subarray(0, 12), bytes])
            : Buffer.from(bytes);
          try {
            await decodeContent(wire, encoding, MAX);
          } catch (error) {
            expect(error).toBeInstanceOf(OtlpError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('are selected by the header, in any case; unknown ones get 415', () => {
    expect(parseContentEncoding(undefined)).toBe('identity');
    expect(parseContentEncoding(' GZIP ')).toBe('gzip');
    expect(['zlib', 'x-gzip', 'ZLIB'].map(parseContentEncoding)).toEqual(['deflate', 'gzip', 'deflate']);
    for (const list of ['gzip, identity', 'identity,gzip', 'gzip,', ' , x-gzip ,IDENTITY,'])
      expect(parseContentEncoding(list)).toBe('gzip');
    for (const none of [',', 'identity, identity']) expect(parseContentEncoding(none)).toBe('identity');
    for (const name of [
      'gzip, gzip',
      'gzip;q=1',
      'gzip, br',
      'snappy',
      'x-snappy-framed',
      'lz4',
      '__proto__',
      'constructor',
    ])
      expect(() => parseContentEncoding(name)).toThrow(/expected identity, gzip, deflate, zstd/);
    expect(() => parseContentEncoding('br')).toThrow(/expected identity, gzip, deflate, zstd/);
  });
});
