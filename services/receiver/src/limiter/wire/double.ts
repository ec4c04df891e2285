/**
 * a + b, limited to the range of doubles, so that a sum of finite numbers is finite: an infinite total would never become a
 * number again.
 */
export function addDoubles(a: number, b: number): number {
  const sum = a + b;
  if (Number.isFinite(sum) || !Number.isFinite(a) || !Number.isFinite(b)) return sum;
  return sum > 0 ? Number.MAX_VALUE : -Number.MAX_VALUE;
}
