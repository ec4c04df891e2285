// The hot loop of the limiter, in AssemblyScript: finds data points and hashes their attributes with FNV-1a 64.
// 64-bit multiplication is one instruction here, and six on halves in JavaScript.
//
// It does what `scanAttributes` in ../scan.ts does, for encodings that are plain: single-byte tags, key before value, scalar
// values, shortest varints. A point that is anything else is marked slow and left to that. Built by ./build.ts.

import { forgetBounds, histogram } from './histogram';

export { histogram };

// Memory, in bytes. ../scan.ts has the same numbers.
const NEXT: usize = 0; // where the scan stopped
const POINTS: usize = 64; // 512 records of 32 bytes
const POINTS_MAX: u32 = 512;
const ATTRIBUTES: usize = 16448; // 4096 records of 20 bytes, and 128 for the slow way
const ATTRIBUTES_MAX: u32 = 4096;
const LISTED_MAX: u32 = 128;

const PRIME: u64 = 0x100000001b3;

// Points of one metric mostly have the same keys in the same order, and most of the same values. So the last attribute seen
// at each place is remembered, and its hash taken over when the bytes are the same, or the state after its key when only
// the key is. Comparing eight bytes takes a cycle; hashing them takes thirty, each byte waiting for the one before.
const MEMO: usize = 100928; // 40 bytes: 0 start, 4 length, 8 key length, 12 key hash, 16 state after key, 24 lo, 28 hi
const MEMO_PLACES: u32 = 32;
let memorised: u32 = 0;

// Of the last varint: where it ends, and whether it is longer than 32 bits.
let after: u32 = 0;
let tooLong: bool = false;

// @ts-ignore: decorator
@inline
function fnv(h: u64, from: u32, to: u32): u64 {
  for (let p = from; p < to; p++) h = (h ^ <u64>load<u8>(p)) * PRIME;
  return h;
}

// Whether two pieces of the window are the same.
// @ts-ignore: decorator
@inline
function same(a: u32, b: u32, length: u32): bool {
  if (length < 8) {
    for (let i: u32 = 0; i < length; i++) if (load<u8>(a + i) != load<u8>(b + i)) return false;
    return true;
  }
  const last = length - 8;
  for (let i: u32 = 0; i < last; i += 8) if (load<u64>(a + i) != load<u64>(b + i)) return false;
  return load<u64>(a + last) == load<u64>(b + last);
}

// Has to be called when the window changes.
export function forget(): void {
  memorised = 0;
  forgetBounds();
}

function varint(p: u32, limit: u32): u32 {
  let value: u32 = 0;
  tooLong = false;
  for (let shift: u32 = 0; shift < 35; shift += 7) {
    if (p >= limit) break;
    const byte = load<u8>(p++);
    if (shift == 28 && byte > 15) break;
    value |= <u32>(byte & 0x7f) << shift;
    if (byte < 0x80) {
      after = p;
      return value;
    }
  }
  tooLong = true;
  after = limit;
  return 0;
}

// Hashes the KeyValue [from, to) into the record at `record`, and adds to the sum of the point.
let sum: u64 = 0;

// @ts-ignore: decorator
@inline
function attribute(tagStart: u32, from: u32, to: u32, seed: u64, record: usize, place: u32): bool {
  const listed = place < LISTED_MAX;
  const memo = MEMO + place * 40;
  if (place < memorised && load<u32>(memo, 4) == to - from && same(load<u32>(memo), from, to - from)) {
    store<u32>(record, tagStart);
    store<u32>(record, to, 4);
    store<u32>(record, load<u32>(memo, 12), 8);
    const known = load<u64>(memo, 24);
    store<u64>(record, known, 12);
    sum += known;
    store<u32>(memo, from); // the nearer one is still in the cache
    return true;
  }
  // Key: 0A length bytes
  if (to - from < 4 || load<u8>(from) != 0x0a) return false;
  const keyLength: u32 = load<u8>(from + 1);
  if (keyLength >= 0x80) return false;
  const keyStart = from + 2;
  const keyEnd = keyStart + keyLength;
  // Value: 12 length, then one member
  if (keyEnd + 3 > to || load<u8>(keyEnd) != 0x12) return false;
  let length: u32 = load<u8>(keyEnd + 1);
  let value = keyEnd + 2;
  if (length >= 0x80) {
    const high: u32 = load<u8>(value);
    if (high >= 0x80 || high == 0) return false;
    length = (length & 0x7f) | (high << 7);
    value++;
  }
  if (value + length != to || length == 0) return false;

  let start = value + 1;
  const tag: u32 = load<u8>(value);
  switch (tag) {
    case 0x0a: // string
    case 0x3a: {
      // bytes
      if (start >= to) return false;
      let size: u32 = load<u8>(start++);
      if (size >= 0x80) {
        if (start >= to) return false;
        const high: u32 = load<u8>(start++);
        if (high >= 0x80 || high == 0) return false;
        size = (size & 0x7f) | (high << 7);
      }
      if (start + size != to) return false;
      break;
    }
    case 0x10: // bool
      if (length != 2 || load<u8>(start) > 1) return false;
      break;
    case 0x18: {
      // int: the shortest varint
      const size = to - start;
      if (size == 0 || size > 10) return false;
      for (let p = start; p < to - 1; p++) if (load<u8>(p) < 0x80) return false;
      const last: u32 = load<u8>(to - 1);
      if (last >= 0x80 || (size > 1 && last == 0) || (size == 10 && last > 1)) return false;
      break;
    }
    case 0x21: // double
      if (length != 9) return false;
      break;
    default:
      return false;
  }

  let h: u64;
  let key: u32;
  if (place < memorised && load<u32>(memo, 8) == keyLength && same(load<u32>(memo) + 2, keyStart, keyLength)) {
    h = load<u64>(memo, 16);
    key = load<u32>(memo, 12);
  } else {
    h = (fnv(seed, keyStart, keyEnd) ^ 0xff) * PRIME;
    key = (<u32>h ^ <u32>(h >> 47)) * 0x9e3779b1;
    key ^= key >> 15;
  }
  const state = h;
  h = (h ^ <u64>(tag >> 3)) * PRIME;
  h = fnv(h, start, to);

  let lo = (<u32>h ^ (<u32>(h >> 48))) * 0x85ebca6b;
  let hi = (<u32>(h >> 32) ^ (lo >> 13)) * 0xc2b2ae35;
  lo = (lo ^ (hi >> 16)) * 0x27d4eb2f;
  hi = hi ^ (lo >> 15);
  const mixed = (<u64>hi << 32) | <u64>lo;
  if (listed) {
    store<u32>(record, tagStart);
    store<u32>(record, to, 4);
    store<u32>(record, key, 8);
    store<u64>(record, mixed, 12);
  }
  if (place < MEMO_PLACES && place <= memorised) {
    store<u32>(memo, from);
    store<u32>(memo, to - from, 4);
    store<u32>(memo, keyLength, 8);
    store<u32>(memo, key, 12);
    store<u64>(memo, state, 16);
    store<u64>(memo, mixed, 24);
    if (place == memorised) memorised++;
  }
  sum += mixed;
  return true;
}

// Hashes all attributes of the point [from, to). Returns how many were listed, or -1 for the slow way.
function point(from: u32, to: u32, tag: u32, seed: u64, records: usize): i32 {
  sum = 0;
  let listed: u32 = 0;
  let p = from;
  while (p < to) {
    const tagStart = p;
    const found: u32 = load<u8>(p++);
    if (found >= 0x80) return -1;
    const wire = found & 7;
    if (wire == 2) {
      if (p >= to) return -1;
      let length: u32 = load<u8>(p);
      if (length < 0x80) p++;
      else {
        length = varint(p, to);
        if (tooLong) return -1;
        p = after;
      }
      if (length > to - p) return -1;
      if (found == tag) {
        if (!attribute(tagStart, p, p + length, seed, records + listed * 20, listed)) return -1;
        if (listed < LISTED_MAX) listed++;
      }
      p += length;
    } else if (wire == 1) p += 8;
    else if (wire == 5) p += 4;
    else if (wire == 0) {
      while (p < to && load<u8>(p) >= 0x80) p++;
      p++;
    } else return -1;
    if (p > to) return -1;
  }
  return listed;
}

// Scans points (field 1) in [from, to), whose attributes are in field `field`. Returns how many were found; NEXT tells where
// the rest begins. A field that is not complete before `to` is not begun.
export function scan(from: u32, to: u32, field: u32, seedLo: u32, seedHi: u32): u32 {
  const seed = (<u64>seedHi << 32) | <u64>seedLo;
  const tag = (field << 3) | 2;
  let count: u32 = 0;
  let listed: u32 = 0;
  let p = from;
  store<u32>(NEXT, to);
  while (p < to) {
    const tagStart = p;
    const found = varint(p, to);
    p = after;
    const wire = found & 7;
    let complete = !tooLong;
    if (complete && wire == 2) {
      const length = varint(p, to);
      p = after;
      complete = !tooLong && length <= to - p;
      if (complete) {
        const end = p + length;
        if (found == 10) {
          if (count == POINTS_MAX || listed + LISTED_MAX > ATTRIBUTES_MAX) complete = false;
          else {
            const record = POINTS + count * 32;
            const n = point(p, end, tag, seed, ATTRIBUTES + listed * 20);
            store<u32>(record, tagStart);
            store<u32>(record, p, 4);
            store<u32>(record, end, 8);
            store<u64>(record, sum, 12);
            store<u32>(record, listed, 20);
            store<u32>(record, n < 0 ? 0 : n, 24);
            store<u32>(record, n < 0 ? 1 : 0, 28);
            if (n > 0) listed += n;
            count++;
          }
        }
        p = end;
      }
    } else if (wire == 1) p += 8;
    else if (wire == 5) p += 4;
    else if (complete && wire == 0) {
      while (p < to && load<u8>(p) >= 0x80) p++;
      p++;
    } else complete = false;
    if (!complete || p > to) {
      store<u32>(NEXT, tagStart);
      break;
    }
  }
  return count;
}
