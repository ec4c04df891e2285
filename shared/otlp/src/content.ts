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
import { GRPC, OtlpError } from './error.ts';
import { joinInTurns } from './join.ts';
import { ScratchGunzip } from './scratch-gunzip.ts';
import { declaredContentBytes } from './zstd-frame.ts';

/** Compression of a body, by its name in `Content-Encoding`. */
export type ContentEncoding = 'identity' | 'gzip' | 'deflate' | 'zstd';
export const CONTENT_ENCODINGS: readonly ContentEncoding[] = ['identity', 'gzip', 'deflate', 'zstd'];

/**
 * Up to this size, compressed and decompressed, the synchronous functions cost half the CPU of the asynchronous ones and block
 * the event loop for a few ms at most.
 */
const SYNC_MAX_BYTES = 1024 * 1024;
/**
 * The same limit for compressed input: a block of deflate or zstd takes some µs even if it is nearly empty, at a minimum of
 * eleven bytes. 1 MiB of empty blocks took 72 ms; this size takes 9.
 */
const SYNC_MAX_WIRE_BYTES = 128 * 1024;
/** The same limit for compressing: gzip usually takes 30 ns per byte, and 190 for adverse input. */
const SYNC_ENCODE_MAX_BYTES = 128 * 1024;
/** Number of large bodies decompressed at once; those that wait are still compressed. */
const LARGE_AT_ONCE = 2;
/** One output chunk for a usual body. */
const CHUNK_BYTES = 320 * 1024;
/** 8 MiB: the largest window that zstd's specification recommends decoders to support. */
const ZSTD_WINDOW_LOG_MAX = 23;
/** Each frame needs a decoder, even if it is nearly empty. */
const ZSTD_MAX_FRAMES = 256;
/** So many are decompressed in one turn of the event loop: one takes 0.3 ms. */
const SYNC_MAX_FRAMES = 16;
const GZIP_MEMBER_MIN_BYTES = 18;
const DEFLATE_RATIO_MAX = 1_032;

type Finished = { buffer: Buffer; engine: { bytesWritten: number } };
type Options = (ZlibOptions & ZstdOptions & BrotliOptions) & { info: true };

interface Decoder {
  sync(input: Buffer, options: Options): Finished;
  stream(options: Options): Transform & { bytesWritten: number };
}

function decoder(sync: unknown, stream: unknown): Decoder {
  // `info: true` makes zlib return { buffer, engine }, which its types lack.
  return { sync, stream } as Decoder;
}

const GUNZIP = decoder(gunzipSync, createGunzip);
const INFLATE = decoder(inflateSync, createInflate);
const INFLATE_RAW = decoder(inflateRawSync, createInflateRaw);
const UNZSTD = decoder(zstdDecompressSync, createZstdDecompress);

export interface DecodeLimits {
  maxBytes: number;
  /** Called with a number of bytes before they are used: the declared size, and what exceeds it. May throw. */
  reserve?(bytes: number): void;
}

/**
 * @param header a list, of which empty members and `identity` mean nothing (RFC 9110, 5.6.1 and 8.4.1)
 * @throws OtlpError 415 for an unsupported one, or several
 */
export function parseContentEncoding(header: string | undefined): ContentEncoding {
  if (header === undefined) return 'identity';
  const name = header
    .toLowerCase()
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '' && each !== 'identity')
    .join(', ');
  if (name === '') return 'identity';
  const other = OTHER_NAMES[name];
  if (other) return other;
  const known = CONTENT_ENCODINGS.find((encoding) => encoding === name);
  if (known) return known;
  const message = `Content-Encoding "${name.slice(0, 40)}" is not supported; expected ${CONTENT_ENCODINGS.join(', ')}`;
  throw new OtlpError(415, 'content_encoding', message, GRPC.UNIMPLEMENTED);
}

/** Names that some senders use. */
const OTHER_NAMES: Readonly<Record<string, ContentEncoding>> = Object.assign(Object.create(null), {
  'x-gzip': 'gzip',
  zlib: 'deflate',
  'x-deflate': 'deflate',
  'x-zstd': 'zstd',
});

let scratchGunzip: ScratchGunzip | undefined;

/**
 * Decompresses a body that is only read: a synchronous result may alias a scratch buffer that the next call overwrites.
 * Otherwise like `decodeContent`.
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
  limits.reserve?.(decoded.byteLength); // memory of the shared scratch buffer
  return decoded;
}

/**
 * Decompresses a body; several gzip members or zstd frames are one body. Small bodies are decompressed synchronously, large
 * ones off the main thread, with each chunk reserved as it comes.
 * @throws OtlpError 413 if the result exceeds `maxBytes`, 400 if the bytes are damaged; the error of `reserve`
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
  }
  return inTurn(() => decodeInChunks(body, encoding, decoder, maxBytes, declared, reserve));
}

/** The decompressed size that a body declares; 0 if it declares none. It may be wrong. */
function declaredBytes(body: Buffer, encoding: ContentEncoding): number {
  // gzip: size of the last member, at the end. A size beyond deflate's maximum ratio is not a size.
  if (encoding === 'gzip' && body.byteLength >= GZIP_MEMBER_MIN_BYTES) {
    const bytes = body.readUInt32LE(body.byteLength - 4);
    return isGzip(body) && bytes <= DEFLATE_RATIO_MAX * body.byteLength ? bytes : 0;
  }
  return encoding === 'zstd' ? declaredContentBytes(body) : 0;
}

/** @returns undefined if it would exceed `maxBytes`, or has many frames */
function decodeSync(
  body: Buffer,
  encoding: ContentEncoding,
  decoder: Decoder,
  maxBytes: number,
): Buffer | undefined {
  const parts: Buffer[] = [];
  let left = maxBytes;
  let at = 0;
  // Node's zstd stops after the first frame without an error: the number of bytes read tells where the next one begins.
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
    if (parts.length === SYNC_MAX_FRAMES && at < body.byteLength) return undefined;
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
  return chunks.length === 1 ? chunks[0]! : joinInTurns(chunks, true);
}

let largeInFlight = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(decompress: () => Promise<T>): Promise<T> {
  if (largeInFlight < LARGE_AT_ONCE) largeInFlight++;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await decompress();
  } finally {
    const next = waiting.shift(); // hand over the turn
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

/** Number of bytes that a decoder has read. @throws OtlpError if they are not one body */
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
  return new OtlpError(
    413,
    'too_large',
    `the body is larger than ${maxBytes} bytes when decompressed; send smaller batches or raise receiver.max_body`,
  );
}

function damaged(encoding: ContentEncoding, reason: string): OtlpError {
  return new OtlpError(400, 'content_encoding', `the body is not valid ${encoding}: ${reason}`);
}
