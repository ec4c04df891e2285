/** The short form of `make faults`: some runs of a fixed seed, and some of a new one, all with producers of what is merged. */
import { temporaryDirectory } from '@nrdot/testbed';
import { expect, describe as group, it } from 'vitest';
import { describe, plan } from './plan.ts';
import { faultRun } from './run.ts';
import { soak } from './soak.ts';
import { FORMS, Stack } from './stack.ts';

const FIXED = 8;
const RUNS = { services: 2, one: 2, sentinel: 1, cluster: 1 };
/** `make soak` in short. */
const SOAK = { durationMs: 15_000, spansPerSecond: 2_000, faultEveryMs: 4_000 };
/** What has not arrived by then will not. */
const LOST_AFTER_MS = 5_000;
/** It waits for a lock to expire; the long form has it. */
const SLOW = 'freeze beyond the lock';

group('faults', () => {
  it.each(FORMS)('lose nothing that was acknowledged: %s', async (form) => {
    using dir = temporaryDirectory();
    await using stack = await Stack.start(form, dir.path);
    for (const seed of [FIXED, Math.floor(Math.random() * 2 ** 31)]) {
      console.log(`seed ${seed}`);
      for (let index = 0; index < RUNS[form]; index++) {
        const each = { ...plan(seed, index, form), merging: true };
        if (each.faults.some(({ kind }) => kind === SLOW)) continue;
        const { result } = await faultRun(stack, each);
        expect(result.failure, `seed ${seed}, ${describe(each)}`).toBe('');
        expect(result.obligations).toBeGreaterThan(1_000);
        expect(result.totalsJudged).toBeGreaterThan(0);
      }
    }
  });

  it('the oracle detects an upstream that acknowledges data it did not store', async () => {
    using dir = temporaryDirectory();
    await using stack = await Stack.start('one', dir.path);
    stack.mock.set({ loseRate: 0.2 });
    const { result } = await faultRun(
      stack,
      { ...plan(FIXED, 0, 'one'), faults: [], merging: true },
      LOST_AFTER_MS,
    );
    expect(result.missing).toBeGreaterThan(0);
    expect(result.totalsExact).toBeLessThan(result.totalsJudged);
    expect(result.failure).toMatch(/every obligation has arrived.*missing.* instead of /s);
  });

  it('memory and descriptors stay bounded under continuous load', async () => {
    using dir = temporaryDirectory();
    await using stack = await Stack.start('services', dir.path);
    const seed = Math.floor(Math.random() * 2 ** 31);
    console.log(`seed ${seed}`);
    const result = await soak(stack, { seed, ...SOAK, tell: console.log });
    expect(result).toMatchObject({ failure: '', missing: 0, invented: 0, corrupted: 0 });
    expect(result.obligations).toBeGreaterThan(10_000);
    expect(result.faults).toBeGreaterThan(1);
  });
});
