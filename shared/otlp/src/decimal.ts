const [MINUS, PLUS, POINT, SMALL_E] = [0x2d, 0x2b, 0x2e, 0x65];
const TWO32 = 2 ** 32;
/** Larger exponents say no more: the texts are shorter than this. */
const EXPONENT_MAX = 1_000;

/**
 * An integer as protobuf's JSON mapping allows it to be written: `12`, `1.20e1`, `120e-1`. It is read digit by digit, because a
 * request may have millions, and exactly, in the halves of 64 bits.
 */
export class DecimalInteger {
  low = 0;
  high = 0;
  isNegative = false;

  /** @param end less than `EXPONENT_MAX` bytes after `start`. @returns whether it is an integer, and has at most 64 bits */
  read(bytes: Uint8Array, start: number, end: number): 'integer' | 'none' | 'too_large' {
    this.isNegative = bytes[start] === MINUS;
    const first = this.isNegative ? start + 1 : start;
    let at = pastDigits(bytes, first, end);
    if (at === first) return 'none';
    /** Number of digits before the point. */
    let whole = at - first;
    if (at < end && bytes[at] === POINT) {
      const fraction = at + 1;
      at = pastDigits(bytes, fraction, end);
      if (at === fraction) return 'none';
    }
    const last = at;
    if (at < end && (bytes[at]! | 0x20) === SMALL_E) {
      const sign = bytes[++at];
      if (sign === MINUS || sign === PLUS) at++;
      const digits = at;
      let exponent = 0;
      at = pastDigits(bytes, digits, end);
      if (at === digits) return 'none';
      for (let i = digits; i < at; i++) exponent = Math.min(exponent * 10 + bytes[i]! - 0x30, EXPONENT_MAX);
      whole += sign === MINUS ? -exponent : exponent;
    }
    return at === end ? this.#convert(bytes, first, last, whole) : 'none';
  }

  #convert(bytes: Uint8Array, first: number, last: number, whole: number): 'integer' | 'none' | 'too_large' {
    this.low = 0;
    this.high = 0;
    let left = whole;
    let fits = true;
    for (let at = first; at < last; at++) {
      if (bytes[at] === POINT) continue;
      const digit = bytes[at]! - 0x30;
      if (left-- > 0) fits &&= this.#append(digit);
      else if (digit !== 0) return 'none';
    }
    for (; fits && left > 0 && (this.low > 0 || this.high > 0); left--) fits = this.#append(0);
    return fits ? 'integer' : 'too_large';
  }

  /** @returns false if there are more than 64 bits then */
  #append(digit: number): boolean {
    const low = this.low * 10 + digit;
    const carry = Math.floor(low / TWO32);
    this.low = low - carry * TWO32;
    this.high = this.high * 10 + carry;
    return this.high < TWO32;
  }
}

function pastDigits(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  while (at < end && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) at++;
  return at;
}
