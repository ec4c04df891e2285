const SEVERITY_FLOORS = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 } as const;

/** The lowest severity number that is meant, and the highest. */
export function severityEnds(given: number | keyof typeof SEVERITY_FLOORS): { from: number; to: number } {
  if (typeof given === 'number') return { from: given, to: given };
  return { from: SEVERITY_FLOORS[given], to: SEVERITY_FLOORS[given] + 3 };
}
