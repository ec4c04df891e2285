import { describe, expect, it } from 'vitest';
import { ids, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });

/** The directory's fsync fails as long as `isFailing`, once a segment has its final name. */
function failsAfterRename(disk: SimulatedDisk) {
  const state = { isFailing: true };
  let isRenamed = false;
  disk.beforeWrite = (operation, path) => {
    if (operation === 'rename' && path.endsWith('.open')) isRenamed = true;
    if (path === '/dlq/normal' && operation === 'syncDir' && isRenamed && state.isFailing) throw fault('EIO');
  };
  return state;
}

async function goesWhenDone(log: SegmentLog, disk: SimulatedDisk, expected: string[]) {
  const found = await readAll(log, 'normal');
  expect(ids(found)).toEqual(expected);
  for (const { position } of found) log.ack(position);
  await log.maintain();
  await log.maintain();
  expect(log.segments()).toEqual([]);
  expect(disk.paths().filter((path) => /\.(seg|open)$/.test(path))).toEqual([]);
}

describe("a seal whose directory's fsync fails after the rename", () => {
  it('leaves a sealed segment that is counted, read and removed', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk);
    const log = await SegmentLog.open(o);
    await log.append('normal', record('a'));
    const failing = failsAfterRename(disk);
    await log.seal('normal');
    failing.isFailing = false;
    expect(told.faults).toEqual(['disk_failing']);
    expect(log.segments()).toMatchObject([{ state: 'sealed', records: 1 }]);
    expect(disk.paths().filter((path) => path.endsWith('.open'))).toEqual([]);
    await log.maintain();
    expect(log.stats('normal')).toMatchObject({ segments: 1, items: 1 });
    await goesWhenDone(log, disk, ['a']);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it('blocks no other segment that waits to be sealed', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk);
    const log = await SegmentLog.open(o);
    await log.append('normal', record('a'));
    const failing = failsAfterRename(disk);
    await log.seal('normal');
    failing.isFailing = false;
    // And a second one whose seal failed before its rename.
    await log.append('normal', record('b'));
    disk.beforeWrite = (operation, path) => {
      if (operation === 'rename' && path.endsWith('.open')) throw fault('EIO');
    };
    await log.seal('normal');
    disk.beforeWrite = undefined;
    await log.maintain();
    await log.maintain();
    expect(log.segments().map(({ state }) => state)).toEqual(['sealed', 'sealed']);
    await goesWhenDone(log, disk, ['a', 'b']);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it.each(['at the start, with a seal', 'in the background, without one'])(
    'also works for a segment left open by a kill: %s',
    async (when) => {
      const disk = new SimulatedDisk(seeded(1));
      const { o, told } = options(disk);
      const before = await SegmentLog.open(o);
      await before.append('normal', record('a'));
      if (when.includes('with a seal')) {
        disk.beforeWrite = (operation) => {
          if (operation === 'rename') throw fault('EIO');
        };
        await before.seal('normal');
      }
      disk.crash();
      const failing = failsAfterRename(disk);
      const log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
      await log.maintain();
      failing.isFailing = false;
      expect(disk.paths()).toContain('/dlq/normal/0000000000000001.seg');
      expect(log.segments()).toMatchObject([{ file: 'sealed', records: 1 }]);
      await log.maintain();
      await goesWhenDone(log, disk, ['a']);
      expect(told.corrupted).toEqual([]);
      await log.close();
    },
  );

  it('finds a file by its other name if a rename succeeded although it reported a failure', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk);
    const fs = disk.fileSystem();
    let isLying = true;
    const log = await SegmentLog.open({
      ...o,
      fs: {
        ...fs,
        rename: async (from, to) => {
          await fs.rename(from, to);
          if (isLying && from.endsWith('.open')) throw fault('EIO');
        },
      },
    });
    await log.append('normal', record('a'));
    await log.seal('normal');
    isLying = false;
    await log.maintain();
    expect(log.segments()).toMatchObject([{ file: 'sealed', items: 1 }]);
    await goesWhenDone(log, disk, ['a']);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it('is tried for each in turn: one that cannot be sealed blocks no other', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk);
    let log = await SegmentLog.open(o);
    for (const id of ['a', 'b']) {
      await log.append('normal', record(id));
      disk.crash();
      log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    }
    disk.beforeWrite = (operation, path) => {
      if (operation === 'write' && path.endsWith('1.open')) throw fault('EIO');
    };
    await log.maintain();
    await log.maintain();
    expect(log.segments().map(({ file }) => file)).toEqual(['recovered', 'sealed']);
    disk.beforeWrite = undefined;
    await log.maintain();
    expect(log.segments().map(({ file }) => file)).toEqual(['sealed', 'sealed']);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });
});
