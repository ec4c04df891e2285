import { expect, it } from 'vitest';
import { DailyBudget } from './daily-budget.ts';

it('shows no half of a character where a name is cut: two names would be the same label value of cl_daily_keys, twice', async () => {
  const begin = 'p'.repeat(119);
  const top = [`${begin}😀`, `${begin}🀄`].map((name, i) => ({ number: String(i + 1), name, keys: 2 - i }));
  const daily = { limit: 10, day: '2026-11-30', isEnforced: false, take: () => [], forget: () => {} };
  const limiter = { daily, beginDay: () => {}, learnDaily: () => {} };
  const budget = new DailyBudget(
    { count: async () => ({ sum: 3, top, over: [] }) as never },
    () => limiter as never,
    () => 0,
    (error) => expect.unreachable(error.message),
  );
  await budget.tell();
  const names = budget.status()!.metrics.map(({ metric }) => metric);
  expect(names.map((name) => name.isWellFormed())).toEqual([true, true]);
  expect(new Set(names).size).toBe(1); // the larger one is shown
});
