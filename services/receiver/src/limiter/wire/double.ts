/**
 * a + b; what is beyond the largest double stays there, so that the sum of finite numbers is finite: a total that became
 * infinite once would never be a number again.
 */
export function addDoubles(a: number, b: number): number {
  const sum = a + b;
  if (Number.isFinite(sum) || !Number.isFinite(a) || !Number.isFinite(b)) return sum;
  return sum > 0 ? Number.MAX_VALUE : -Number.MAX_VALUE;
}
