/** The priority classes, most important first. Decided once, in the receiver; a batch keeps its class for life. */
export const CLASSES = ['critical', 'high', 'normal'] as const;
export type PriorityClass = (typeof CLASSES)[number];

export function isPriorityClass(value: unknown): value is PriorityClass {
  return CLASSES.includes(value as PriorityClass);
}

export function byClass<T>(value: (priorityClass: PriorityClass) => T): Record<PriorityClass, T> {
  return Object.fromEntries(CLASSES.map((c) => [c, value(c)])) as Record<PriorityClass, T>;
}
