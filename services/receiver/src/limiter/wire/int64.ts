/** A signed 64-bit integer as int32 halves; used for results, to avoid allocations. */
export interface Int64 {
  lo: number;
  hi: number;
}

/** @returns false if the sum does not fit; `out` is unchanged then */
export function addInt64(aLo: number, aHi: number, bLo: number, bHi: number, out: Int64): boolean {
  const low = (aLo >>> 0) + (bLo >>> 0);
  const high = (aHi + bHi + (low > 0xffffffff ? 1 : 0)) | 0;
  if ((aHi ^ high) & (bHi ^ high) & 0x80000000) return false;
  out.lo = low | 0;
  out.hi = high;
  return true;
}

/** @returns false if the difference does not fit; `out` is unchanged then */
export function subtractInt64(aLo: number, aHi: number, bLo: number, bHi: number, out: Int64): boolean {
  const low = (aLo >>> 0) - (bLo >>> 0);
  const high = (aHi - bHi - (low < 0 ? 1 : 0)) | 0;
  if ((aHi ^ bHi) & (aHi ^ high) & 0x80000000) return false;
  out.lo = low | 0;
  out.hi = high;
  return true;
}

/** Whether signed a < b. */
export function lessInt64(aLo: number, aHi: number, bLo: number, bHi: number): boolean {
  return aHi === bHi ? aLo >>> 0 < bLo >>> 0 : aHi < bHi;
}
