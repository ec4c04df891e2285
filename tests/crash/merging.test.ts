/** Merged totals in schedules in which anything may end between any two steps: exact, whatever was refused, lost or killed. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { installChance } from './chance.ts';
import { explore, storyOf } from './explore.ts';
import { installVirtualTime } from './virtual-time.ts';

vi.mock('@mongodb-js/zstd', () => import('./zstd.ts'));

/** One for a hundred without metrics: they take so much longer. */
const SCHEDULES = Math.ceil(Number(process.env.NRDOT_SCHEDULES || 100_000) / 100);
const SEED = Number(process.env.NRDOT_SEED || 83_000_001);

const restored: (() => void)[] = [];
beforeAll(() => void restored.push(installVirtualTime(), installChance()));
afterAll(() => {
  for (const restore of restored) restore();
});

describe('any process that dies between any two steps', () => {
  it('merged totals equal what the sources counted', { timeout: 24 * 3_600_000 }, async () => {
    const { schedules, steps, faults, failure } = await explore(SCHEDULES, SEED, { load: 'merging' });
    process.stdout.write(
      `crash model, merging: seed ${SEED}, ${schedules} schedules, ${steps} steps, ${faults} faults\n`,
    );
    if (failure) expect.fail(storyOf(failure));
    expect(schedules).toBe(SCHEDULES);
  });
});
