/** Polynomial of gzip's CRC-32, bits reversed: the highest bit is x⁰. */
const POLYNOMIAL = 0xedb88320;
const X_TO_8 = 0x00800000;

/** x to the power of 8, 16, 32 …: the factor for one byte, two, four … that follow a text. Sizes have 32 bits. */
const SHIFTS = new Int32Array(32);
for (let i = 0, shift = X_TO_8; i < SHIFTS.length; i++, shift = timesModuloPolynomial(shift, shift)) {
  SHIFTS[i] = shift;
}

/** The CRC of two concatenated texts, from the CRCs of both: that of the first is shifted by the length of the second. */
export function combinedCrc(first: number, second: number, secondBytes: number): number {
  let moved = first;
  for (let i = 0, bytes = secondBytes; bytes !== 0; i++, bytes >>>= 1) {
    if (bytes & 1) moved = timesModuloPolynomial(SHIFTS[i]!, moved);
  }
  return moved ^ second;
}

function timesModuloPolynomial(a: number, b: number): number {
  let product = 0;
  let power = b;
  for (let left = a; left !== 0; left <<= 1) {
    product ^= power & (left >> 31);
    power = (power >>> 1) ^ (POLYNOMIAL & -(power & 1));
  }
  return product;
}
