/**
 * Numbers of metrics, exactly. A finite double is a whole multiple of 2^-1074, so as a bigint in that unit it can be added and
 * compared without rounding; integers are in the same unit.
 */

const UNIT_BITS = 1_074n;
const MANTISSA_BITS = 52n;

/** @returns undefined for what is not finite */
export function exactDouble(value: number): bigint | undefined {
  if (!Number.isFinite(value)) return undefined;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const fraction = bits & ((1n << MANTISSA_BITS) - 1n);
  const exponent = (bits >> MANTISSA_BITS) & 0x7ffn;
  const size = exponent === 0n ? fraction : (fraction | (1n << MANTISSA_BITS)) << (exponent - 1n);
  return bits >> 63n === 0n ? size : -size;
}

export function exactInteger(value: bigint): bigint {
  return value << UNIT_BITS;
}

/** For people: exact where it is a whole number. */
export function shown(exact: bigint): string {
  const whole = exact >> UNIT_BITS;
  const rest = exact - (whole << UNIT_BITS);
  return rest === 0n
    ? String(whole)
    : String(Number(whole) + Number(rest >> (UNIT_BITS - MANTISSA_BITS)) * 2 ** -52);
}
