import { promisify } from 'node:util';
import {
  type BrotliOptions,
  constants,
  deflate,
  deflateSync,
  gunzip,
  gunzipSync,
  gzip,
  gzipSync,
  inflate,
  inflateRaw,
  inflateRawSync,
  inflateSync,
  type ZlibOptions,
  type ZstdOptions,
  zstdCompress,
  zstdCompressSync,
  zstdDecompress,
  zstdDecompressSync,
} from 'node:zlib';
import { GRPC, malformed, OtlpError, oversized } from './error.ts';
import { ScratchGunzip } from './scratch-gunzip.ts';

/** How a body is compressed, by its name in `Content-Encoding`. */
export type ContentEncoding = 'identity' | 'gzip' | 'deflate' | 'zstd';
export const CONTENT_ENCODINGS: readonly ContentEncoding[] = ['identity', 'gzip', 'deflate', 'zstd'];

/** Below this the synchronous forms cost half the CPU of the asynchronous ones and block for less than 1 ms. */
const SYNC_MAX_BYTES = 1024 * 1024;
/**
 * Large bodies that are decompressed at once. Each may become as large as the limit before anybody can count its bytes, so
 * many at a time would go past every limit on memory; what waits is no larger than it came.
 */
const LARGE_AT_ONCE = 2;
/** One output chunk for the usual body. */
const CHUNK_BYTES = 320 * 1024;
/** 8 MiB: the largest window that zstd's own specification asks decoders to support. */
const ZSTD_WINDOW_LOG_MAX = 23;
/** Each frame costs a decoder of its own, however little is in it. */
const ZSTD_MAX_FRAMES = 256;

type Finished = { buffer: Buffer; engine: { bytesWritten: number } };
type Options = (ZlibOptions & ZstdOptions & BrotliOptions) & { info: true };

interface Decoder {
  sync(input: Buffer, options: Options): Finished;
  async(input: Buffer, options: Options): Promise<Finished>;
}

function decoder(sync: unknown, async: unknown): Decoder {
  // `info: true` makes zlib give { buffer, engine }, which its types do not tell.
  return { sync: sync as Decoder['sync'], async: promisify(async as never) as unknown as Decoder['async'] };
}

const GUNZIP = decoder(gunzipSync, gunzip);
const INFLATE = decoder(inflateSync, inflate);
const INFLATE_RAW = decoder(inflateRawSync, inflateRaw);
const UNZSTD = decoder(zstdDecompressSync, zstdDecompress);

/**
 * Reads a `Content-Encoding` header.
 * @throws OtlpError 415 for one that is not supported
 */
export function parseContentEncoding(header: string | undefined): ContentEncoding {
  const name = (header ?? '').trim().toLowerCase();
  if (name === '') return 'identity';
  if (name === 'x-gzip') return 'gzip';
  const known = CONTENT_ENCODINGS.find((encoding) => encoding === name);
  if (known) return known;
  throw new OtlpError({
    code: 'content_encoding',
    httpStatus: 415,
    grpcCode: GRPC.UNIMPLEMENTED,
    message: `Content-Encoding "${name.slice(0, 40)}" is not supported; expected ${CONTENT_ENCODINGS.join(', ')}`,
  });
}

let scratchGunzip: ScratchGunzip | undefined;

/**
 * Decompresses a body that is only looked at: what comes back at once may be a view of a buffer that the next call
 * overwrites. Otherwise as `decodeContent`.
 */
export function borrowContent(
  body: Buffer,
  encoding: ContentEncoding,
  limits: { maxBytes: number },
): Buffer | Promise<Buffer> {
  if (encoding !== 'gzip' || body.byteLength >= SYNC_MAX_BYTES) return decodeContent(body, encoding, limits);
  scratchGunzip ??= new ScratchGunzip();
  return scratchGunzip.decompress(body, limits.maxBytes) ?? decodeContent(body, encoding, limits);
}

/**
 * Decompresses a body; several gzip members and several zstd frames are one body. Small ones at once, large ones off
 * the main thread.
 * @throws OtlpError 413 when the result would be larger than `maxBytes`, 400 when the bytes are damaged
 */
export function decodeContent(
  body: Buffer,
  encoding: ContentEncoding,
  limits: { maxBytes: number },
): Buffer | Promise<Buffer> {
  if (encoding === 'identity') {
    if (body.byteLength > limits.maxBytes) throw tooLarge(limits.maxBytes);
    return body;
  }
  const sync = body.byteLength < SYNC_MAX_BYTES;
  if (encoding === 'zstd')
    return sync ? zstdFramesSync(body, limits.maxBytes) : inTurn(() => zstdFrames(body, limits.maxBytes));
  const chosen = encoding === 'gzip' ? GUNZIP : hasZlibHeader(body) ? INFLATE : INFLATE_RAW;
  const options = optionsFor(limits.maxBytes);
  if (!sync) {
    return inTurn(() => chosen.async(body, options)).then(
      (finished) => whole(finished, body, encoding),
      (error) => {
        throw explain(error, encoding, limits.maxBytes);
      },
    );
  }
  let finished: Finished;
  try {
    finished = chosen.sync(body, options);
  } catch (error) {
    throw explain(error, encoding, limits.maxBytes);
  }
  return whole(finished, body, encoding);
}

let largeUnderWay = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(decompress: () => Promise<T>): Promise<T> {
  if (largeUnderWay < LARGE_AT_ONCE) largeUnderWay++;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await decompress();
  } finally {
    const next = waiting.shift(); // its turn is passed on
    if (next) next();
    else largeUnderWay--;
  }
}

/** Compresses a body. */
export async function encodeContent(body: Buffer, encoding: ContentEncoding): Promise<Buffer> {
  const sync = body.byteLength < SYNC_MAX_BYTES;
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

function optionsFor(maxBytes: number): Options {
  return {
    info: true,
    maxOutputLength: Math.max(1, maxBytes),
    chunkSize: Math.min(CHUNK_BYTES, Math.max(64, maxBytes)),
  };
}

function zstdOptions(maxBytes: number): Options {
  return { ...optionsFor(maxBytes), params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX } };
}

// zlib's zstd ends at the first frame and says nothing about the rest: how much it read tells where the next begins.
function zstdFramesSync(body: Buffer, maxBytes: number): Buffer {
  const frames: Buffer[] = [];
  let left = maxBytes;
  for (let at = 0; at < body.byteLength; ) {
    let finished: Finished;
    try {
      finished = UNZSTD.sync(body.subarray(at), zstdOptions(left));
    } catch (error) {
      throw explain(error, 'zstd', maxBytes);
    }
    at += consumed(finished, frames.length);
    left -= finished.buffer.byteLength;
    frames.push(finished.buffer);
  }
  return joined(frames);
}

async function zstdFrames(body: Buffer, maxBytes: number): Promise<Buffer> {
  const frames: Buffer[] = [];
  let left = maxBytes;
  for (let at = 0; at < body.byteLength; ) {
    let finished: Finished;
    try {
      finished = await UNZSTD.async(body.subarray(at), zstdOptions(left));
    } catch (error) {
      throw explain(error, 'zstd', maxBytes);
    }
    at += consumed(finished, frames.length);
    left -= finished.buffer.byteLength;
    frames.push(finished.buffer);
  }
  return joined(frames);
}

function consumed({ engine }: Finished, framesBefore: number): number {
  if (framesBefore >= ZSTD_MAX_FRAMES) throw damaged('zstd', `there are more than ${ZSTD_MAX_FRAMES} frames`);
  if (engine.bytesWritten === 0) throw damaged('zstd', 'a frame is empty');
  return engine.bytesWritten;
}

function joined(frames: Buffer[]): Buffer {
  if (frames.length === 0) throw damaged('zstd', 'there is no frame');
  return frames.length === 1 ? frames[0]! : Buffer.concat(frames);
}

function whole({ buffer, engine }: Finished, body: Buffer, encoding: ContentEncoding): Buffer {
  if (engine.bytesWritten < body.byteLength) {
    throw damaged(encoding, `${body.byteLength - engine.bytesWritten} bytes follow its end`);
  }
  return buffer;
}

/** RFC 1950; some clients send raw deflate under the same name. */
function hasZlibHeader(body: Buffer): boolean {
  if (body.byteLength < 2) return true;
  return (body[0]! & 0x0f) === 8 && ((body[0]! << 8) | body[1]!) % 31 === 0;
}

function explain(error: unknown, encoding: ContentEncoding, maxBytes: number): OtlpError {
  if (error instanceof OtlpError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_BUFFER_TOO_LARGE') return tooLarge(maxBytes);
  return damaged(encoding, message);
}

function tooLarge(maxBytes: number): OtlpError {
  return oversized(
    `the body is larger than ${maxBytes} bytes when decompressed; send smaller batches or raise receiver.max_body`,
  );
}

function damaged(encoding: ContentEncoding, why: string): OtlpError {
  return malformed('content_encoding', `the body is not valid ${encoding}: ${why}`);
}
