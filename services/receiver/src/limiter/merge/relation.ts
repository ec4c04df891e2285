/** How a point relates to the last one of its source. */
export const FULL = 0;
export const DIFFERENCE = 1;
export const BASELINE = 2;
/** A baseline too, because its history is unknown. */
export const UNKNOWN = 3;
export const STALE = 4;

/**
 * The sum of a point that has none: the last known one of a source that continues, so that the next increment has the rest; 0
 * where the next sum counts whole; NaN, which is unknown, where only the difference to it will count.
 */
export function missingSum(relation: number, last: number): number {
  if (relation === DIFFERENCE) return last;
  return relation === FULL ? 0 : Number.NaN;
}
