/**
 * Several gzip members made one without compressing anything again. Many servers read the first member of a body and answer 200, so
 * a request has to be one; and to inflate and deflate what is merged costs many times what finding the ends of its blocks does
 * (`shared/otlp/bench/merge.bench.ts`).
 *
 * A member is its deflate blocks between a header and a trailer. To put another behind it, its last block must no longer say that
 * it is the last, and the next must begin at a whole byte: an empty stored block sees to that. Both need positions in bits, which
 * `deflate-blocks.ts` finds.
 */

import { combinedCrc } from './crc.ts';
import { type Blocks, findBlocks, type Steps } from './deflate-blocks.ts';

const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const MAGIC = 0x1f8b08;
const MAGIC_BYTES = Buffer.from([0x1f, 0x8b, 8]);
/** No flags, no time, an unknown system: RFC 1952. */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
/** Length and complement of an empty stored block; its three bits of header are the padding before it, or a byte of their own. */
const EMPTY_STORED = 0x0000ffff;
/**
 * For one body: 28 ms. A body of 1 MiB, in blocks of 16,383 codes as zlib writes it, takes a million; one that somebody has made of
 * empty blocks, or of codes of a single bit, would take ten times as many, and hold up all that the process does.
 */
const STEPS_MAX = 4_000_000;
/** The last block, empty, of the fixed codes. */
const LAST_BLOCK = Buffer.from([3, 0]);

const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;

/** Whether a well-formed gzip body is surely one member; `false` when only a look at its blocks can tell. */
export function looksLikeOneMember(body: Buffer): boolean {
  return isLastMember(body, 0);
}

/**
 * Makes one member of all the members of some gzip bodies, one body after the other. Each is copied as it is added, and made to be
 * continued where it is then: nothing is kept of it.
 */
export class MemberJoiner {
  /** Header and trailer of a member are longer than what joins it to the next. */
  readonly #whole: Buffer;
  #end: number;
  #crc = 0;
  #bytes = 0;
  #steps = 0;

  /** @param room bytes of all bodies together */
  constructor(room: number) {
    this.#whole = Buffer.allocUnsafe(HEADER.byteLength + room + LAST_BLOCK.byteLength + TRAILER_BYTES);
    this.#end = HEADER.copy(this.#whole);
  }

  /**
   * @param body valid gzip, as somebody has inflated it before
   * @returns false when it is not what it seemed, or takes too long to follow: there is nothing to be had from this joiner then
   */
  add(body: Buffer): boolean {
    const steps: Steps = { left: STEPS_MAX };
    const isJoined = this.#add(body, steps);
    this.#steps += STEPS_MAX - steps.left;
    return isJoined;
  }

  /** Of all that was added, `STEPS_OF_BLOCK` for each block and one for each code that was followed. */
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

  /** Copies the blocks of a member, none of them the last any more, up to a whole byte. */
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

  /** The one member. */
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

/** @returns where the blocks of the member begin */
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
