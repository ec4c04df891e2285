import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { alignedInterval } from './aligned-interval.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('fires after a period, then at whole multiples of it, until it is ended', async () => {
  const origin = performance.now();
  await vi.advanceTimersByTimeAsync(1_000 - (origin % 1_000) + 333);
  const due: number[] = [];
  const end = alignedInterval(() => void due.push(Math.round(performance.now()) % 1_000), 500);
  await vi.advanceTimersByTimeAsync(1_700);
  expect(due).toEqual([833, 500, 0]); // 167 ms after the first is too soon
  end();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(due).toHaveLength(3);
});

it('fires together with intervals whose periods it divides', async () => {
  const due = { every: [] as number[], second: [] as number[] };
  const ends = [alignedInterval(() => void due.every.push(Math.round(performance.now())), 1_000)];
  await vi.advanceTimersByTimeAsync(700);
  ends.push(alignedInterval(() => void due.second.push(Math.round(performance.now())), 2_000));
  await vi.advanceTimersByTimeAsync(10_000);
  const aligned = due.second.slice(1);
  expect(aligned.length).toBeGreaterThanOrEqual(3);
  expect(due.every).toEqual(expect.arrayContaining(aligned));
  for (const end of ends) end();
});

it('continues after a turn that throws', async () => {
  let turns = 0;
  const end = alignedInterval(() => {
    turns++;
    throw new Error('of one turn');
  }, 100);
  await expect(vi.advanceTimersByTimeAsync(100)).rejects.toThrow('of one turn');
  await vi.advanceTimersByTimeAsync(150).catch(() => {});
  expect(turns).toBe(2);
  end();
});
