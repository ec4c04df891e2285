/** The fields of a hash as a script returns them: fields and values in turn. */
export function pairsOf<T>(flat: readonly T[]): [field: T, value: T][] {
  const pairs: [T, T][] = [];
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i]!, flat[i + 1]!]);
  return pairs;
}
