/** Gzip members of every make, for properties. */
import { crc32, deflateRawSync, gzipSync, constants as zlib } from 'node:zlib';
import fc from 'fast-check';

export interface GzipBody {
  plain: Buffer;
  /** One member, without optional header fields. */
  member: Buffer;
}

const text = fc
  .array(fc.oneof(fc.constantFrom('http.request.method', 'GET', 'service.name', '\n'), fc.string()), {
    maxLength: 2_000,
  })
  .map((words) => Buffer.from(words.join('')));
const noise = fc.uint8Array({ maxLength: 20_000 }).map((bytes) => Buffer.from(bytes));
const run = fc
  .tuple(fc.nat({ max: 255 }), fc.nat({ max: 300_000 }))
  .map(([byte, length]) => Buffer.alloc(length, byte));
/** Codes of few symbols, up to an end that is as frequent as they are. */
const stretches = fc
  .array(fc.tuple(fc.constantFrom(0, 1, 97), fc.integer({ min: 1, max: 400 })), { maxLength: 200 })
  .map((all) => Buffer.concat(all.map(([byte, length]) => Buffer.alloc(length, byte))));
export const plainBody = fc.oneof(text, noise, run, stretches);

const howCompressed = fc.record({
  level: fc.integer({ min: 0, max: 9 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
  windowBits: fc.integer({ min: 9, max: 15 }),
  strategy: fc.constantFrom(
    zlib.Z_DEFAULT_STRATEGY,
    zlib.Z_HUFFMAN_ONLY,
    zlib.Z_RLE,
    zlib.Z_FIXED,
    zlib.Z_FILTERED,
  ),
});
const compressedPiece = fc.record({
  plain: plainBody,
  how: howCompressed,
  finishFlush: fc.constantFrom(zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH),
});

/** Flushed after each of some pieces, the last of which may be empty. */
const flushed = fc
  .array(compressedPiece, { minLength: 1, maxLength: 4 })
  .chain((pieces) => fc.tuple(fc.constant(pieces), fc.oneof(plainBody, fc.constant(Buffer.alloc(0)))))
  .map(([pieces, end]): GzipBody => {
    const plain = Buffer.concat([...pieces.map(({ plain }) => plain), end]);
    const blocks = pieces.map(({ plain, how, finishFlush }) =>
      deflateRawSync(plain, { ...how, finishFlush }),
    );
    const trailer = Buffer.alloc(8);
    trailer.writeUInt32LE(crc32(plain), 0);
    trailer.writeUInt32LE(plain.byteLength, 4);
    const header = gzipSync('').subarray(0, 10);
    return { plain, member: Buffer.concat([header, ...blocks, deflateRawSync(end), trailer]) };
  });

export const gzipBody = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(plainBody, howCompressed)
      .map(([plain, how]) => ({ plain, member: gzipSync(plain, how) })),
  },
  { weight: 1, arbitrary: flushed },
);

/**
 * The same member with other bits behind its last block, in what is left of that byte.
 * @param to the first bit behind the block
 */
export function withPadding(member: Buffer, to: number, padding: number): Buffer {
  const padded = Buffer.from(member);
  if (to % 8 > 0) padded[to >>> 3]! |= (padding << (to % 8)) & 0xff;
  return padded;
}
