import { describe, expect, it } from 'vitest';
import { ids, incompressible, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const dropped = (told: { dropped: { items: number }[] }) =>
  told.dropped.reduce((sum, { items }) => sum + items, 0);

describe('what was read and may be delivered yet', () => {
  it('is not purged: it is done with when it was delivered, and comes again when it was not', async () => {
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

  it('is still there after a purge and a kill, and nothing else is', async () => {
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

  it('keeps its segment from expiring and from making room for others', async () => {
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
});
