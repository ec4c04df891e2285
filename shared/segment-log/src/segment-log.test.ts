import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { ids, incompressible, noise, options, readAll, record, seeded } from '../test/fixture.ts';
import { readSegment } from '../test/independent-reader.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { NodeFileSystem, SegmentLog, type SegmentLogOptions } from './index.ts';
import type { Area } from './record.ts';

/** A log with so many batches of two items, each in its own segment. */
async function withBatches(o: SegmentLogOptions, area: Area, count: number): Promise<SegmentLog> {
  const log = await SegmentLog.open(o);
  for (let i = 0; i < count; i++) await log.append(area, incompressible(`r${i}`, 2, 500, i, area));
  return log;
}

describe('the segment log, when the disk is full or fails', () => {
  it('refuses appends, keeps its data, and accepts more once there is room again', async () => {
    const disk = new SimulatedDisk(seeded(1));
    let clock = 2_000;
    const { o, told } = options(disk, { now: () => clock });
    const log = await SegmentLog.open(o);
    await log.append('high', record('a'));
    for (const code of ['ENOSPC', 'EIO', 'EROFS', 'EACCES']) {
      disk.beforeWrite = () => {
        throw Object.assign(new Error(`${code}: told so`), { code });
      };
      await expect(log.append('high', record(code))).rejects.toMatchObject({
        code: code === 'ENOSPC' ? 'disk_full' : 'disk_failing',
      });
      expect(log.fault).toBeDefined();
      disk.beforeWrite = undefined;
      clock += 1_000;
    }
    await log.append('high', record('b'));
    expect(log.fault).toBeUndefined();
    expect(told.faults.length).toBeGreaterThan(0);
    expect(ids(await readAll(log, 'high'))).toEqual(['a', 'b']);
    await log.close();
  });

  it.each(['the open segment', 'the directory of its class'])(
    'accepts nothing into %s once it has been removed, and begins a new one',
    async (what) => {
      const dir = mkdtempSync(join(tmpdir(), 'nrdot-removed-'));
      const fs = new NodeFileSystem();
      let clock = 2_000;
      const { o, told } = options(new SimulatedDisk(seeded(1)), { dir, fs, now: () => clock });
      const log = await SegmentLog.open(o);
      await log.append('high', record('a', 3));
      const area = join(dir, 'high');
      const [name] = readdirSync(area).filter((file) => file.endsWith('.open'));
      rmSync(what === 'the open segment' ? join(area, name!) : area, { recursive: true });
      await expect(log.append('high', record('b'))).rejects.toMatchObject({ code: 'disk_failing' });
      clock += 1_000;
      await log.append('high', record('c'));
      for (let turn = 0; turn < 3; turn++) await log.maintain();
      expect(ids(await readAll(log, 'high'))).toEqual(['c']);
      await log.maintain();
      expect(told.corrupted.reduce((sum, { items }) => sum + items, 0)).toBe(3);
      await log.close();
      rmSync(dir, { recursive: true });
    },
  );

  it('reports the end of a fault without a new append', async () => {
    const disk = new SimulatedDisk(seeded(1));
    let clock = 2_000;
    const { o } = options(disk, { now: () => clock, capacityBytes: 16_000, segmentBytes: 600 });
    const log = await SegmentLog.open(o);
    for (const code of ['ENOSPC', 'EIO', 'EROFS', 'EACCES']) {
      disk.beforeWrite = () => {
        throw Object.assign(new Error(`${code}: told so`), { code });
      };
      await expect(log.append('high', record(code))).rejects.toThrow();
      clock += 1_000;
      await log.maintain();
      expect(log.fault).toBeDefined();
      disk.beforeWrite = undefined;
      await log.maintain();
      expect(log.fault).toBeUndefined();
    }
    let n = 0;
    const fill = async () => {
      for (; ; n++) await log.append('high', { ...record(`r${n}`), payload: noise(300, n) });
    };
    await expect(fill()).rejects.toMatchObject({ code: 'full' });
    await log.maintain();
    expect(log.fault).toMatchObject({ code: 'full' });
    for (const { position } of await readAll(log, 'high')) log.ack(position);
    clock += 5_000;
    await log.maintain();
    expect(log.fault).toBeUndefined();
    expect(disk.paths().filter((path) => path.endsWith('probe'))).toEqual([]);
    await log.close();
  });

  it('never accepts a half-written record as complete', async () => {
    const disk = new SimulatedDisk(seeded(2));
    let clock = 2_000;
    const { o } = options(disk, { now: () => clock });
    let log = await SegmentLog.open(o);
    await log.append('high', record('a', 1, 400));
    disk.capacityBytes = 1_300;
    await expect(
      log.append('high', {
        ...record('b'),
        payload: noise(900, 1),
      }),
    ).rejects.toThrow();
    disk.crash();
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    clock += 1_000;
    log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    await log.append('high', record('c'));
    expect(ids(await readAll(log, 'high'))).toEqual(['a', 'c']);
    await log.close();
  });

  it('is full at its capacity, or drops and counts the oldest of the lowest class', async () => {
    const fill = async (whenFull: 'refuse' | 'drop_oldest') => {
      const { o, told } = options(new SimulatedDisk(seeded(3)), {
        whenFull,
        capacityBytes: 9_000,
        segmentBytes: 600,
      });
      const log = await SegmentLog.open(o);
      let refused = 0;
      for (let i = 0; i < 12; i++) {
        const payload = noise(300, i);
        await log
          .append(i % 2 ? 'normal' : 'critical', { ...record(`r${i}`, 2), payload })
          .catch((error: { code: string }) => {
            expect(error.code).toBe('full');
            refused++;
          });
      }
      return { log, told, refused };
    };
    const refusing = await fill('refuse');
    expect(refusing.refused).toBeGreaterThan(0);
    const dropping = await fill('drop_oldest');
    expect(dropping.refused).toBe(0);
    expect(dropping.told.dropped.every(({ reason, items }) => reason === 'capacity' && items === 2)).toBe(
      true,
    );
    expect(ids(await readAll(dropping.log, 'critical'))).toHaveLength(6);
    expect(dropping.log.stats('normal').items + dropping.told.dropped.length * 2).toBe(12);
  });

  it.each([0, 9_000])('drops nothing in vain, with %i bytes free and a larger reserve', async (freeBytes) => {
    const disk = new SimulatedDisk(seeded(5));
    let clock = 2_000;
    const { o, told } = options(disk, { whenFull: 'drop_oldest', segmentBytes: 600, now: () => clock });
    await withBatches(o, 'critical', 8).then((log) => log.close());
    disk.capacityBytes = disk.usedBytes + freeBytes;
    const log = await SegmentLog.open({ ...o, reserveBytes: 20_000 });
    for (const area of ['normal', 'critical'] as const) {
      await expect(log.append(area, record('new', 1, 50, area))).rejects.toMatchObject({ code: 'disk_full' });
      clock += 1_000;
    }
    expect(told.dropped).toEqual([]);
    expect(ids(await readAll(log, 'critical'))).toHaveLength(8);
    await log.close();
  });

  it('drops only as much as makes the room that others have left on the disk', async () => {
    const disk = new SimulatedDisk(seeded(6));
    const { o, told } = options(disk, {
      ...{ whenFull: 'drop_oldest', segmentBytes: 600, reserveBytes: 2_000 },
    });
    await withBatches(o, 'normal', 8).then((log) => log.close());
    disk.capacityBytes = disk.usedBytes + 1_000;
    const log = await SegmentLog.open(o);
    await log.append('normal', record('new'));
    expect(told.dropped).toEqual([
      { items: 2, reason: 'capacity' },
      { items: 2, reason: 'capacity' },
    ]);
    expect(ids(await readAll(log, 'normal'))).toEqual(['r2', 'r3', 'r4', 'r5', 'r6', 'r7', 'new']);
    await log.close();
  });

  it('drops for a new batch, and not for room that others may need, into which it does not grow', async () => {
    const disk = new SimulatedDisk(seeded(14));
    const others = { othersBytes: async () => 50_000 };
    const { o, told } = options(disk, { segmentBytes: 600, reserveBytes: 500 });
    await withBatches(o, 'normal', 8).then((log) => log.close());
    disk.capacityBytes = disk.usedBytes + 5_000;
    const refusing = await SegmentLog.open({ ...o, ...others });
    await expect(refusing.append('normal', record('new'))).rejects.toMatchObject({
      code: 'disk_full',
      message: expect.stringContaining('keeps 49.3 KiB of them free'),
    });
    await refusing.close();
    const dropping = await SegmentLog.open({ ...o, ...others, whenFull: 'drop_oldest' });
    const free = disk.capacityBytes - disk.usedBytes;
    await dropping.append('normal', record('new'));
    expect(told.dropped).toEqual([{ items: 2, reason: 'capacity' }]);
    expect(disk.capacityBytes - disk.usedBytes).toBeGreaterThan(free - 100);
    expect(ids(await readAll(dropping, 'normal'))).toEqual(['r1', 'r2', 'r3', 'r4', 'r5', 'r6', 'r7', 'new']);
    await dropping.close();
  });

  it('drops nothing for room that there is again', async () => {
    const disk = new SimulatedDisk(seeded(7));
    const { o, told } = options(disk, { whenFull: 'drop_oldest', segmentBytes: 600, reserveBytes: 2_000 });
    disk.capacityBytes = 14_000;
    const log = await withBatches(o, 'normal', 8);
    disk.capacityBytes = 100_000; // the log has measured what is free less than a second ago
    for (let i = 0; i < 8; i++) await log.append('normal', incompressible(`s${i}`, 2, 500, i));
    expect(told.dropped).toEqual([]);
    await log.close();
  });

  it('drops up to the class of the new batch, and refuses it if that is not enough', async () => {
    const { o, told } = options(new SimulatedDisk(seeded(8)), {
      ...{ whenFull: 'drop_oldest', capacityBytes: 9_000, segmentBytes: 600 },
    });
    const log = await withBatches(o, 'high', 7);
    await expect(log.append('normal', incompressible('normal', 1, 500, 1))).rejects.toMatchObject({
      code: 'full',
    });
    expect(told.dropped).toEqual([]);
    await log.append('high', incompressible('high', 1, 500, 2, 'high'));
    expect(told.dropped).toEqual([{ items: 2, reason: 'capacity' }]);
    await log.append('critical', incompressible('critical', 1, 500, 3, 'critical'));
    expect(ids(await readAll(log, 'high'))).toEqual(['r2', 'r3', 'r4', 'r5', 'r6', 'high']);
    await log.close();
  });

  it('drops rejected batches before all others, and for a rejected one nothing else', async () => {
    const { o, told } = options(new SimulatedDisk(seeded(10)), {
      ...{ whenFull: 'drop_oldest', capacityBytes: 12_000, segmentBytes: 600 },
    });
    const log = await withBatches(o, 'normal', 5);
    const writtenOff = () => [told.writtenOff.rejected, told.writtenOff.normal];
    for (let i = 0; i < 10; i++) await log.append('rejected', incompressible(`x${i}`, 1, 500, i, 'rejected'));
    expect(writtenOff()).toEqual([{ capacity: 6 }, {}]);
    for (let i = 0; i < 3; i++) await log.append('normal', incompressible(`s${i}`, 2, 500, i));
    expect(writtenOff()).toEqual([{ capacity: 9 }, {}]);
    await log.append('normal', incompressible('s3', 2, 500, 3));
    expect(writtenOff()).toEqual([{ capacity: 9 }, { capacity: 2 }]);
    expect(ids(await readAll(log, 'rejected'))).toEqual(['x9']); // in the open segment
    await log.close();
  });

  it('drops rejected batches for newer ones, not for others, where it refuses what has no room', async () => {
    const { o, told } = options(new SimulatedDisk(seeded(13)), { capacityBytes: 12_000, segmentBytes: 600 });
    const log = await withBatches(o, 'normal', 5);
    for (let i = 0; i < 10; i++) await log.append('rejected', incompressible(`x${i}`, 1, 500, i, 'rejected'));
    await expect(log.append('critical', incompressible('new', 1, 500, 1))).rejects.toMatchObject({
      code: 'full',
    });
    expect(told.writtenOff).toMatchObject({ rejected: { capacity: 6 } });
    expect(told.dropped).toHaveLength(6);
    expect(ids(await readAll(log, 'rejected'))).toEqual(['x6', 'x7', 'x8', 'x9']);
    await log.close();
  });

  it('refuses a rejected batch if no rejected one can make room for it', async () => {
    const { o, told } = options(new SimulatedDisk(seeded(11)), {
      ...{ whenFull: 'drop_oldest', capacityBytes: 9_000, segmentBytes: 600 },
    });
    const log = await withBatches(o, 'normal', 7);
    await expect(log.append('rejected', incompressible('x', 1, 500, 1, 'rejected'))).rejects.toMatchObject({
      code: 'full',
    });
    expect(told.dropped).toEqual([]);
    await log.close();
  });

  it('writes rejected batches in parts of its capacity, even if their own limit is larger', async () => {
    const { o } = options(new SimulatedDisk(seeded(12)), {
      ...{ capacityBytes: 16_000, rejectedCapacityBytes: 1_000_000, segmentBytes: 100_000 },
    });
    const log = await withBatches(o, 'rejected', 6);
    expect(log.stats('rejected').segments).toBeGreaterThan(1);
    await log.close();
  });

  it('does not drop a damaged segment to make room: its file is kept', async () => {
    const disk = new SimulatedDisk(seeded(9));
    const { o, told } = options(disk, { whenFull: 'drop_oldest', capacityBytes: 9_000, segmentBytes: 600 });
    const first = await withBatches(o, 'normal', 7);
    const name = (sequence: number) => `/dlq/normal/${String(sequence).padStart(16, '0')}.seg`;
    await first.close();
    const bytes = Buffer.from(disk.bytes(name(1)));
    bytes[bytes.byteLength - 100]! ^= 1;
    disk.replace(name(1), bytes);
    const log = await SegmentLog.open(o);
    while (await log.verifyOne());
    await log.append('normal', incompressible('new', 1, 500, 1));
    expect(told.dropped).toHaveLength(1);
    expect(disk.paths()).toContain(name(1));
    expect(disk.paths()).not.toContain(name(2));
    await log.close();
  });

  it('drops and counts data older than its retention, by area', async () => {
    let clock = 2_000;
    const { o, told } = options(new SimulatedDisk(seeded(4)), {
      now: () => clock,
      retentionMs: 10_000,
      rejectedRetentionMs: 50_000,
    });
    const log = await SegmentLog.open(o);
    await log.append('normal', record('a', 5));
    await log.append('rejected', record('b', 7, 50, 'rejected'));
    clock = 20_000;
    await log.maintain();
    await log.maintain();
    expect(told.dropped).toEqual([{ items: 5, reason: 'retention' }]);
    expect(log.stats('rejected').items).toBe(7);
    clock = 100_000;
    await log.maintain();
    await log.maintain();
    expect(told.dropped.at(-1)).toEqual({ items: 7, reason: 'retention' });
    await log.close();
  });
});

describe('the segment log on a real disk', () => {
  let dir = '';
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const real = (more: Partial<SegmentLogOptions> = {}) => {
    dir ||= mkdtempSync(join(tmpdir(), 'nrdot-log-'));
    return options(new SimulatedDisk(seeded(1)), {
      dir,
      fs: new NodeFileSystem(),
      segmentBytes: 200_000,
      ...more,
    });
  };

  it('written by version 1 can still be read by an independent reader', () => {
    const fixtures = fileURLToPath(new URL('../../../tests/formats/segments-v1', import.meta.url));
    for (const area of ['critical', 'high', 'normal'] as const) {
      const { records } = readSegment(readFileSync(join(fixtures, area, '0000000000000001.open')));
      expect(records.length).toBeGreaterThan(0);
      expect(records.every(({ envelope }) => envelope.class === area)).toBe(true);
    }
  });

  it('can be read by an independent reader based on FORMAT.md, and survives a restart', async () => {
    const { o, told } = real();
    let log = await SegmentLog.open(o);
    const records = Array.from({ length: 400 }, (_, i) => record(`r${i}`, i % 5, 2_000 + i));
    for (let i = 0; i < records.length; i += 40) {
      await Promise.all(
        records.slice(i, i + 40).map((r) => {
          r.payload = Buffer.from(Array.from({ length: 1_500 }, (_, k) => Math.floor(Math.sin(i + k) * 128)));
          return log.append('high', r);
        }),
      );
    }
    await log.close();
    const files = readdirSync(join(dir, 'high'))
      .filter((name) => /\.(seg|open)$/.test(name))
      .sort();
    const stranger = files.flatMap((name) => readSegment(readFileSync(join(dir, 'high', name))).records);
    expect(stranger.map(({ envelope }) => envelope.id)).toEqual(records.map((r) => r.envelope.id));
    expect(stranger.every((s, i) => s.payload.equals(Buffer.from(records[i]!.payload)))).toBe(true);
    log = await SegmentLog.open({ ...o, fs: new NodeFileSystem() });
    while (await log.verifyOne());
    expect(ids(await readAll(log, 'high'))).toEqual(records.map((r) => r.envelope.id));
    await log.maintain(); // seals what the first left open
    expect(log.segments().every((segment) => segment.state !== 'open')).toBe(true);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });
});
