/** The meter finds what it is for: what was once in the product, and its like. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { expectTooMuch } from './growth.ts';
import { Meter } from './meter.ts';

let meter: Meter;
let quadratic: typeof import('./quadratic.ts');
beforeAll(async () => {
  meter = Meter.start();
  quadratic = await import('./quadratic.ts');
});
afterAll(() => meter.stop());

it.each([
  'a list that is copied for each of its elements',
  'a buffer that is copied for each of its pieces',
  'a list that is searched for each of its elements',
  'keys of YAML that are compared each with each',
  'a pattern that begins anew at each character',
] as const)('%s', (name) =>
  expectTooMuch(meter, 100, (n) => ({ size: n, work: () => quadratic.WORK[name](n) })),
);

it('linear cost is not reported', async () => {
  const steps = await Promise.resolve(meter.steps(() => quadratic.linear(1_000)));
  expect(await meter.steps(() => quadratic.linear(4_000))).toBeLessThan(4.1 * steps);
});
