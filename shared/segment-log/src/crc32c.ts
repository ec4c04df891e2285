/**
 * CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected: 0x82F63B78), eight bytes at a time. RFC 3720, appendix B.4
 * has test vectors. Kounavis and Berry, "A Systematic Approach to Building High Performance Software-Based CRC
 * Generators", 2005.
 */

const POLYNOMIAL = 0x82f63b78;
const T = new Int32Array(8 * 256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
  T[n] = c;
}
for (let n = 0; n < 256; n++) {
  for (let k = 1; k < 8; k++)
    T[k * 256 + n] = (T[(k - 1) * 256 + n]! >>> 8) ^ T[T[(k - 1) * 256 + n]! & 255]!;
}

/**
 * @param seed CRC of the preceding bytes; 0 to begin
 * @returns an unsigned 32-bit number
 */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.byteLength, seed = 0): number {
  let c = ~seed;
  let at = start;
  const t = T;
  for (; at + 8 <= end; at += 8) {
    c ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    c =
      t[1792 + (c & 255)]! ^
      t[1536 + ((c >>> 8) & 255)]! ^
      t[1280 + ((c >>> 16) & 255)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + bytes[at + 4]!]! ^
      t[512 + bytes[at + 5]!]! ^
      t[256 + bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!;
  }
  for (; at < end; at++) c = t[(c ^ bytes[at]!) & 255]! ^ (c >>> 8);
  return ~c >>> 0;
}
