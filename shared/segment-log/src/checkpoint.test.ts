import { describe, expect, it } from 'vitest';
import { incompressible, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { SegmentLog } from './index.ts';

describe('the checkpoint', () => {
  it('is written by one writer at a time', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk, { segmentBytes: 600, now: Date.now });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 12; i++) await log.append('normal', incompressible(`r${i}`, 1, 300, i));
    const entries = await readAll(log, 'normal');
    let under = 0;
    let most = 0;
    disk.beforeWrite = (operation, path) => {
      if (!path.endsWith('checkpoint.tmp')) return;
      if (operation === 'create') most = Math.max(most, ++under);
      if (operation === 'rename') under--;
    };
    // Removing segments writes checkpoints, and so do those who ask for one meanwhile.
    const asking = (async () => {
      for (const { position } of entries) {
        log.ack(position);
        await log.checkpoint();
      }
    })();
    await Promise.all([asking, log.maintain(), log.maintain().then(() => log.maintain())]);
    disk.beforeWrite = undefined;
    expect(most).toBe(1);
    expect(told).toMatchObject({ corrupted: [], faults: [] });
    await log.close();
  });

  it('includes everything acknowledged before it was requested', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o } = options(disk);
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 6; i++) await log.append('normal', record(`r${i}`));
    const entries = await readAll(log, 'normal');
    log.ack(entries[0]!.position);
    const first = log.maintain(); // in flight, without what follows
    log.ack(entries[1]!.position);
    await log.checkpoint();
    disk.crash();
    await first.catch(() => {});
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    expect((await readAll(again, 'normal')).map(({ record: { envelope } }) => envelope.id)).toEqual([
      'r2',
      'r3',
      'r4',
      'r5',
    ]);
    await again.close();
  });

  it('waits for one that is in flight, and reports drops and losses', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o } = options(disk);
    const log = await SegmentLog.open(o);
    await log.append('critical', record('a'));
    log.ack((await log.read('critical'))!.position);
    const order: string[] = [];
    let second: Promise<unknown> | undefined;
    disk.beforeWrite = (operation, path) => {
      if (operation === 'create') second ??= log.checkpoint().then(() => order.push('second is done'));
      if (operation === 'syncDir' && path === '/dlq/critical') order.push('on the disk');
    };
    await log.checkpoint();
    await second;
    disk.beforeWrite = undefined;
    expect(order).toEqual(['on the disk', 'second is done']);
    await log.close();
  });

  it('records a segment as acknowledged before the segment is deleted, wherever power fails', async () => {
    for (let cut = 0; cut < 30; cut++) {
      for (let seed = 0; seed < 8; seed++) {
        const disk = new SimulatedDisk(seeded(seed));
        const { o, told } = options(disk, { segmentBytes: 600 });
        const log = await SegmentLog.open(o);
        for (let i = 0; i < 3; i++) await log.append('normal', incompressible(`r${i}`, 1, 300, i));
        const entries = await readAll(log, 'normal');
        log.ack(entries[0]!.position);
        await log.checkpoint();
        for (const { position } of entries) log.ack(position);
        disk.cutPowerAfter(cut);
        await log.maintain().catch(() => {});
        disk.crash();
        const heard = told.corrupted.length;
        const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
        expect(told.corrupted.slice(heard)).toEqual([]); // a missing file would be reported as lost
        await again.close();
      }
    }
  });

  it('is either the old or the new one wherever power fails, and damage is detected', async () => {
    for (let cut = 0; cut < 8; cut++) {
      const disk = new SimulatedDisk(seeded(cut));
      const fs = disk.fileSystem();
      await fs.mkdir('/d');
      await fs.syncDir('/');
      await writeCheckpoint(fs, '/d', { nextSequence: 1, segments: [] });
      disk.cutPowerAfter(cut);
      await writeCheckpoint(fs, '/d', { nextSequence: 2, segments: [] }).catch(() => {});
      disk.crash();
      expect([1, 2]).toContain(
        ((await readCheckpoint(disk.fileSystem(), '/d')) as { nextSequence: number }).nextSequence,
      );
      const bytes = Buffer.from(disk.bytes('/d/checkpoint'));
      bytes[cut + 9]! ^= 2;
      disk.replace('/d/checkpoint', bytes);
      expect(await readCheckpoint(disk.fileSystem(), '/d')).toBe('damaged');
    }
  });
});
