/** One EIO at any one operation of a life on disk: what was acknowledged is found at the next start, and nothing is invented. */
import { describe, expect, it } from 'vitest';
import { ids, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const OPERATIONS = [
  'create',
  'write',
  'truncate',
  'sync',
  'rename',
  'unlink',
  'syncDir',
  'open',
  'read',
] as const;
/** More than any of these comes to in one life. */
const TIMES_MAX = 400;

/** Fails the nth operation of a kind. @returns whether there was one */
function failing(disk: SimulatedDisk, operation: (typeof OPERATIONS)[number], nth: number) {
  let count = 0;
  const meet = (what: string, path: string) => {
    if (what === operation && ++count === nth)
      throw Object.assign(new Error(`EIO: ${path}`), { code: 'EIO' });
  };
  disk.beforeWrite = meet;
  disk.beforeOpen = (path) => meet('open', path);
  disk.beforeRead = (path) => meet('read', path);
  return () => {
    disk.beforeWrite = undefined;
    disk.beforeOpen = undefined;
    disk.beforeRead = undefined;
    return count >= nth;
  };
}

async function live(operation: (typeof OPERATIONS)[number], nth: number): Promise<boolean> {
  const disk = new SimulatedDisk(seeded(nth));
  const clock = { now: 2_000 };
  const { o, told } = options(disk, { segmentBytes: 700, now: () => clock.now });
  const owed = new Set<string>();
  const refused = new Set<string>();
  const start = () => SegmentLog.open({ ...o, fs: disk.fileSystem() });
  const before = await start();
  for (const id of ['old0', 'old1', 'old2']) {
    await before.append('normal', record(id));
    owed.add(id);
  }
  disk.crash();
  const stop = failing(disk, operation, nth);
  try {
    const log = await start();
    for (let i = 0; i < 6; i++) {
      clock.now += 1_000;
      const id = `new${i}`;
      await log.append('normal', record(id)).then(
        () => owed.add(id),
        () => refused.add(id),
      );
    }
    await log.verifyOne();
    for (const _ of Array(4)) {
      const entry = await log.read('normal').catch(() => undefined);
      if (!entry) continue;
      log.ack(entry.position);
      owed.delete(entry.record.envelope.id);
    }
    for (const _ of Array(3)) {
      clock.now += 2_000;
      await log.maintain();
    }
    await log.close();
  } catch (error) {
    // A start or an end that fails says so; nothing of it may be lost by that.
    expect((error as Error).message).toContain('EIO');
  }
  const met = stop();
  const again = await start();
  const found = ids(await readAll(again, 'normal'));
  const where = `${operation} ${nth}`;
  for (const id of owed) expect(found, where).toContain(id);
  expect(new Set(found).size, where).toBe(found.length);
  for (const id of found) expect(id, where).toMatch(/^(old|new)\d$/);
  expect(
    told.corrupted.reduce((sum, { items }) => sum + items, 0),
    `${where}: lost`,
  ).toBe(0);
  await again.close();
  return met;
}

describe('a single disk failure', () => {
  it.each(OPERATIONS)('at any %s loses no acknowledged data', async (operation) => {
    let nth = 1;
    while (await live(operation, nth)) expect(++nth, 'operations').toBeLessThan(TIMES_MAX);
    expect(nth, `there is a ${operation} to fail`).toBeGreaterThan(1);
  });
});
