// Decodes one HistogramDataPoint of the window, as `HistogramPoint` in ../point.ts does, when it is encoded in the plain way:
// single-byte tags, packed counts and bounds in one piece each, counts below 2^52. Everything else is left to that.

// Memory, in bytes. ../scan.ts has the same numbers.
const DECODED: usize = 167936; // 80 bytes: see `DecodedHistogram` there
const COUNTS: usize = 168064; // 510 doubles
const BUCKETS_MAX: u32 = 510;

const HAS_SUM: u32 = 1;
const HAS_MIN: u32 = 2;
const HAS_MAX: u32 = 4;
const MARKER: u32 = 8;
const EXEMPLARS: u32 = 16;

// Nearly all points have the bounds of the point before, whose hash is known: where those were.
let lastBounds: u32 = 0;
let lastLength: u32 = 0;

// Has to be called when the window changes.
export function forgetBounds(): void {
  lastLength = 0;
}

// A count below 2^52 becomes a double when it is put into the mantissa of 2^52, and 2^52 is taken off: two at a time.
// @ts-ignore: decorator
@inline
function doubles(counts: v128): v128 {
  const magic = i64x2.splat(0x4330000000000000);
  return f64x2.sub(v128.or(counts, magic), magic);
}

// Packed fixed64 counts into COUNTS. Returns false when one is too large.
function pushCounts(from: u32, length: u32): bool {
  let all = i64x2.splat(0);
  let to = COUNTS;
  let p = from;
  const pairs = from + (length & ~15);
  for (; p < pairs; p += 16, to += 16) {
    const counts = v128.load(p);
    all = v128.or(all, counts);
    v128.store(to, doubles(counts));
  }
  if (length & 8) {
    const counts = v128.load64_zero(p);
    all = v128.or(all, counts);
    v128.store(to, doubles(counts));
  }
  return (i64x2.extract_lane(all, 0) | i64x2.extract_lane(all, 1)) >>> 52 == 0;
}

function sameAsLast(from: u32, length: u32): bool {
  if (length != lastLength) return false;
  let p: u32 = 0;
  let difference = i64x2.splat(0);
  const pairs = length & ~15;
  for (; p < pairs; p += 16) {
    difference = v128.or(difference, v128.xor(v128.load(from + p), v128.load(lastBounds + p)));
  }
  if (v128.any_true(difference)) return false;
  return p == length || load<u64>(from + p) == load<u64>(lastBounds + p);
}

// The same 64 bits as `HistogramPoint` in ../point.ts makes of a list of bounds.
function hashBounds(from: u32, length: u32): void {
  let lo: u32 = 0x2545f491;
  let hi: u32 = 0x6c078965;
  for (let p = from; p < from + length; p += 8) {
    lo = ((lo ^ load<u32>(p)) * 0x85ebca6b) ^ (hi >> 15);
    hi = ((hi ^ load<u32>(p, 4)) * 0xc2b2ae35) ^ (lo >> 13);
  }
  store<u32>(DECODED, lo, 60);
  store<u32>(DECODED, hi, 64);
}

// Decodes the point [from, to). Returns false for the slow way.
export function histogram(from: u32, to: u32): bool {
  let flags: u32 = 0;
  let buckets: u32 = 0;
  let bounds: u32 = 0;
  v128.store(DECODED, i64x2.splat(0));
  v128.store(DECODED, i64x2.splat(0), 16);
  v128.store(DECODED, i64x2.splat(0), 32);
  let p = from;
  while (p < to) {
    const tag: u32 = load<u8>(p++);
    if ((tag & 7) == 1) {
      if (to - p < 8) return false;
      const value = load<u64>(p);
      p += 8;
      switch (tag) {
        case 0x11: // start
          store<u64>(DECODED, value);
          break;
        case 0x19: // time
          store<u64>(DECODED, value, 8);
          break;
        case 0x21: // count
          if (value >> 52 != 0) return false;
          store<f64>(DECODED, <f64>(<i64>value), 16);
          break;
        case 0x29:
          store<u64>(DECODED, value, 24);
          flags |= HAS_SUM;
          break;
        case 0x59:
          store<u64>(DECODED, value, 32);
          flags |= HAS_MIN;
          break;
        case 0x61:
          store<u64>(DECODED, value, 40);
          flags |= HAS_MAX;
          break;
        default:
          return false;
      }
      continue;
    }
    if (p >= to) return false;
    let length: u32 = load<u8>(p++);
    if (tag == 0x50) {
      if (length >= 0x80) return false;
      flags = (flags & ~MARKER) | (length & 1 ? MARKER : 0);
      continue;
    }
    if (length >= 0x80) {
      if (p >= to) return false;
      const high: u32 = load<u8>(p++);
      if (high >= 0x80) return false;
      length = (length & 0x7f) | (high << 7);
    }
    if (length > to - p) return false;
    switch (tag) {
      case 0x4a: // attributes
        break;
      case 0x32: // counts
        if (buckets != 0 || length % 8 != 0 || length > BUCKETS_MAX * 8) return false;
        if (!pushCounts(p, length)) return false;
        buckets = length / 8;
        break;
      case 0x3a: // bounds
        if (bounds != 0 || length % 8 != 0) return false;
        if (!sameAsLast(p, length)) hashBounds(p, length);
        bounds = length / 8;
        lastBounds = p; // the nearer one is still in the cache
        lastLength = length;
        break;
      case 0x42:
        flags |= EXEMPLARS;
        break;
      default:
        return false;
    }
    p += length;
  }
  store<u32>(DECODED, flags, 48);
  store<u32>(DECODED, buckets, 52);
  store<u32>(DECODED, bounds, 56);
  return true;
}
