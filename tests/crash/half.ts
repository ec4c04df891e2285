/**
 * The queue and the disk in schedules in which anything may end between any two steps. The product's own scripts and
 * classes run; Redis, the disk, the network and time are models. A failure prints its story and the seed to have it again.
 * Two files of tests run half of them each, so that two cores share them.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { explore, storyOf } from './explore.ts';
import { installVirtualTime } from './virtual-time.ts';

const SCHEDULES = Number(process.env.NRDOT_SCHEDULES || 100_000);
const SEED = Number(process.env.NRDOT_SEED || Math.floor(Math.random() * 2 ** 30));

export function nothingIsLost(half: 1 | 2): void {
  let restore: () => void;
  beforeAll(() => {
    restore = installVirtualTime();
  });
  afterAll(() => restore());

  const first = Math.ceil(SCHEDULES / 2);
  const [seed, count] = half === 1 ? [SEED, first] : [SEED + first, SCHEDULES - first];
  it('loses nothing that was acknowledged, and balances the books', { timeout: 24 * 3_600_000 }, async () => {
    const { schedules, steps, faults, failure } = await explore(count, seed);
    process.stdout.write(
      `crash model: seed ${seed}, ${schedules} schedules, ${steps} steps, ${faults} faults\n`,
    );
    if (failure) expect.fail(storyOf(failure));
    expect(schedules).toBe(count);
  });
}
