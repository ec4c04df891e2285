/**
 * A set of item sequence numbers (unsigned 32-bit), kept as a bitmap in lazily allocated chunks.
 *
 * One bit per item: an hour at 10,000 items/s is 36 million items and 4.5 MB. Both sides of a test use it: the
 * generator for what was acknowledged, the mock upstream for what arrived, so that the oracle compares words of bits.
 */

const CHUNK_BITS = 1 << 16;
const CHUNK_WORDS = CHUNK_BITS / 32;

const MAX_SEQUENCE = 0xffffffff;

/** Half-open ranges, flat: [from, to, from, to, …], ascending and not touching. */
export type FlatRanges = number[];

export class SequenceSet {
  #chunks: (Uint32Array | undefined)[] = [];
  #count = 0;

  /** How many numbers are in the set. */
  get count(): number {
    return this.#count;
  }

  /** Adds one number; false when it was there already. Throws a RangeError outside 0…2³²−1. */
  add(sequence: number): boolean {
    const index = Math.floor(sequence / CHUNK_BITS);
    let chunk = this.#chunks[index];
    if (chunk === undefined) {
      if (!Number.isInteger(sequence) || sequence < 0 || sequence > MAX_SEQUENCE) {
        throw new RangeError(`sequence ${sequence} is not an unsigned 32-bit integer`);
      }
      chunk = new Uint32Array(CHUNK_WORDS);
      this.#chunks[index] = chunk;
    }
    const bit = sequence & (CHUNK_BITS - 1);
    const word = bit >>> 5;
    const mask = 1 << (bit & 31);
    const before = chunk[word]!;
    if ((before & mask) !== 0) return false;
    chunk[word] = before | mask;
    this.#count += 1;
    return true;
  }

  /** Adds `count` numbers from `from` on. */
  addRange(from: number, count: number): void {
    for (let sequence = from; sequence < from + count; sequence += 1) this.add(sequence);
  }

  has(sequence: number): boolean {
    const chunk = this.#chunks[Math.floor(sequence / CHUNK_BITS)];
    if (chunk === undefined) return false;
    const bit = sequence & (CHUNK_BITS - 1);
    return (chunk[bit >>> 5]! & (1 << (bit & 31))) !== 0;
  }

  addAll(other: SequenceSet): void {
    for (const [from, to] of other.ranges()) this.addRange(from, to - from);
  }

  /** The numbers of this set that are not in `other`. */
  minus(other: SequenceSet): SequenceSet {
    return this.#combine(other, (mine, theirs) => mine & ~theirs);
  }

  /** The numbers that are in both. */
  and(other: SequenceSet): SequenceSet {
    return this.#combine(other, (mine, theirs) => mine & theirs);
  }

  /** How many numbers of [from, from + count) are in the set. */
  countIn(from: number, count: number): number {
    let found = 0;
    for (let sequence = from; sequence < from + count; sequence += 1) if (this.has(sequence)) found += 1;
    return found;
  }

  /** Ascending half-open ranges, joined where they touch. */
  *ranges(): Generator<[from: number, to: number]> {
    let from = -1;
    for (let index = 0; index < this.#chunks.length; index += 1) {
      const chunk = this.#chunks[index];
      const base = index * CHUNK_BITS;
      if (chunk === undefined) {
        if (from >= 0) yield [from, base];
        from = -1;
        continue;
      }
      for (let word = 0; word < CHUNK_WORDS; word += 1) {
        const bits = chunk[word]!;
        const start = base + word * 32;
        if (bits === 0) {
          if (from >= 0) yield [from, start];
          from = -1;
        } else if (bits === 0xffffffff) {
          if (from < 0) from = start;
        } else {
          for (let bit = 0; bit < 32; bit += 1) {
            if ((bits & (1 << bit)) !== 0) {
              if (from < 0) from = start + bit;
            } else if (from >= 0) {
              yield [from, start + bit];
              from = -1;
            }
          }
        }
      }
    }
    if (from >= 0) yield [from, this.#chunks.length * CHUNK_BITS];
  }

  /** All ranges, flat, for JSON. At most `limit` of them; `truncated` says that there are more. */
  toFlat(limit = 1_000_000): { ranges: FlatRanges; truncated: boolean } {
    const ranges: FlatRanges = [];
    for (const [from, to] of this.ranges()) {
      if (ranges.length >= 2 * limit) return { ranges, truncated: true };
      ranges.push(from, to);
    }
    return { ranges, truncated: false };
  }

  static fromFlat(ranges: FlatRanges): SequenceSet {
    const set = new SequenceSet();
    for (let i = 0; i + 1 < ranges.length; i += 2) set.addRange(ranges[i]!, ranges[i + 1]! - ranges[i]!);
    return set;
  }

  /** A short text such as `0–499, 1000, … (3 more ranges)`, for a failure message. */
  describe(maxRanges = 8): string {
    const shown: string[] = [];
    let hidden = 0;
    for (const [from, to] of this.ranges()) {
      if (shown.length < maxRanges) shown.push(to - from === 1 ? String(from) : `${from}–${to - 1}`);
      else hidden += 1;
    }
    if (hidden > 0) shown.push(`… (${hidden} more ranges)`);
    return shown.length === 0 ? 'none' : shown.join(', ');
  }

  #combine(other: SequenceSet, operation: (mine: number, theirs: number) => number): SequenceSet {
    const result = new SequenceSet();
    for (let index = 0; index < this.#chunks.length; index += 1) {
      const mine = this.#chunks[index];
      if (mine === undefined) continue;
      const theirs = other.#chunks[index];
      let chunk: Uint32Array | undefined;
      for (let word = 0; word < CHUNK_WORDS; word += 1) {
        const bits = operation(mine[word]!, theirs === undefined ? 0 : theirs[word]!);
        if (bits === 0) continue;
        chunk ??= new Uint32Array(CHUNK_WORDS);
        chunk[word] = bits;
        result.#count += ones(bits);
      }
      if (chunk !== undefined) result.#chunks[index] = chunk;
    }
    return result;
  }
}

function ones(bits: number): number {
  let n = bits - ((bits >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
