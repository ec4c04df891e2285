import { describe, expect, it } from 'vitest';
import { ids, incompressible, MIB, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });

describe('the writer', () => {
  it('seals between two writes, however many appends are waiting', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk, { segmentBytes: MIB });
    const log = await SegmentLog.open(o);
    let n = 0;
    const callers = Array.from({ length: 4 }, async () => {
      for (let i = 0; i < 50; i++) await log.append('normal', record(`r${n++}`));
    });
    const sealer = (async () => {
      for (let i = 0; i < 20; i++) await log.seal('normal');
    })();
    await Promise.all([...callers, sealer]);
    expect(log.segments().length).toBeGreaterThan(5);
    expect(await readAll(log, 'normal')).toHaveLength(200);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it('uses one fsync for all appends that arrived during the previous one', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o } = options(disk, { segmentBytes: 64 * MIB });
    const log = await SegmentLog.open(o);
    await log.append('normal', record('first'));
    let syncs = 0;
    disk.beforeWrite = (operation) => {
      if (operation === 'sync') syncs++;
    };
    await Promise.all(Array.from({ length: 500 }, (_, i) => log.append('normal', record(`r${i}`, 1, 2_000))));
    expect(syncs).toBe(1);
    await log.close();
  });

  it('refuses appends beyond its memory limit', async () => {
    const { o } = options(new SimulatedDisk(seeded(1)), {
      segmentBytes: 128 * MIB,
      capacityBytes: 2048 * MIB,
    });
    const log = await SegmentLog.open(o);
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) => log.append('normal', record(`r${i}`, 1, 8 * MIB))),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(8);
    expect(results[9]).toMatchObject({ reason: { code: 'busy' } });
    await log.append('normal', record('later'));
    await log.close();
  });

  it('leaves no empty files on a disk that stays full', async () => {
    const disk = new SimulatedDisk(seeded(1));
    let clock = 0;
    const { o } = options(disk, { now: () => clock });
    const log = await SegmentLog.open(o);
    disk.beforeWrite = (operation) => {
      if (operation === 'sync') throw fault('ENOSPC');
    };
    for (let i = 0; i < 20; i++) {
      clock += 1_000;
      await expect(log.append('high', record(`r${i}`))).rejects.toMatchObject({ code: 'disk_full' });
    }
    expect(disk.paths().filter((path) => path.startsWith('/dlq/high/'))).toEqual([]);
    disk.beforeWrite = undefined;
    clock += 1_000;
    await log.append('high', record('b'));
    expect(ids(await readAll(log, 'high'))).toEqual(['b']);
    await log.close();
  });

  it('does not retry a failing disk for each waiting append', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk, { segmentBytes: 64 * MIB });
    const log = await SegmentLog.open(o);
    disk.beforeWrite = () => {
      throw fault('EIO');
    };
    const results = await Promise.allSettled(
      Array.from({ length: 200 }, (_, i) => log.append('normal', record(`r${i}`, 1, 100_000))),
    );
    expect(results.every(({ status }) => status === 'rejected')).toBe(true);
    expect(told.faults).toEqual(['disk_failing']);
    disk.beforeWrite = undefined;
    await log.close();
  });

  it('keeps rejected batches within their own limit, dropping and counting the oldest', async () => {
    const { o, told } = options(new SimulatedDisk(seeded(1)), { rejectedCapacityBytes: 8_000 });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 30; i++) {
      await log.append('rejected', incompressible(`r${i}`, 2, 500, i, 'rejected'));
    }
    expect(log.stats('rejected').diskBytes).toBeLessThanOrEqual(8_000);
    const dropped = told.dropped.reduce((sum, { items }) => sum + items, 0);
    expect(dropped).toBeGreaterThan(0);
    expect(log.stats('rejected').items + dropped).toBe(60);
    expect(ids(await readAll(log, 'rejected')).at(-1)).toBe('r29');
    await log.close();
  });

  it('purges during concurrent writes at capacity', async () => {
    const { o } = options(new SimulatedDisk(seeded(1)), { whenFull: 'drop_oldest', capacityBytes: 16_000 });
    const log = await SegmentLog.open(o);
    let n = 0;
    const writers = Array.from({ length: 4 }, async () => {
      for (let i = 0; i < 25; i++) await log.append('normal', incompressible(`r${n}`, 1, 400, n++));
    });
    const purges = (async () => {
      for (let i = 0; i < 10; i++) {
        await log.purge('normal');
        await log.maintain();
      }
    })();
    await Promise.all([...writers, purges]);
    await log.close();
  });
});
