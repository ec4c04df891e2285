const FRAME_MAGIC = 0xfd2fb528;
const HEADER_MAX_BYTES = 18;
/** Sizes of two header fields by the bits of the descriptor that tell them: RFC 8878, 3.1.1.1.1. */
const DICTIONARY_BYTES = [0, 1, 2, 4];
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const RLE_BLOCK = 1;

/** Where a frame's header has the size of its content, and in how many bytes. */
function contentSizeField(body: Buffer): { at: number; bytes: number } {
  const descriptor = body[4]!;
  const singleSegment = (descriptor & 0x20) !== 0;
  const at = 5 + (singleSegment ? 0 : 1) + DICTIONARY_BYTES[descriptor & 3]!;
  return { at, bytes: CONTENT_SIZE_BYTES[descriptor >>> 6]! || (singleSegment ? 1 : 0) };
}

/** The decompressed size that the first frame of a body declares; 0 if it declares none. */
export function declaredContentBytes(body: Buffer): number {
  if (body.byteLength < HEADER_MAX_BYTES || body.readUInt32LE(0) !== FRAME_MAGIC) return 0;
  const { at, bytes } = contentSizeField(body);
  if (bytes === 8) return Number(body.readBigUInt64LE(at));
  return bytes === 0 ? 0 : body.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0);
}

/**
 * Whether a body is one zstd frame and nothing else. Frames and blocks say how long they are, so that nothing is decompressed:
 * one step for each block, of up to 128 KiB.
 */
export function isOneFrame(body: Buffer): boolean {
  if (body.byteLength < 6 || body.readUInt32LE(0) !== FRAME_MAGIC) return false;
  const size = contentSizeField(body);
  let at = size.at + size.bytes;
  for (let last = false; !last; ) {
    if (at + 3 > body.byteLength) return false;
    const header = body.readUIntLE(at, 3);
    last = (header & 1) === 1;
    at += 3 + (((header >>> 1) & 3) === RLE_BLOCK ? 1 : header >>> 3);
  }
  return at + (body[4]! & 4 ? 4 : 0) === body.byteLength;
}
