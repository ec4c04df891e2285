import { expect } from 'vitest';
import type { Meter } from './meter.ts';

/** One size of an input: its bytes, or whatever else it is measured by, and what is done with it. */
export interface Sized {
  size: number;
  work(): unknown;
}

/** How much more than n log n the larger may cost. What is quadratic costs sixteen times as much, not five times. */
const SLACK = 1.25;
const FACTOR = 4;

/** What an input four times as large costs, as a multiple of what n log n would give. */
export async function growth(meter: Meter, n: number, make: (n: number) => Sized): Promise<number> {
  const [small, large] = [make(n), make(n * FACTOR)];
  for (const { work } of [small, large]) await work(); // what is only done once, such as compiling a pattern
  const before = await meter.steps(small.work);
  const after = await meter.steps(large.work);
  const expected = (large.size * Math.log2(large.size)) / (small.size * Math.log2(small.size));
  return after / before / expected;
}

export async function expectLinear(meter: Meter, n: number, make: (n: number) => Sized): Promise<void> {
  expect(await growth(meter, n, make)).toBeLessThan(SLACK);
}

export async function expectTooMuch(meter: Meter, n: number, make: (n: number) => Sized): Promise<void> {
  expect(await growth(meter, n, make)).toBeGreaterThan(SLACK);
}
