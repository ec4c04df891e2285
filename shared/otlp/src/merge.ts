import { setImmediate as nextTurn } from 'node:timers/promises';
import { type ContentEncoding, type DecodeLimits, decodeContent, encodeContent } from './content.ts';
import { looksLikeOneMember, MemberJoiner } from './gzip-member.ts';
import { isOneFrame } from './zstd-frame.ts';

/** Joined in one turn of the event loop: about 2 ms if all codes have to be read. */
const TURN_MAX_BYTES = 256 * 1024;
/** The same limit for bodies that take unusually many steps for their size. */
const TURN_MAX_STEPS = 300_000;
/** Larger bodies are rare and left to zlib's threads. */
const LARGE_BYTES = 1024 * 1024;

/**
 * Joins bodies of one encoding into one compressed stream: one gzip member or one zstd frame, since many servers read only the
 * first. A single body that is one already is returned unchanged.
 * @param bodies valid in their encoding; their requests concatenate
 * @throws OtlpError if they are invalid, or exceed `maxBytes` when they had to be decompressed
 */
export function asOneStream(
  bodies: readonly Buffer[],
  encoding: ContentEncoding,
  limits: { maxBytes: number },
): Buffer | Promise<Buffer> {
  if (bodies.length === 1 && isOneStream(bodies[0]!, encoding)) return bodies[0]!;
  if (encoding === 'identity') return Buffer.concat(bodies);
  return madeOneStream(bodies, encoding, limits);
}

async function madeOneStream(
  bodies: readonly Buffer[],
  encoding: ContentEncoding,
  limits: { maxBytes: number },
): Promise<Buffer> {
  if (encoding === 'gzip') {
    const member = await joined(bodies);
    if (member) return member;
  }
  return encodeContent(await decodeAll(bodies, encoding, limits), encoding);
}

/** Decompresses bodies into one. @throws OtlpError if they are invalid, or exceed `maxBytes` together */
export async function decodeAll(
  bodies: readonly Buffer[],
  encoding: ContentEncoding,
  limits: DecodeLimits,
): Promise<Buffer> {
  const plain: Buffer[] = [];
  let left = limits.maxBytes;
  for (const body of bodies) {
    const decoded = await decodeContent(body, encoding, { ...limits, maxBytes: left });
    left -= decoded.byteLength;
    plain.push(decoded);
  }
  return plain.length === 1 ? plain[0]! : Buffer.concat(plain);
}

function isOneStream(body: Buffer, encoding: ContentEncoding): boolean {
  switch (encoding) {
    case 'gzip':
      return looksLikeOneMember(body);
    case 'zstd':
      return isOneFrame(body);
    default:
      return true;
  }
}

async function joined(bodies: readonly Buffer[]): Promise<Buffer | undefined> {
  if (bodies.some((body) => body.byteLength > LARGE_BYTES)) return undefined;
  const joiner = new MemberJoiner(bodies.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let inThisTurn = 0;
  let stepsBefore = 0;
  for (const body of bodies) {
    const isFull =
      inThisTurn + body.byteLength > TURN_MAX_BYTES || joiner.steps - stepsBefore > TURN_MAX_STEPS;
    if (inThisTurn > 0 && isFull) {
      await nextTurn();
      inThisTurn = 0;
      stepsBefore = joiner.steps;
    }
    inThisTurn += body.byteLength;
    if (!joiner.add(body)) return undefined;
  }
  return joiner.joined();
}
