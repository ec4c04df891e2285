/**
 * The queue and the disk in schedules in which anything may end between any two steps. The product's own scripts and
 * classes run; Redis, the disk, the network and time are models. A failure prints its story and the seed to have it again.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Choices } from './choices.ts';
import { explore, storyOf } from './explore.ts';
import { REGRESSIONS } from './regressions.ts';
import { runSchedule } from './schedule.ts';
import { installVirtualTime } from './virtual-time.ts';

vi.mock('@mongodb-js/zstd', () => import('./zstd.ts'));

const SCHEDULES = Number(process.env.NRDOT_SCHEDULES || 25_000);
const SEED = Number(process.env.NRDOT_SEED || Math.floor(Math.random() * 2 ** 30));

let restore: () => void;
beforeAll(() => {
  restore = installVirtualTime();
});
afterAll(() => restore());

describe('whatever ends between any two steps', () => {
  it('loses nothing that was acknowledged, and balances the books', { timeout: 24 * 3_600_000 }, async () => {
    const { schedules, steps, faults, failure } = await explore(SCHEDULES, SEED);
    process.stdout.write(
      `crash model: seed ${SEED}, ${schedules} schedules, ${steps} steps, ${faults} faults\n`,
    );
    if (failure) expect.fail(storyOf(failure));
    expect(schedules).toBe(SCHEDULES);
  });

  it.each(REGRESSIONS.map(({ what, choices }) => [what, choices] as const))('%s', async (_what, choices) => {
    const { broken } = await runSchedule(Choices.replayed(choices));
    expect(broken).toBeUndefined();
  });
});
