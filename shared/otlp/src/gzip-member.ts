/**
 * Several gzip members made one without compressing anything again. Many servers read the first member of a body and answer 200, so
 * a request has to be one; and to inflate and deflate what is merged costs many times what finding the ends of its blocks does
 * (`shared/otlp/bench/merge.bench.ts`).
 *
 * A member is its deflate blocks between a header and a trailer. To put another behind it, its last block must no longer say that
 * it is the last, and the next must begin at a whole byte: an empty stored block sees to that. Both need positions in bits, which
 * only decoding the Huffman codes tells; what they stand for is never written.
 */

const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const MEMBER_MAGIC = Buffer.from([0x1f, 0x8b, 8]);
/** No flags, no time, an unknown system: RFC 1952. */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
/** Length and complement of an empty stored block; its three bits of header are the padding before it. */
const EMPTY_STORED = Buffer.from([0, 0, 0xff, 0xff]);
/** The last block, empty, of the fixed codes. */
const LAST_BLOCK = Buffer.from([3, 0]);

const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;

/** Where one member's blocks are, in bits from the start of the body, and what its trailer says. */
interface Member {
  from: number;
  lastBlock: number;
  to: number;
  crc: number;
  bytes: number;
}

/** Whether a well-formed gzip body is surely one member; `false` when only a look at its blocks can tell. */
export function looksLikeOneMember(body: Buffer): boolean {
  return body.indexOf(MEMBER_MAGIC, HEADER_BYTES) < 0;
}

/** Makes one member of all the members of some gzip bodies, one body after the other. */
export class MemberJoiner {
  readonly #parts: Buffer[] = [HEADER];
  #crc = 0;
  #bytes = 0;

  /**
   * @param body valid gzip, as somebody has inflated it before
   * @returns false when it is not what it seemed: there is nothing to be had from this joiner then
   */
  add(body: Buffer): boolean {
    for (let at = 0; at < body.byteLength; ) {
      const member = memberAt(body, at);
      if (!member) return false;
      this.#parts.push(...continued(body, member));
      this.#crc = combinedCrc(this.#crc, member.crc, member.bytes);
      this.#bytes += member.bytes;
      at = Math.ceil(member.to / 8) + TRAILER_BYTES;
    }
    return true;
  }

  /** The one member. */
  joined(): Buffer {
    const trailer = Buffer.alloc(TRAILER_BYTES);
    trailer.writeUInt32LE(this.#crc >>> 0, 0);
    trailer.writeUInt32LE(this.#bytes >>> 0, 4);
    return Buffer.concat([...this.#parts, LAST_BLOCK, trailer]);
  }
}

/** The blocks of a member, none of them the last, up to a whole byte. */
function continued(body: Buffer, { from, lastBlock, to }: Member): Buffer[] {
  const blocks = Buffer.from(body.subarray(from / 8, Math.ceil(to / 8)));
  blocks[(lastBlock - from) >>> 3]! &= ~(1 << (lastBlock & 7));
  const used = to & 7;
  if (used > 0) blocks[blocks.byteLength - 1]! &= (1 << used) - 1;
  const roomForHeader = used > 0 && used <= 5;
  return [blocks, ...(roomForHeader ? [] : [Buffer.alloc(1)]), EMPTY_STORED];
}

function memberAt(body: Buffer, at: number): Member | undefined {
  const start = headerEnd(body, at);
  if (start === undefined) return undefined;
  const blocks = scanBlocks(body, start * 8);
  if (!blocks) return undefined;
  const trailer = Math.ceil(blocks.to / 8);
  if (trailer + TRAILER_BYTES > body.byteLength) return undefined;
  // A size that differs means that the codes were not read as they were written.
  if (body.readUInt32LE(trailer + 4) !== blocks.bytes >>> 0) return undefined;
  return { from: start * 8, ...blocks, crc: body.readUInt32LE(trailer) };
}

/** @returns where the blocks of the member begin */
function headerEnd(body: Buffer, at: number): number | undefined {
  if (at + HEADER_BYTES > body.byteLength || body.compare(MEMBER_MAGIC, 0, 3, at, at + 3) !== 0) {
    return undefined;
  }
  const flags = body[at + 3]!;
  if ((flags & FLAG.reserved) !== 0) return undefined;
  let end = at + HEADER_BYTES;
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

const MAX_CODE_BITS = 15;
const END_OF_BLOCK = 256;
/** RFC 1951, 3.2.5: the first length or number of extra bits of each symbol. */
const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
  227, 258,
];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/** RFC 1951, 3.2.7: the code lengths 16 (the length before again), 17 and 18 (zeros). */
const REPEATS = [
  { bits: 2, least: 3 },
  { bits: 3, least: 3 },
  { bits: 7, least: 11 },
];
/** The order in which the lengths of their own codes come. */
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const FIXED_LENGTHS = Uint8Array.from({ length: 288 }, (_, symbol) =>
  symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8,
);
const FIXED_DISTANCES = new Uint8Array(30).fill(5);

/** What a symbol of the first code means, beside the 4 bits that say how long its code is. */
const KIND = { literal: 0, match: 1 << 18, end: 1 << 19 } as const;
const LITERAL_MEANINGS = Int32Array.from({ length: 288 }, (_, symbol) => {
  if (symbol < END_OF_BLOCK) return KIND.literal | (1 << 8);
  if (symbol === END_OF_BLOCK) return KIND.end;
  const i = symbol - END_OF_BLOCK - 1;
  return LENGTH_BASE[i] === undefined ? 0 : KIND.match | (LENGTH_BASE[i] << 8) | (LENGTH_EXTRA[i]! << 4);
});
const DISTANCE_MEANINGS = Int32Array.from({ length: 32 }, (_, symbol) => Math.max(0, (symbol >> 1) - 1) << 4);
const CODE_LENGTH_MEANINGS = Int32Array.from({ length: 19 }, (_, symbol) => symbol << 4);

/** Codes up to this long are looked up in one step, in a table that stays in the processor's nearest cache. */
const DIRECT_BITS = 11;
const DIRECT_MASK = (1 << DIRECT_BITS) - 1;

/** From the next bits of the stream to a symbol's meaning and, in the low 4 bits, the length of its code. */
class CodeTable {
  /** By the next bits; 0: the code is longer, or there is none. */
  readonly direct = new Int32Array(1 << DIRECT_BITS);
  readonly #counts = new Uint16Array(MAX_CODE_BITS + 1);
  readonly #next = new Uint16Array(MAX_CODE_BITS + 2);
  /** Meanings in the order of the codes. */
  readonly #ordered = new Int32Array(320);

  /** @returns false when the lengths make no prefix code */
  build(lengths: Uint8Array, meanings: Int32Array): boolean {
    const counts = this.#counts.fill(0);
    for (let i = 0; i < lengths.length; i++) counts[lengths[i]!]!++;
    counts[0] = 0;
    const next = this.#next.fill(0);
    const offsets = new Uint16Array(MAX_CODE_BITS + 2);
    for (let length = 1; length <= MAX_CODE_BITS; length++) {
      const end = next[length]! + counts[length]!;
      if (end > 1 << length) return false;
      next[length + 1] = end << 1;
      offsets[length + 1] = offsets[length]! + counts[length]!;
    }
    const { direct } = this;
    direct.fill(0);
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      const length = lengths[symbol]!;
      if (length === 0) continue;
      const entry = meanings[symbol]! | length;
      this.#ordered[offsets[length]!++] = entry;
      const code = next[length]!++;
      if (length > DIRECT_BITS) continue;
      const step = 1 << length;
      for (let at = REVERSED[code]! >>> (MAX_CODE_BITS - length); at < direct.length; at += step)
        direct[at] = entry;
    }
    return true;
  }

  /** Finds a code bit by bit; 0: there is none. */
  find(bits: number): number {
    const counts = this.#counts;
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= MAX_CODE_BITS; length++) {
      code |= (bits >>> (length - 1)) & 1;
      const count = counts[length]!;
      if (code - count < first) return this.#ordered[index + code - first]!;
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    return 0;
  }
}

/** Codes are packed from their first bit, everything else from its last. */
const REVERSED = new Uint16Array(1 << MAX_CODE_BITS);
for (let bits = 1; bits < REVERSED.length; bits++) {
  REVERSED[bits] = (REVERSED[bits >>> 1]! >>> 1) | ((bits & 1) << (MAX_CODE_BITS - 1));
}

let tables: { literals: CodeTable; distances: CodeTable } | undefined;

/** At least 25 bits from there on, the first one lowest; zeros behind the end. */
function peek(view: DataView, bit: number): number {
  const at = bit >>> 3;
  if (at + 4 <= view.byteLength) return view.getInt32(at, true) >>> (bit & 7);
  let last = 0;
  for (let i = view.byteLength - 1; i >= at; i--) last = (last << 8) | view.getUint8(i);
  return last >>> (bit & 7);
}

/**
 * Follows deflate blocks to the end of the last.
 * @returns in bits: where the last block begins, and the first bit behind it; and how many bytes they all inflate to
 */
function scanBlocks(
  bytes: Buffer,
  from: number,
): { lastBlock: number; to: number; bytes: number } | undefined {
  tables ??= { literals: new CodeTable(), distances: new CodeTable() };
  const { literals, distances } = tables;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const endBit = bytes.byteLength * 8;
  let bit = from;
  let inflated = 0;
  while (bit + 3 <= endBit) {
    const block = bit;
    const header = peek(view, bit);
    const type = (header >>> 1) & 3;
    bit += 3;
    if (type === 0) {
      const at = Math.ceil(bit / 8);
      if (at + 4 > bytes.byteLength) return undefined;
      const length = bytes.readUInt16LE(at);
      if ((length ^ 0xffff) !== bytes.readUInt16LE(at + 2)) return undefined;
      bit = (at + 4 + length) * 8;
      inflated += length;
    } else {
      const start =
        type === 1 ? fixedCodes(bit, literals, distances) : type === 2 ? dynamicCodes(view, bit) : undefined;
      if (start === undefined) return undefined;
      bit = start;
      const { direct } = literals;
      const { direct: directDistance } = distances;
      while (true) {
        const next = peek(view, bit);
        const entry = direct[next & DIRECT_MASK] || literals.find(next);
        const codeBits = entry & 15;
        if (codeBits === 0 || bit > endBit) return undefined;
        bit += codeBits;
        if (entry < KIND.match) inflated++;
        else if (entry >= KIND.end) break;
        else {
          const extra = (entry >>> 4) & 15;
          inflated += ((entry >>> 8) & 0x1ff) + ((next >>> codeBits) & ((1 << extra) - 1));
          bit += extra;
          const ahead = peek(view, bit);
          const distance = directDistance[ahead & DIRECT_MASK] || distances.find(ahead);
          if (distance === 0) return undefined;
          bit += (distance & 15) + (distance >>> 4);
        }
      }
    }
    if (bit > endBit) return undefined;
    if (header & 1) return { lastBlock: block, to: bit, bytes: inflated };
  }
  return undefined;
}

function fixedCodes(bit: number, literals: CodeTable, distances: CodeTable): number {
  literals.build(FIXED_LENGTHS, LITERAL_MEANINGS);
  distances.build(FIXED_DISTANCES, DISTANCE_MEANINGS);
  return bit;
}

/**
 * Reads the codes that a block begins with (RFC 1951, 3.2.7).
 * @returns where its symbols begin
 */
function dynamicCodes(view: DataView, from: number): number | undefined {
  const { literals, distances } = tables!;
  const header = peek(view, from);
  const literalCount = (header & 31) + 257;
  const distanceCount = ((header >>> 5) & 31) + 1;
  const codeCount = ((header >>> 10) & 15) + 4;
  let bit = from + 14;
  const codeLengths = new Uint8Array(19);
  for (let i = 0; i < codeCount; i++, bit += 3) codeLengths[CODE_LENGTH_ORDER[i]!] = peek(view, bit) & 7;
  // The table of the distances is free until their lengths are known.
  if (!distances.build(codeLengths, CODE_LENGTH_MEANINGS)) return undefined;
  const count = literalCount + distanceCount;
  const lengths = new Uint8Array(count);
  for (let i = 0; i < count; ) {
    const next = peek(view, bit);
    const entry = distances.direct[next & DIRECT_MASK]!;
    if (entry === 0) return undefined;
    const codeBits = entry & 15;
    const symbol = entry >>> 4;
    bit += codeBits;
    if (symbol < 16) {
      lengths[i++] = symbol;
      continue;
    }
    const { bits, least } = REPEATS[symbol - 16]!;
    const times = least + ((next >>> codeBits) & ((1 << bits) - 1));
    if (i + times > count || (symbol === 16 && i === 0)) return undefined;
    lengths.fill(symbol === 16 ? lengths[i - 1]! : 0, i, i + times);
    i += times;
    bit += bits;
  }
  const sound =
    literals.build(lengths.subarray(0, literalCount), LITERAL_MEANINGS) &&
    distances.build(lengths.subarray(literalCount), DISTANCE_MEANINGS);
  return sound ? bit : undefined;
}

/** CRC-32 of gzip, its bits reversed: the highest is that of x⁰. */
const CRC_POLYNOMIAL = 0xedb88320;
const ONE = 0x80000000 | 0;
const X = 0x40000000;

function timesModuloPolynomial(a: number, b: number): number {
  let product = 0;
  let power = b;
  for (let m = ONE; m !== 0; m >>>= 1) {
    if (a & m) product ^= power;
    power = power & 1 ? (power >>> 1) ^ CRC_POLYNOMIAL : power >>> 1;
  }
  return product;
}

/** The CRC of two texts behind each other, from those of both: that of the first, moved up by the bits of the second. */
function combinedCrc(first: number, second: number, secondBytes: number): number {
  let shift = ONE;
  let square = X; // x to the power of 2, 4, 8 … in turn
  for (let bits = secondBytes * 8; bits >= 1; bits = Math.floor(bits / 2)) {
    if (bits % 2 === 1) shift = timesModuloPolynomial(square, shift);
    square = timesModuloPolynomial(square, square);
  }
  return timesModuloPolynomial(shift, first) ^ second;
}
