/**
 * Where the blocks of a deflate stream are (RFC 1951), in bits from the start of its buffer: their codes are followed, and what
 * they stand for is never written. Where the end of the stream is known, the last block need not be followed, as a rule: it ends
 * with a code that its header tells. If that stands at one of the eight bits of the last byte only, that is the end.
 */

export interface Blocks {
  /** The first bit of the last block. */
  lastBlock: number;
  /** The first bit behind it. */
  to: number;
}

/** What may be spent on finding them: a code that is followed is one step, a block so many beside its codes. */
export interface Steps {
  left: number;
}

/** 3.4 µs for the tables of a block, 7 ns for a code. */
export const STEPS_OF_BLOCK = 500;

/** What a caller leaves behind the stream, so that several bytes can be read at once. */
const BEHIND_BYTES = 8;

const MAX_CODE_BITS = 15;
const END_OF_BLOCK = 256;
/** RFC 1951, 3.2.7: the code lengths 16 (the length before again), 17 and 18 (zeros). */
const REPEATS = [
  { bits: 2, least: 3 },
  { bits: 3, least: 3 },
  { bits: 7, least: 11 },
];
/** The order in which the lengths of their own codes come. */
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const CODE_LENGTHS = 19;
const MAX_LITERALS = 288;
const MAX_DISTANCES = 32;

/** What follows a symbol, beside the bits to go on by: those of its code and of what comes with it. */
const STEP_MASK = 63;
const MATCH = 64;
const END = 128;

/** RFC 1951, 3.2.5, without the lengths of codes: a match has 0 to 5 bits of its own, and a distance behind it. */
const LITERALS = Uint16Array.from({ length: MAX_LITERALS }, (_, symbol) => {
  if (symbol < END_OF_BLOCK) return 0;
  if (symbol === END_OF_BLOCK) return END;
  const i = symbol - END_OF_BLOCK - 1;
  return MATCH | (i < 8 || i >= 28 ? 0 : (i >> 2) - 1);
});
const DISTANCES = Uint16Array.from({ length: MAX_DISTANCES }, (_, symbol) => Math.max(0, (symbol >> 1) - 1));
/** Symbols above the three bits of their codes' lengths. */
const LENGTHS = Uint16Array.from({ length: CODE_LENGTHS }, (_, symbol) => symbol << 3);

/** From the next bits of the stream to what a symbol means, added to the length of its code. */
class CodeTable {
  /** By the next bits; 0: the code is longer than that, or there is none. */
  readonly direct: Uint16Array;
  readonly #directBits: number;
  readonly #meanings: Uint16Array;
  /** How many codes there are of each length, and what they mean in the order of the codes. */
  readonly #counts = new Uint16Array(MAX_CODE_BITS + 1);
  readonly #ordered: Uint16Array;

  /** @param directBits codes up to this long are looked up in one step */
  constructor(directBits: number, meanings: Uint16Array) {
    this.direct = new Uint16Array(1 << directBits);
    this.#directBits = directBits;
    this.#meanings = meanings;
    this.#ordered = new Uint16Array(meanings.length);
  }

  /** @returns false when the lengths in `lengths[from, to)` make no prefix code */
  build(lengths: Uint8Array, from: number, to: number): boolean {
    const counts = this.#counts.fill(0);
    for (let i = from; i < to; i++) counts[lengths[i]!]!++;
    counts[0] = 0;
    let code = 0;
    let place = 0;
    for (let length = 1; length <= MAX_CODE_BITS; length++) {
      nextCode[length] = code;
      nextPlace[length] = place;
      const end = code + counts[length]!;
      if (end > 1 << length) return false;
      code = end << 1;
      place += counts[length]!;
    }
    const { direct } = this;
    direct.fill(0);
    for (let i = from; i < to; i++) {
      const length = lengths[i]!;
      if (length === 0) continue;
      const entry = this.#meanings[i - from]! + length;
      this.#ordered[nextPlace[length]!++] = entry;
      const bits = reversed(nextCode[length]!++, length);
      if (length > this.#directBits) continue;
      for (let at = bits; at < direct.length; at += 1 << length) direct[at] = entry;
    }
    return true;
  }

  /** Finds a code bit by bit; 0: there is none. */
  find(bits: number): number {
    let code = 0;
    let first = 0;
    let place = 0;
    for (let length = 1; length <= MAX_CODE_BITS; length++) {
      code |= (bits >>> (length - 1)) & 1;
      const count = this.#counts[length]!;
      if (code - count < first) return this.#ordered[place + code - first]!;
      place += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    return 0;
  }
}

const nextCode = new Uint16Array(MAX_CODE_BITS + 1);
const nextPlace = new Uint16Array(MAX_CODE_BITS + 1);
const lengthCodes = new CodeTable(7, LENGTHS);
const lengthsOfLengths = new Uint8Array(CODE_LENGTHS);
/** Of the block at hand: of its literals and matches, then of its distances. */
const lengths = new Uint8Array(MAX_LITERALS + MAX_DISTANCES);
/** How many literals and matches of that block have codes of each length. */
const counts = new Uint16Array(MAX_CODE_BITS + 1);

/** In 4 KiB each, so that they stay in the processor's nearest cache. */
const DIRECT_BITS = 11;
const DIRECT_MASK = (1 << DIRECT_BITS) - 1;

interface Codes {
  literals: CodeTable;
  distances: CodeTable;
}

function emptyCodes(): Codes {
  return { literals: new CodeTable(DIRECT_BITS, LITERALS), distances: new CodeTable(DIRECT_BITS, DISTANCES) };
}

const dynamicCodes = emptyCodes();
let fixedCodes: Codes | undefined;

/**
 * @param bytes with a deflate stream from bit `from`, and 8 bytes or more behind it
 * @param end the first byte behind the stream, where that is known
 * @param steps those taken are taken from it
 * @returns undefined when there is no deflate stream, or none that ends there, or when the steps do not suffice
 */
export function findBlocks(
  bytes: Buffer,
  from: number,
  end?: number,
  steps: Steps = { left: Number.POSITIVE_INFINITY },
): Blocks | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const endBit = (end ?? bytes.byteLength - BEHIND_BYTES) * 8;
  for (let bit = from; bit + 3 <= endBit; ) {
    const header = peek(view, bit);
    const isLast = (header & 1) === 1;
    steps.left -= STEPS_OF_BLOCK;
    const to = blockEnd(view, (header >>> 1) & 3, bit + 3, endBit, isLast && end !== undefined, steps);
    if (to === undefined || to > endBit || steps.left < 0) return undefined;
    if (isLast) return end === undefined || endBit - to < 8 ? { lastBlock: bit, to } : undefined;
    bit = to;
  }
  return undefined;
}

/** @param endsThere whether the block ends in the byte before `endBit`. @returns the first bit behind it */
function blockEnd(
  view: DataView,
  type: number,
  from: number,
  endBit: number,
  endsThere: boolean,
  steps: Steps,
): number | undefined {
  switch (type) {
    case 0:
      return storedEnd(view, Math.ceil(from / 8));
    case 1:
      fixedCodes ??= builtFixedCodes();
      return followed(view, fixedCodes, from, endBit, steps);
    case 2: {
      const ofLiterals = endsThere ? readLengths(view, from, endBit, false) : undefined;
      const known = ofLiterals && onlyEnd(view, ofLiterals.literals, ofLiterals.to, endBit);
      if (known !== undefined) return known;
      const all = readLengths(view, from, endBit, true);
      const sound =
        all !== undefined &&
        dynamicCodes.literals.build(lengths, 0, all.literals) &&
        dynamicCodes.distances.build(lengths, all.literals, all.count);
      return sound ? followed(view, dynamicCodes, all.to, endBit, steps) : undefined;
    }
    default:
      return undefined;
  }
}

function storedEnd(view: DataView, at: number): number | undefined {
  const length = view.getUint16(at, true);
  return (length ^ 0xffff) === view.getUint16(at + 2, true) ? (at + 4 + length) * 8 : undefined;
}

/** Follows codes to the one that ends their block. */
function followed(
  view: DataView,
  codes: Codes,
  from: number,
  endBit: number,
  steps: Steps,
): number | undefined {
  const { literals, distances } = codes;
  const { direct } = literals;
  const { direct: directDistance } = distances;
  let bit = from;
  let left = steps.left;
  while (bit < endBit && left-- > 0) {
    const next = peek(view, bit);
    const entry = direct[next & DIRECT_MASK]! || literals.find(next);
    if (entry === 0) return undefined;
    bit += entry & STEP_MASK;
    if (entry < MATCH) continue;
    if (entry >= END) {
      steps.left = left;
      return bit;
    }
    const ahead = peek(view, bit);
    const distance = directDistance[ahead & DIRECT_MASK]! || distances.find(ahead);
    if (distance === 0) return undefined;
    bit += distance;
  }
  return undefined;
}

/**
 * Looks for the code that ends a block in the last byte of its stream.
 * @param literals how many of `lengths` are of literals and matches; `counts` are of them
 * @param from the first bit that the code may be at
 * @returns the first bit behind it; undefined when it stands at several of the eight, or at none
 */
function onlyEnd(view: DataView, literals: number, from: number, endBit: number): number | undefined {
  const length = lengths[END_OF_BLOCK]!;
  if (length === 0) return undefined;
  // Codes are given out by length, then by symbol: each takes the room of so many of this length.
  let code = counts[length]! - 1;
  for (let shorter = 1; shorter < length; shorter++) code += counts[shorter]! << (length - shorter);
  for (let symbol = END_OF_BLOCK + 1; symbol < literals; symbol++) if (lengths[symbol] === length) code--;
  const bits = reversed(code, length);
  const mask = (1 << length) - 1;
  let found: number | undefined;
  for (let to = Math.max(endBit - 7, from + length); to <= endBit; to++) {
    if ((peek(view, to - length) & mask) !== bits) continue;
    if (found !== undefined) return undefined;
    found = to;
  }
  return found;
}

/**
 * Reads the lengths of the codes that a block begins with (RFC 1951, 3.2.7) into `lengths`, and counts those of literals and matches:
 * nothing that is done for a merged batch has more steps.
 * @param whole whether to read those of distances too
 * @returns how many there are, how many of them are of literals and matches, and the first bit behind what was read
 */
function readLengths(
  view: DataView,
  from: number,
  endBit: number,
  whole: boolean,
): { literals: number; count: number; to: number } | undefined {
  const header = peek(view, from);
  const literals = (header & 31) + END_OF_BLOCK + 1;
  const count = literals + ((header >>> 5) & 31) + 1;
  const given = ((header >>> 10) & 15) + 4;
  let bit = from + 14;
  if (literals > MAX_LITERALS || bit + 3 * given > endBit) return undefined;
  lengthsOfLengths.fill(0);
  for (let i = 0; i < given; i++, bit += 3) lengthsOfLengths[CODE_LENGTH_ORDER[i]!] = peek(view, bit) & 7;
  if (!lengthCodes.build(lengthsOfLengths, 0, CODE_LENGTHS)) return undefined;
  const { direct } = lengthCodes;
  lengths.fill(0);
  counts.fill(0);
  const wanted = whole ? count : literals;
  for (let i = 0; i < wanted; ) {
    if (bit >= endBit) return undefined;
    const next = peek(view, bit);
    const entry = direct[next & 127]!;
    if (entry === 0) return undefined;
    const codeBits = entry & 7;
    const symbol = entry >>> 3;
    bit += codeBits;
    if (symbol < 16) {
      counts[symbol]!++;
      lengths[i++] = symbol;
      continue;
    }
    const { bits, least } = REPEATS[symbol - 16]!;
    const to = i + least + ((next >>> codeBits) & ((1 << bits) - 1));
    bit += bits;
    if (to > count || (symbol === 16 && i === 0)) return undefined;
    const length = symbol === 16 ? lengths[i - 1]! : 0;
    if (length > 0) {
      counts[length]! += Math.min(to, literals) - i;
      lengths.fill(length, i, to);
    }
    i = to;
  }
  return { literals, count, to: bit };
}

/** RFC 1951, 3.2.6. */
function builtFixedCodes(): Codes {
  const codes = emptyCodes();
  const ofLiterals = Uint8Array.from({ length: MAX_LITERALS }, (_, symbol) =>
    symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8,
  );
  codes.literals.build(ofLiterals, 0, MAX_LITERALS);
  codes.distances.build(new Uint8Array(MAX_DISTANCES).fill(5), 0, MAX_DISTANCES);
  return codes;
}

/** At least 25 bits from there on, the first one lowest. */
function peek(view: DataView, bit: number): number {
  return view.getInt32(bit >>> 3, true) >>> (bit & 7);
}

/** Codes are packed from their first bit, everything else from its last. */
function reversed(code: number, length: number): number {
  let bits = code;
  bits = ((bits & 0x5555) << 1) | ((bits >>> 1) & 0x5555);
  bits = ((bits & 0x3333) << 2) | ((bits >>> 2) & 0x3333);
  bits = ((bits & 0x0f0f) << 4) | ((bits >>> 4) & 0x0f0f);
  bits = ((bits & 0x00ff) << 8) | (bits >>> 8);
  return bits >>> (16 - length);
}
