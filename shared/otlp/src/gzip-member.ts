/**
 * Joins several gzip members into one without recompressing. Many servers read the first member of a body only and answer 200;
 * and to inflate and deflate a merged request costs many times as much (`shared/otlp/bench/merge.bench.ts`). To append a member,
 * the last block before it must no longer be marked as the last, and its own must begin at a whole byte, which an empty stored
 * block achieves. Both need bit positions, which `deflate-blocks.ts` finds.
 */

import { combinedCrc } from './crc.ts';
import { type Blocks, findBlocks, type Steps } from './deflate-blocks.ts';

const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const MAGIC = 0x1f8b08;
const MAGIC_BYTES = Buffer.from([0x1f, 0x8b, 8]);
/** No flags, no time, an unknown system: RFC 1952. */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
/** An empty stored block without its three header bits, which are in the padding or a byte of their own. */
const EMPTY_STORED = 0x0000ffff;
/**
 * Maximum steps per body: 28 ms. A body of 1 MiB in blocks of 16,383 codes, as zlib writes it, takes a million; an adverse one
 * of empty blocks or one-bit codes would take ten times as many, and block the process.
 */
const STEPS_MAX = 4_000_000;
/** The last block, empty, of the fixed codes. */
const LAST_BLOCK = Buffer.from([3, 0]);

const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;

/** Whether a well-formed gzip body is certainly one member; `false` if its blocks must be read to tell. */
export function looksLikeOneMember(body: Buffer): boolean {
  return isLastMember(body, 0);
}

/**
 * Joins the members of some gzip bodies into one, one body after the other. Each is copied and patched to be continued as it is
 * added; no reference to it is kept.
 */
export class MemberJoiner {
  /** Large enough, since the header and trailer of a member are longer than what joins it to the next. */
  readonly #whole: Buffer;
  #end: number;
  #crc = 0;
  #bytes = 0;
  #steps = 0;

  /** @param room size of all bodies together */
  constructor(room: number) {
    this.#whole = Buffer.allocUnsafe(HEADER.byteLength + room + LAST_BLOCK.byteLength + TRAILER_BYTES);
    this.#end = HEADER.copy(this.#whole);
  }

  /** @returns false if it is malformed or takes too many steps: then this joiner is useless */
  add(body: Buffer): boolean {
    const steps: Steps = { left: STEPS_MAX };
    const isJoined = this.#add(body, steps);
    this.#steps += STEPS_MAX - steps.left;
    return isJoined;
  }

  /** Steps so far: `STEPS_OF_BLOCK` per block, and one per code that was read. */
  get steps(): number {
    return this.#steps;
  }

  #add(body: Buffer, steps: Steps): boolean {
    for (let at = 0; at < body.byteLength; ) {
      const from = headerEnd(body, at);
      if (from === undefined || from + TRAILER_BYTES > body.byteLength) return false;
      const end = isLastMember(body, at) ? body.byteLength - TRAILER_BYTES : undefined;
      const blocks = findBlocks(body, from * 8, end, steps);
      if (!blocks) return false;
      this.#continue(body, from, blocks);
      const trailer = wholeBytes(blocks.to);
      const bytes = body.readUInt32LE(trailer + 4);
      this.#crc = combinedCrc(this.#crc, body.readUInt32LE(trailer), bytes);
      this.#bytes += bytes;
      at = trailer + TRAILER_BYTES;
    }
    return true;
  }

  /** Copies the blocks of a member up to a whole byte, with none marked as the last. */
  #continue(body: Buffer, from: number, { lastBlock, to }: Blocks): void {
    const whole = this.#whole;
    const at = this.#end;
    let end = at + body.copy(whole, at, from, wholeBytes(to));
    whole[at + (lastBlock >>> 3) - from]! &= ~(1 << (lastBlock & 7));
    const used = to & 7;
    if (used > 0) whole[end - 1]! &= (1 << used) - 1;
    const roomForHeader = used > 0 && used <= 5;
    if (!roomForHeader) whole[end++] = 0;
    this.#end = whole.writeUInt32BE(EMPTY_STORED, end);
  }

  /** The joined member. */
  joined(): Buffer {
    const whole = this.#whole;
    let at = this.#end + LAST_BLOCK.copy(whole, this.#end);
    at = whole.writeUInt32LE(this.#crc >>> 0, at);
    at = whole.writeUInt32LE(this.#bytes >>> 0, at);
    return whole.subarray(0, at);
  }
}

function wholeBytes(bits: number): number {
  return Math.ceil(bits / 8);
}

/** Whether no other member can follow the one at `at`. */
function isLastMember(body: Buffer, at: number): boolean {
  return body.indexOf(MAGIC_BYTES, at + HEADER_BYTES) < 0;
}

/** @returns start of the member's blocks */
function headerEnd(body: Buffer, at: number): number | undefined {
  if (at + HEADER_BYTES > body.byteLength || body.readUIntBE(at, 3) !== MAGIC) return undefined;
  const flags = body[at + 3]!;
  let end = at + HEADER_BYTES;
  if (flags === 0) return end;
  if ((flags & FLAG.reserved) !== 0) return undefined;
  if (flags & FLAG.extra) {
    if (end + 2 > body.byteLength) return undefined;
    end += 2 + body.readUInt16LE(end);
  }
  for (const text of [FLAG.name, FLAG.comment]) {
    if (!(flags & text)) continue;
    const zero = body.indexOf(0, end);
    if (zero < 0) return undefined;
    end = zero + 1;
  }
  return flags & FLAG.headerCrc ? end + 2 : end;
}
