import { afterEach, expect, it, vi } from 'vitest';
import { steadyNow } from './clock.ts';

afterEach(() => vi.restoreAllMocks());

it('the steady clock is Unix time in whole ms, independent of steps of the wall clock', () => {
  const before = steadyNow();
  expect(Math.abs(before - Date.now())).toBeLessThan(60_000);
  vi.spyOn(Date, 'now').mockReturnValue(before + 3_600_000);
  const after = steadyNow();
  expect(Number.isInteger(after)).toBe(true);
  expect(after - before).toBeLessThan(60_000);
});
