import { type Halves, Hash64, keyHash32 } from '../hash.ts';
import { Reader } from './reader.ts';

/**
 * Hashes one attribute, in every encoding that protobuf allows. The hashed form is canonical:
 *
 *   key bytes, 0xFF, then nothing for no value, or the field number of the value and
 *     string, bytes: the bytes        bool: 0 or 1        int: the shortest varint        double: 8 bytes
 *     array:  8 bytes of hash per element, in order
 *     list of key-values: 8 bytes, the sum of the mixed hashes of its pairs: a map has no order
 *
 * The kernel computes the same for what common encoders write, and leaves everything else to this.
 */

const STRING = 1;
const BOOL = 2;
const INT = 3;
const DOUBLE = 4;
const ARRAY = 5;
const KVLIST = 6;
const BYTES = 7;
/** Offset basis of what is inside of a value. */
const NESTED: Halves = { lo: 0x84222325, hi: 0xcbf29ce4 };
/** The maximum depth of validated bodies. */
const DEPTH_MAX = 64;

/** Hashes of one attribute: of its key alone, and of key and value, mixed. */
export class AttributeHash {
  keyHash = 0;
  lo = 0;
  hi = 0;
}

/** Hashes the KeyValue message `bytes[from, to)`. */
export function hashAttribute(
  bytes: Uint8Array,
  from: number,
  to: number,
  seed: Halves,
  out: AttributeHash,
  depth = 0,
): void {
  let keyStart = 0;
  let keyEnd = 0;
  const values: number[] = [];
  const reader = new Reader().open(bytes, from, to);
  while (reader.next()) {
    if (reader.wire !== 2) continue;
    if (reader.field === 1) {
      keyStart = reader.start;
      keyEnd = reader.end;
    } else if (reader.field === 2) values.push(reader.start, reader.end);
  }
  const hash = new Hash64().set(seed.lo, seed.hi).bytes(bytes, keyStart, keyEnd).byte(0xff);
  out.keyHash = keyHash32(hash.lo, hash.hi);
  hashValue(bytes, values, hash, depth);
  hash.mix();
  out.lo = hash.lo;
  out.hi = hash.hi;
}

/** @param spans ranges of the AnyValue messages that make up the value: usually one; several are merged */
function hashValue(bytes: Uint8Array, spans: readonly number[], hash: Hash64, depth: number): void {
  const reader = new Reader();
  let member = 0;
  let lo = 0;
  let hi = 0;
  let parts: number[] = []; // contents of the member; for arrays and lists, every piece counts
  const unknown: number[] = [];
  for (let i = 0; i < spans.length; i += 2) {
    reader.open(bytes, spans[i]!, spans[i + 1]!);
    while (reader.next()) {
      if (reader.field < STRING || reader.field > BYTES) {
        unknown.push(reader.tagStart, reader.end);
        continue;
      }
      const merges = reader.field === member && (member === ARRAY || member === KVLIST);
      if (!merges) parts = [];
      member = reader.field;
      lo = reader.lo;
      hi = reader.hi;
      parts.push(reader.start, reader.end);
    }
  }
  if (member !== 0) hash.byte(member);
  if (member === STRING || member === BYTES || member === DOUBLE) hash.bytes(bytes, parts[0]!, parts[1]!);
  else if (member === BOOL) hash.byte(lo !== 0 || hi !== 0 ? 1 : 0);
  else if (member === INT) hashVarint(lo, hi, hash);
  else if (member === ARRAY || member === KVLIST) hashElements(bytes, parts, member, hash, depth);
  for (let i = 0; i < unknown.length; i += 2) hash.bytes(bytes, unknown[i]!, unknown[i + 1]!);
}

function hashElements(
  bytes: Uint8Array,
  parts: readonly number[],
  member: number,
  hash: Hash64,
  depth: number,
) {
  if (depth >= DEPTH_MAX) {
    for (let i = 0; i < parts.length; i += 2) hash.bytes(bytes, parts[i]!, parts[i + 1]!);
    return;
  }
  const reader = new Reader();
  const element = new Hash64();
  const pair = new AttributeHash();
  const sum = new Hash64();
  for (let i = 0; i < parts.length; i += 2) {
    reader.open(bytes, parts[i]!, parts[i + 1]!);
    while (reader.next()) {
      if (reader.field !== 1 || reader.wire !== 2) continue;
      if (member === ARRAY) {
        element.set(NESTED.lo, NESTED.hi);
        hashValue(bytes, [reader.start, reader.end], element, depth + 1);
        element.mix();
        hashWord(element.lo, hash);
        hashWord(element.hi, hash);
      } else {
        hashAttribute(bytes, reader.start, reader.end, NESTED, pair, depth + 1);
        sum.add(pair.lo, pair.hi);
      }
    }
  }
  if (member === KVLIST) {
    hashWord(sum.lo, hash);
    hashWord(sum.hi, hash);
  }
}

function hashWord(word: number, hash: Hash64): void {
  for (let shift = 0; shift < 32; shift += 8) hash.byte((word >>> shift) & 0xff);
}

function hashVarint(lo: number, hi: number, hash: Hash64): void {
  let low = lo >>> 0;
  let high = hi >>> 0;
  while (high !== 0 || low > 0x7f) {
    hash.byte((low & 0x7f) | 0x80);
    low = ((low >>> 7) | (high << 25)) >>> 0;
    high >>>= 7;
  }
  hash.byte(low);
}
