import { AttributeHash, hashAttribute } from './attributes.ts';
import { Hash64 } from './hash.ts';
import { Reader } from './reader.ts';

/*
 * Records that a scan leaves behind, in int32 words. Positions are relative to `base`.
 *
 *   point:      0 tag start   1 content start   2 end   3 hash lo   4 hash hi   5 first attribute   6 attributes listed   7 slow
 *   attribute:  0 tag start   1 end   2 key hash   3 hash lo   4 hash hi
 */
export const POINT_WORDS = 8;
export const ATTRIBUTE_WORDS = 5;

/** Attributes of one point beyond these are hashed, but neither scored nor removed. SDKs stop at 128 as well. */
export const LISTED_MAX = 128;

/**
 * Hashes the attributes of one message (a data point, a resource or a scope) in any encoding, and lists them.
 * @param field the number of the attributes' field in that message
 * @param out records are written from word `at` on, at most LISTED_MAX of them
 * @param sum gets the sum of the mixed hashes
 * @returns how many were listed
 */
export function scanAttributes(
  bytes: Uint8Array,
  from: number,
  to: number,
  field: number,
  seedLo: number,
  seedHi: number,
  out: Int32Array,
  at: number,
  sum: Hash64,
): number {
  const reader = new Reader().open(bytes, from, to);
  const hash = new AttributeHash();
  let listed = 0;
  sum.set(0, 0);
  while (reader.next()) {
    if (reader.field !== field || reader.wire !== 2) continue;
    hashAttribute(bytes, reader.start, reader.end, seedLo, seedHi, hash);
    sum.add(hash.lo, hash.hi);
    if (listed >= LISTED_MAX) continue;
    const word = at + listed++ * ATTRIBUTE_WORDS;
    out[word] = reader.tagStart;
    out[word + 1] = reader.end;
    out[word + 2] = hash.keyHash;
    out[word + 3] = hash.lo;
    out[word + 4] = hash.hi;
  }
  return listed;
}

const POINTS_MAX = 512;

/** Finds the data points of a message and hashes their attributes, a few hundred at a time. */
export class Scanner {
  /** To be added to the positions in the records. */
  base = 0;
  /** Where the next call of `scan` goes on. */
  next = 0;
  readonly points = new Int32Array(POINTS_MAX * POINT_WORDS);
  readonly attributes = new Int32Array(POINTS_MAX * LISTED_MAX * ATTRIBUTE_WORDS);
  /** Of the point that was selected: the word of its first attribute's record, and how many there are. */
  attributeAt = 0;
  listed = 0;
  readonly #reader = new Reader();
  readonly #sum = new Hash64();

  get memoryBytes(): number {
    return this.points.byteLength + this.attributes.byteLength;
  }

  /** Hashes a point that the fast way passed over. */
  resolve(_at: number, _bytes: Uint8Array, _field: number, _seedLo: number, _seedHi: number): void {}

  /** Makes the attributes of the point whose record begins at word `at` available. */
  select(at: number): void {
    this.attributeAt = this.points[at + 5]! * ATTRIBUTE_WORDS;
    this.listed = this.points[at + 6]!;
  }

  /**
   * Scans points (field 1) in `bytes[from, to)`.
   * @returns how many; the rest begins at `next`, which is `to` when there is none
   */
  scan(bytes: Uint8Array, from: number, to: number, field: number, seedLo: number, seedHi: number): number {
    const reader = this.#reader.open(bytes, from, to);
    let count = 0;
    let listed = 0;
    this.next = to;
    while (reader.next()) {
      if (reader.field !== 1 || reader.wire !== 2) continue;
      if (count === POINTS_MAX) {
        this.next = reader.tagStart;
        break;
      }
      const at = count++ * POINT_WORDS;
      this.points[at] = reader.tagStart;
      this.points[at + 1] = reader.start;
      this.points[at + 2] = reader.end;
      this.points[at + 5] = listed;
      const n = scanAttributes(
        bytes,
        reader.start,
        reader.end,
        field,
        seedLo,
        seedHi,
        this.attributes,
        listed * ATTRIBUTE_WORDS,
        this.#sum,
      );
      listed += n;
      this.points[at + 3] = this.#sum.lo;
      this.points[at + 4] = this.#sum.hi;
      this.points[at + 6] = n;
    }
    return count;
  }
}
