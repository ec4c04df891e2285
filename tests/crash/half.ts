/**
 * The queue and the disk in schedules in which anything may end between any two steps. The product's own scripts and
 * classes run; Redis, the disk, the network and time are models. A failure prints its story and the seed to have it again.
 * Two files of tests run half of them each, so that two cores share them.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { explore, storyOf } from './explore.ts';
import { installVirtualTime } from './virtual-time.ts';

const SCHEDULES = Number(process.env.NRDOT_SCHEDULES || 100_000);
const SEED = process.env.NRDOT_SEED;
/** With every run of the tests the same schedules, so that a red one is the change's; `make crash-model` draws new ones. */
const USUAL = { 1: 81_000_001, 2: 82_000_001 } as const;

export function nothingIsLost(half: 1 | 2): void {
  let restore: () => void;
  beforeAll(() => {
    restore = installVirtualTime();
  });
  afterAll(() => restore());

  const first = Math.ceil(SCHEDULES / 2);
  const count = half === 1 ? first : SCHEDULES - first;
  const seed = SEED ? Number(SEED) + (half === 1 ? 0 : first) : USUAL[half];
  it('loses nothing that was acknowledged, and balances the books', { timeout: 24 * 3_600_000 }, async () => {
    const { schedules, steps, faults, failure } = await explore(count, seed);
    process.stdout.write(
      `crash model: seed ${seed}, ${schedules} schedules, ${steps} steps, ${faults} faults\n`,
    );
    if (failure) expect.fail(storyOf(failure));
    expect(schedules).toBe(count);
  });
}
