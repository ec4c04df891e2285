import { describe, expect, it } from 'vitest';
import { ids, incompressible, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const dropped = (told: { dropped: { items: number }[] }) =>
  told.dropped.reduce((sum, { items }) => sum + items, 0);

describe('a record that was read and may still be delivered', () => {
  it('is not purged: it is acknowledged if it was delivered, and read again if not', async () => {
    const disk = new SimulatedDisk(seeded(1));
    let clock = 2_000;
    const { o, told } = options(disk, { segmentBytes: 600, now: () => clock });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 6; i++) await log.append('normal', incompressible(`r${i}`, 2, 300, i));
    const [first, second, third] = [
      await log.read('normal'),
      await log.read('normal'),
      await log.read('normal'),
    ];
    log.ack(first!.position);
    log.release(third!.position);
    expect(await log.purge('normal')).toEqual({ items: 8, heldItems: 2 });
    expect(dropped(told)).toBe(8);
    expect(log.stats('normal')).toMatchObject({ records: 1, items: 2 });
    log.release(second!.position);
    await log.rewind('normal');
    const again = await readAll(log, 'normal');
    expect(ids(again)).toEqual(['r1']);
    log.ack(again[0]!.position);
    clock += 5_000;
    await log.maintain();
    expect(log.stats('normal')).toMatchObject({ segments: 0, items: 0 });
    expect(dropped(told)).toBe(8);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it('is read again even if it is released while the purge records its drops', async () => {
    const disk = new SimulatedDisk(seeded(5));
    const { o, told } = options(disk);
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 3; i++) await log.append('normal', record(`r${i}`, 2));
    const { position } = (await log.read('normal'))!;
    disk.beforeWrite = (operation, path) => {
      if (operation === 'rename' && path.includes('checkpoint')) log.release(position);
    };
    expect((await log.purge('normal')).items).toBe(4);
    disk.beforeWrite = undefined;
    await log.rewind('normal');
    expect(ids(await readAll(log, 'normal'))).toEqual(['r0']);
    expect(log.stats('normal').items + dropped(told)).toBe(6);
    await log.close();
  });

  it('is all that remains after a purge and a kill', async () => {
    const disk = new SimulatedDisk(seeded(2));
    const { o, told } = options(disk, { segmentBytes: 100_000 });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 6; i++) await log.append('high', record(`r${i}`, 2, 50, 'high'));
    for (let i = 0; i < 3; i++) {
      const { position } = (await log.read('high'))!;
      if (i !== 1) log.release(position);
    }
    expect(await log.purge('high')).toEqual({ items: 10, heldItems: 2 });
    disk.crash();
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    expect(ids(await readAll(again, 'high'))).toEqual(['r1']);
    expect(told.corrupted).toEqual([]);
    await again.close();
  });

  it('protects its segment from retention and capacity', async () => {
    let clock = 2_000;
    const { o, told } = options(new SimulatedDisk(seeded(3)), {
      now: () => clock,
      retentionMs: 10_000,
      segmentBytes: 600,
      capacityBytes: 4_000,
      whenFull: 'drop_oldest',
    });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 12; i++) {
      await log.append('normal', incompressible(`r${i}`, 1, 300, i));
      if (i === 0) await log.read('normal');
    }
    expect(dropped(told)).toBeGreaterThan(0);
    expect(log.segments()[0]).toMatchObject({ sequence: 1, ackedItems: 0 });
    clock = 20_000;
    await log.maintain();
    await log.maintain();
    expect(log.stats('normal')).toMatchObject({ segments: 1 });
    await log.rewind('normal');
    const [{ position }] = [(await log.read('normal'))!];
    log.release(position);
    await log.maintain();
    expect(log.stats('normal')).toMatchObject({ segments: 0 });
    expect(dropped(told)).toBe(12);
    await log.close();
  });

  it('is all that is read again, even if the purge meets a segment that is being sealed', async () => {
    const disk = new SimulatedDisk(seeded(4));
    const real = disk.fileSystem();
    const signal = () => {
      let give = () => {};
      const given = new Promise<void>((resolve) => {
        give = resolve;
      });
      return { give, given };
    };
    const [atRename, goOn, renamed] = [signal(), signal(), signal()];
    const fs = {
      ...real,
      rename: async (from: string, to: string) => {
        if (!from.endsWith('.open')) return real.rename(from, to);
        atRename.give();
        await goOn.given;
        await real.rename(from, to);
        renamed.give();
      },
      unlink: async (path: string) => {
        // Whoever would remove it by its old name comes too late.
        if (path.endsWith('.open')) await renamed.given;
        await real.unlink(path);
      },
    };
    const { o, told } = options(disk, { fs, segmentBytes: 600 });
    const log = await SegmentLog.open(o);
    await log.append('normal', incompressible('r0', 1, 300, 0));
    const appending = log.append('normal', record('r1')); // into a new segment: the full one is sealed first
    await atRename.given;
    const purging = log.purge('normal');
    await new Promise(setImmediate); // it goes as far as it can without the rename
    goOn.give();
    await Promise.all([appending, purging]);
    disk.crash();
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    // What was given up does not come again; the new record may have been too late for the purge.
    expect(dropped(told) + (await readAll(again, 'normal')).length).toBe(2);
    await again.close();
  });
});
