/**
 * Reads the fields of a protobuf message inside a validated body without copying: a field is given by its positions. Reading
 * beyond the message throws all the same.
 */
export class Reader {
  bytes: Uint8Array = EMPTY;
  pos = 0;
  limit = 0;

  /** Number and wire type of the field that `next` found. */
  field = 0;
  wire = 0;
  /** Start of its tag, and end of the field. */
  tagStart = 0;
  end = 0;
  /** Start of its content: the payload of a length-delimited or fixed field, or the varint. */
  start = 0;
  /** A varint's 64 bits, as int32 halves. */
  lo = 0;
  hi = 0;

  open(bytes: Uint8Array, from: number, to: number): this {
    this.bytes = bytes;
    this.pos = from;
    this.limit = to;
    return this;
  }

  /** @returns false at the end of the message */
  next(): boolean {
    if (this.pos >= this.limit) return false;
    const { bytes } = this;
    this.tagStart = this.pos;
    let tag = bytes[this.pos]!;
    if (tag < 0x80) this.pos++;
    else {
      this.varint();
      tag = this.lo;
    }
    this.field = tag >>> 3;
    this.wire = tag & 7;
    switch (this.wire) {
      case 0:
        this.start = this.pos;
        this.varint();
        break;
      case 1:
        this.start = this.pos;
        this.pos += 8;
        break;
      case 2: {
        let length = bytes[this.pos]!;
        const second = bytes[this.pos + 1]!;
        if (length < 0x80) this.pos++;
        else if (second < 0x80) {
          length += (second << 7) - 0x80;
          this.pos += 2;
        } else {
          this.varint();
          length = this.hi === 0 ? this.lo >>> 0 : Number.MAX_SAFE_INTEGER;
        }
        this.start = this.pos;
        this.pos += length;
        break;
      }
      case 5:
        this.start = this.pos;
        this.pos += 4;
        break;
      default:
        throw broken(this.tagStart);
    }
    if (!(this.pos <= this.limit)) throw broken(this.tagStart);
    this.end = this.pos;
    return true;
  }

  /** Reads the varint at `pos` into `lo` and `hi`. */
  varint(): void {
    const { bytes, limit } = this;
    let lo = 0;
    let hi = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.pos >= limit) throw broken(this.pos);
      const byte = bytes[this.pos++]!;
      const bits = byte & 0x7f;
      if (shift < 28) lo |= bits << shift;
      else if (shift === 28) {
        lo |= bits << 28;
        hi = bits >>> 4;
      } else if (shift < 63) hi |= bits << (shift - 32);
      else hi |= (bits & 1) << 31;
      if (byte < 0x80) {
        this.lo = lo;
        this.hi = hi;
        return;
      }
    }
    throw broken(this.pos);
  }
}

const EMPTY = new Uint8Array(0);

function broken(at: number): RangeError {
  return new RangeError(
    `limiter: not a valid protobuf message at byte ${at}; bodies must be validated before`,
  );
}

let viewed: Uint8Array = EMPTY;
let view: DataView = new DataView(EMPTY.buffer);

/** A cached DataView of the last body: its getters are single instructions, and throw RangeError beyond the end. */
export function viewOf(bytes: Uint8Array): DataView {
  if (bytes !== viewed) {
    viewed = bytes;
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  return view;
}

/** Releases the last body. */
export function releaseBody(): void {
  viewOf(EMPTY);
}

/**
 * A little-endian 32-bit word, as int32.
 * @throws RangeError beyond the end
 */
export function int32At(bytes: Uint8Array, at: number): number {
  return viewOf(bytes).getInt32(at, true);
}

const words = new Int32Array(2);
const double = new Float64Array(words.buffer);

/** The double whose bits are these two words. */
export function doubleOf(lo: number, hi: number): number {
  words[0] = lo;
  words[1] = hi;
  return double[0]!;
}

export function doubleAt(bytes: Uint8Array, at: number): number {
  return viewOf(bytes).getFloat64(at, true);
}

/** An unsigned 64-bit number as a double: exact below 2^53. */
export function unsigned(lo: number, hi: number): number {
  return (hi >>> 0) * 4294967296 + (lo >>> 0);
}

/** A signed 64-bit number as a double: exact within ±2^53. */
export function signed(lo: number, hi: number): number {
  return hi * 4294967296 + (lo >>> 0);
}

/** Whether unsigned a < b. */
export function lessThan(aLo: number, aHi: number, bLo: number, bHi: number): boolean {
  return aHi === bHi ? aLo >>> 0 < bLo >>> 0 : aHi >>> 0 < bHi >>> 0;
}
