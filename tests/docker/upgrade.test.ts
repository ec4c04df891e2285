/** An earlier version's stack, with data wherever data can be, becomes today's: `git pull` and `docker compose up`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, hasCommit, run, whyNoEngine } from './engine.ts';
import { Stack } from './stack.ts';

/** One exporter breaker for all signals, other Redis keys, a token in the environment. */
const BEFORE = '6935343';
const IMAGE_BEFORE = 'nrdot-plus-before';

const why =
  whyNoEngine() ?? (hasCommit(BEFORE) ? undefined : `the history here does not go back to ${BEFORE}`);

describe.skipIf(why)(`an upgrade of the compose stack${why ? ` (skipped: ${why})` : ''}`, () => {
  let tree: string;
  let before: Stack;
  let after: Stack;
  beforeAll(async () => {
    tree = mkdtempSync(join(tmpdir(), 'nrdot-before-'));
    await run(['sh', '-c', `git archive ${BEFORE} | tar -x -C ${tree}`]);
    await buildImage(IMAGE_BEFORE, tree);
    await buildImage();
    before = await Stack.plan({ tree, image: IMAGE_BEFORE });
    after = before.upgraded();
    await before.up();
  });
  afterAll(async () => {
    await after?.[Symbol.asyncDispose]();
    rmSync(tree, { recursive: true, force: true });
  });

  it('keeps data in Redis, data on disk, and the accounting', async () => {
    const load = before.loading();
    await load.more(1_000);
    const kept = await before.cutUpstream(load.run);
    await load.more(1_000);
    // What comes while Redis is away goes to the disk at once.
    await before.compose('stop', '--timeout', '10', 'redis');
    await load.more(1_000);
    await before.compose('start', 'redis');
    await before.healthy();
    await load.more(1_000);
    await waitUntil(
      async () => {
        const { queued, on_disk } = await before.books();
        return queued > 0 && on_disk > 0;
      },
      { what: 'some items are in Redis and some on disk' },
    );
    const report = await load.end();
    expect(kept.get(load.run)?.count).toBeGreaterThan(0);
    await after.up();
    expect(await after.missing(report, kept.get(load.run))).toBe('');
    expect(await after.missing(await after.send(1_000))).toBe('');
  });
});
