import type { Transform } from 'node:stream';
import { promisify } from 'node:util';
import {
  type BrotliOptions,
  constants,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  deflate,
  deflateSync,
  gunzipSync,
  gzip,
  gzipSync,
  inflateRawSync,
  inflateSync,
  type ZlibOptions,
  type ZstdOptions,
  zstdCompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import { GRPC, malformed, OtlpError, oversized } from './error.ts';
import { joinInTurns } from './join.ts';
import { ScratchGunzip } from './scratch-gunzip.ts';

/** How a body is compressed, by its name in `Content-Encoding`. */
export type ContentEncoding = 'identity' | 'gzip' | 'deflate' | 'zstd';
export const CONTENT_ENCODINGS: readonly ContentEncoding[] = ['identity', 'gzip', 'deflate', 'zstd'];

/**
 * Up to this, as it comes and as it becomes, the synchronous forms cost half the CPU of the asynchronous ones and hold up the
 * event loop for some ms at most.
 */
const SYNC_MAX_BYTES = 1024 * 1024;
/**
 * The same for what is compressed: a block of deflate or zstd takes some µs however little is in it, and has as few as eleven bytes.
 * 1 MiB of empty ones took 72 ms, this much takes 9.
 */
const SYNC_MAX_WIRE_BYTES = 128 * 1024;
/** And for what is to be compressed, which takes gzip 30 ns a byte as a rule, and 190 where somebody has seen to it. */
const SYNC_ENCODE_MAX_BYTES = 128 * 1024;
/** Large bodies that are decompressed at once; what waits is no larger than it came. */
const LARGE_AT_ONCE = 2;
/** One output chunk for the usual body. */
const CHUNK_BYTES = 320 * 1024;
/** 8 MiB: the largest window that zstd's own specification asks decoders to support. */
const ZSTD_WINDOW_LOG_MAX = 23;
/** Each frame costs a decoder of its own, however little is in it. */
const ZSTD_MAX_FRAMES = 256;
const ZSTD_MAGIC = 0xfd2fb528;
const ZSTD_HEADER_MAX_BYTES = 18;
const GZIP_MEMBER_MIN_BYTES = 18;
const DEFLATE_RATIO_MAX = 1_032;

type Finished = { buffer: Buffer; engine: { bytesWritten: number } };
type Options = (ZlibOptions & ZstdOptions & BrotliOptions) & { info: true };

interface Decoder {
  sync(input: Buffer, options: Options): Finished;
  stream(options: Options): Transform & { bytesWritten: number };
}

function decoder(sync: unknown, stream: unknown): Decoder {
  // `info: true` makes zlib give { buffer, engine }, which its types do not tell.
  return { sync, stream } as Decoder;
}

const GUNZIP = decoder(gunzipSync, createGunzip);
const INFLATE = decoder(inflateSync, createInflate);
const INFLATE_RAW = decoder(inflateRawSync, createInflateRaw);
const UNZSTD = decoder(zstdDecompressSync, createZstdDecompress);

export interface DecodeLimits {
  maxBytes: number;
  /** Told of memory before it is used: what a body says that it will be, and what it becomes beyond that. May throw. */
  reserve?(bytes: number): void;
}

/**
 * Reads a `Content-Encoding` header.
 * @throws OtlpError 415 for one that is not supported
 */
export function parseContentEncoding(header: string | undefined): ContentEncoding {
  const name = (header ?? '').trim().toLowerCase();
  if (name === '') return 'identity';
  const other = OTHER_NAMES[name];
  if (other) return other;
  const known = CONTENT_ENCODINGS.find((encoding) => encoding === name);
  if (known) return known;
  throw new OtlpError({
    code: 'content_encoding',
    httpStatus: 415,
    grpcCode: GRPC.UNIMPLEMENTED,
    message: `Content-Encoding "${name.slice(0, 40)}" is not supported; expected ${CONTENT_ENCODINGS.join(', ')}`,
  });
}

/** What some senders call them. */
const OTHER_NAMES: Readonly<Record<string, ContentEncoding>> = Object.assign(Object.create(null), {
  'x-gzip': 'gzip',
  zlib: 'deflate',
  'x-deflate': 'deflate',
  'x-zstd': 'zstd',
});

let scratchGunzip: ScratchGunzip | undefined;

/**
 * Decompresses a body that is only looked at: what comes back at once may be a view of a buffer that the next call
 * overwrites. Otherwise as `decodeContent`.
 */
export function borrowContent(
  body: Buffer,
  encoding: ContentEncoding,
  limits: DecodeLimits,
): Buffer | Promise<Buffer> {
  if (encoding !== 'gzip' || body.byteLength > SYNC_MAX_WIRE_BYTES)
    return decodeContent(body, encoding, limits);
  scratchGunzip ??= new ScratchGunzip();
  const decoded = scratchGunzip.decompress(body, limits.maxBytes);
  if (decoded === undefined) return decodeContent(body, encoding, limits);
  limits.reserve?.(decoded.byteLength); // of the one buffer that is there anyway
  return decoded;
}

/**
 * Decompresses a body; several gzip members and several zstd frames are one body. Small ones at once, those that are or
 * become large off the main thread, each of their chunks reserved as it comes.
 * @throws OtlpError 413 when the result would be larger than `maxBytes`, 400 when the bytes are damaged; what `reserve` throws
 */
export function decodeContent(
  body: Buffer,
  encoding: ContentEncoding,
  limits: DecodeLimits,
): Buffer | Promise<Buffer> {
  const { maxBytes, reserve = () => {} } = limits;
  if (encoding === 'identity') {
    if (body.byteLength > maxBytes) throw tooLarge(maxBytes);
    return body;
  }
  const declared = declaredBytes(body, encoding);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  reserve(declared);
  const decoder =
    encoding === 'zstd' ? UNZSTD : encoding === 'gzip' ? GUNZIP : hasZlibHeader(body) ? INFLATE : INFLATE_RAW;
  if (body.byteLength <= SYNC_MAX_WIRE_BYTES && declared <= SYNC_MAX_BYTES) {
    const decoded = decodeSync(body, encoding, decoder, Math.min(maxBytes, SYNC_MAX_BYTES));
    if (decoded) {
      reserve(Math.max(0, decoded.byteLength - declared));
      return decoded;
    }
    if (maxBytes <= SYNC_MAX_BYTES) throw tooLarge(maxBytes);
  }
  return inTurn(() => decodeInChunks(body, encoding, decoder, maxBytes, declared, reserve));
}

/** The size that a body says it has when it is decompressed; 0 when it says nothing. It may be wrong. */
function declaredBytes(body: Buffer, encoding: ContentEncoding): number {
  // gzip: of the last member, at the end. More than deflate can pack into so many bytes is the end of something else.
  if (encoding === 'gzip' && body.byteLength >= GZIP_MEMBER_MIN_BYTES) {
    const bytes = body.readUInt32LE(body.byteLength - 4);
    return isGzip(body) && bytes <= DEFLATE_RATIO_MAX * body.byteLength ? bytes : 0;
  }
  if (encoding !== 'zstd' || body.byteLength < ZSTD_HEADER_MAX_BYTES || body.readUInt32LE(0) !== ZSTD_MAGIC)
    return 0;
  // zstd: of the first frame (RFC 8878, 3.1.1.1).
  const descriptor = body[4]!;
  const isSingle = (descriptor & 0x20) !== 0;
  const at = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  switch (descriptor >> 6) {
    case 0:
      return isSingle ? body[at]! : 0;
    case 1:
      return body.readUInt16LE(at) + 256;
    case 2:
      return body.readUInt32LE(at);
    default:
      return Number(body.readBigUInt64LE(at));
  }
}

/** @returns undefined when it would be larger than `maxBytes` */
function decodeSync(
  body: Buffer,
  encoding: ContentEncoding,
  decoder: Decoder,
  maxBytes: number,
): Buffer | undefined {
  const parts: Buffer[] = [];
  let left = maxBytes;
  let at = 0;
  // zlib's zstd ends at the first frame and says nothing about the rest: how much it read tells where the next begins.
  while (at < body.byteLength || at === 0) {
    let finished: Finished;
    try {
      finished = decoder.sync(body.subarray(at), optionsFor(encoding, left));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined;
      throw explain(error, encoding);
    }
    at += consumed(body.byteLength - at, encoding, finished.engine.bytesWritten, parts.length);
    left -= finished.buffer.byteLength;
    if (left < 0) return undefined;
    parts.push(finished.buffer);
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

async function decodeInChunks(
  body: Buffer,
  encoding: ContentEncoding,
  decoder: Decoder,
  maxBytes: number,
  declared: number,
  reserve: (bytes: number) => void,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let at = 0;
  for (let frames = 0; at < body.byteLength; frames++) {
    const stream = decoder.stream(optionsFor(encoding, maxBytes));
    stream.end(body.subarray(at));
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        const before = Math.max(bytes, declared);
        bytes += chunk.byteLength;
        if (bytes > maxBytes) throw tooLarge(maxBytes);
        reserve(Math.max(0, bytes - before));
        chunks.push(chunk);
      }
    } catch (error) {
      throw explain(error, encoding);
    }
    at += consumed(body.byteLength - at, encoding, stream.bytesWritten, frames);
  }
  return chunks.length === 1 ? chunks[0]! : joinInTurns(chunks);
}

let largeInFlight = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(decompress: () => Promise<T>): Promise<T> {
  if (largeInFlight < LARGE_AT_ONCE) largeInFlight++;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await decompress();
  } finally {
    const next = waiting.shift(); // its turn is passed on
    if (next) next();
    else largeInFlight--;
  }
}

/** Compresses a body. */
export async function encodeContent(body: Buffer, encoding: ContentEncoding): Promise<Buffer> {
  const sync = body.byteLength <= SYNC_ENCODE_MAX_BYTES;
  switch (encoding) {
    case 'identity':
      return body;
    case 'gzip':
      return sync ? gzipSync(body) : promisify(gzip)(body);
    case 'deflate':
      return sync ? deflateSync(body) : promisify(deflate)(body);
    case 'zstd':
      return sync ? zstdCompressSync(body) : promisify(zstdCompress)(body);
  }
}

function optionsFor(encoding: ContentEncoding, maxBytes: number): Options {
  return {
    info: true,
    maxOutputLength: Math.max(1, maxBytes),
    chunkSize: Math.min(CHUNK_BYTES, Math.max(64, maxBytes)),
    ...(encoding === 'zstd' ? { params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX } } : {}),
  };
}

/** How many of the bytes that were there a decoder has read. @throws OtlpError when they are not one body */
function consumed(there: number, encoding: ContentEncoding, bytes: number, framesBefore: number): number {
  if (encoding !== 'zstd') {
    if (bytes < there) throw damaged(encoding, `${there - bytes} bytes follow its end`);
    return Math.max(1, bytes);
  }
  if (framesBefore >= ZSTD_MAX_FRAMES)
    throw damaged(encoding, `there are more than ${ZSTD_MAX_FRAMES} frames`);
  if (bytes === 0) throw damaged(encoding, 'a frame is empty');
  return bytes;
}

function isGzip(body: Buffer): boolean {
  return body[0] === 0x1f && body[1] === 0x8b;
}

/** RFC 1950; some clients send raw deflate under the same name. */
function hasZlibHeader(body: Buffer): boolean {
  if (body.byteLength < 2) return true;
  return (body[0]! & 0x0f) === 8 && ((body[0]! << 8) | body[1]!) % 31 === 0;
}

function explain(error: unknown, encoding: ContentEncoding): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  return code?.startsWith('Z') ? damaged(encoding, message) : error; // not ours, such as what `reserve` throws
}

function tooLarge(maxBytes: number): OtlpError {
  return oversized(
    `the body is larger than ${maxBytes} bytes when decompressed; send smaller batches or raise receiver.max_body`,
  );
}

function damaged(encoding: ContentEncoding, reason: string): OtlpError {
  return malformed('content_encoding', `the body is not valid ${encoding}: ${reason}`);
}
