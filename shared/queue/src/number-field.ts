/** Reads a field of a hash that is to hold a number; 0 where it is absent or somebody has made it something else, as the scripts do. */
export function numberField(text: string | number | undefined): number {
  const number = Number(text ?? 0);
  return Number.isFinite(number) ? number : 0;
}
