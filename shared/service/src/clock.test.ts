import { afterEach, expect, it, vi } from 'vitest';
import { FollowingClock, steadyNow } from './clock.ts';

afterEach(() => vi.restoreAllMocks());

it('the steady clock is Unix time in whole ms, independent of steps of the wall clock', () => {
  const before = steadyNow();
  expect(Math.abs(before - Date.now())).toBeLessThan(60_000);
  vi.spyOn(Date, 'now').mockReturnValue(before + 3_600_000);
  const after = steadyNow();
  expect(Number.isInteger(after)).toBe(true);
  expect(after - before).toBeLessThan(60_000);
});

it('the clock for times that others read follows a change of the wall clock once it has lasted 30 s', () => {
  let [steady, wall] = [1_000_000, 1_000_400];
  const clock = new FollowingClock(
    () => steady,
    () => wall,
  );
  const after = (ms: number, change = 0) => {
    steady += ms;
    wall += ms + change;
    return clock.now() - steady;
  };
  expect(after(1_000)).toBe(0);
  expect(after(1_000, -7_200_000)).toBe(0); // wrong for a moment
  expect(after(20_000, 7_200_000)).toBe(0);
  expect(after(20_000)).toBe(0);
  expect(after(1_000, 7_200_000)).toBe(0); // set for good
  expect(after(29_000)).toBe(0);
  expect(after(1_000)).toBe(7_200_400);
  expect(after(60_000)).toBe(7_200_400);
  expect(after(1_000, -7_200_000)).toBe(7_200_400); // and back
  expect(after(30_000)).toBe(400);
});
