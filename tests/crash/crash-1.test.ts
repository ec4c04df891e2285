/** The first half of the schedules, and those that once failed. */
import { describe, expect, it, vi } from 'vitest';
import { Choices } from './choices.ts';
import { nothingIsLost } from './half.ts';
import { REGRESSIONS } from './regressions.ts';
import { runSchedule } from './schedule.ts';

vi.mock('@mongodb-js/zstd', () => import('./zstd.ts'));

describe('any process that dies between any two steps', () => {
  nothingIsLost(1);

  it.each(REGRESSIONS.map(({ what, choices }) => [what, choices] as const))('%s', async (_what, choices) => {
    const { broken } = await runSchedule(Choices.replayed(choices));
    expect(broken).toBeUndefined();
  });
});
