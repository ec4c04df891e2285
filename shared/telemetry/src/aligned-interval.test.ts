import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { alignedInterval } from './aligned-interval.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('is due at whole multiples of its period, whenever it was begun, until it is ended', async () => {
  const origin = performance.now();
  await vi.advanceTimersByTimeAsync(1_000 - (origin % 1_000) + 333);
  const due: number[] = [];
  const end = alignedInterval(() => void due.push(Math.round(performance.now()) % 1_000), 500);
  await vi.advanceTimersByTimeAsync(700);
  expect(due).toEqual([500, 0]);
  end();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(due).toHaveLength(2);
});

it('fires together with others whose periods it divides', async () => {
  const due = { every: [] as number[], second: [] as number[] };
  const ends = [alignedInterval(() => void due.every.push(Math.round(performance.now())), 1_000)];
  await vi.advanceTimersByTimeAsync(700);
  ends.push(alignedInterval(() => void due.second.push(Math.round(performance.now())), 2_000));
  await vi.advanceTimersByTimeAsync(8_000);
  expect(due.second.length).toBe(4);
  expect(due.every).toEqual(expect.arrayContaining(due.second));
  for (const end of ends) end();
});

it('goes on although a turn throws', async () => {
  let turns = 0;
  const end = alignedInterval(() => {
    turns++;
    throw new Error('of one turn');
  }, 100);
  await expect(vi.advanceTimersByTimeAsync(100)).rejects.toThrow('of one turn');
  await vi.advanceTimersByTimeAsync(99).catch(() => {});
  await vi.advanceTimersByTimeAsync(1).catch(() => {});
  expect(turns).toBe(2);
  end();
});
