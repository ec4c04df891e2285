import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { layDownBigDirectory } from '../test/big-directory.ts';
import { ids, incompressible, MIB, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { type FileSystem, NodeFileSystem, SegmentLog } from './index.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });

describe('recovery', () => {
  let dir = '';
  afterEach(() => {
    if (dir) rmSync(dir, { recursive: true, force: true });
    dir = '';
  });

  it('opens 15 GiB by reading the headers of sealed segments and the block headers of open ones', async () => {
    dir = mkdtempSync(join(tmpdir(), 'nrdot-big-'));
    // Sealed segments are holes with headers. 16 MiB of 4 KiB batches stand for the 128 MiB an open segment can have.
    const size = { sealed: 120, segmentBytes: 128 * MIB, openBytes: 16 * MIB, payloadBytes: 4 * 1024 };
    const { records } = await layDownBigDirectory(dir, size);
    const fs = new NodeFileSystem();
    const read = { bytes: new Map<string, number>(), reads: 0, atOnce: 0 };
    const counting: FileSystem = {
      open: async (path, mode) => {
        const file = await fs.open(path, mode);
        return {
          read: async (into, at) => {
            const bytes = await file.read(into, at);
            read.reads++;
            read.bytes.set(path, (read.bytes.get(path) ?? 0) + bytes);
            read.atOnce = Math.max(read.atOnce, into.byteLength);
            return bytes;
          },
          write: (bytes, at) => file.write(bytes, at),
          truncate: (length) => file.truncate(length),
          sync: () => file.sync(),
          size: () => file.size(),
          isAt: (name) => file.isAt(name),
          close: () => file.close(),
        };
      },
      rename: (from, to) => fs.rename(from, to),
      unlink: (path) => fs.unlink(path),
      list: (path) => fs.list(path),
      mkdir: (path) => fs.mkdir(path),
      syncDir: (path) => fs.syncDir(path),
      freeBytes: (path) => fs.freeBytes(path),
      sha256: (...of) => fs.sha256(...of),
      close: () => fs.close(),
    };
    const disk = new SimulatedDisk(seeded(1));
    const log = await SegmentLog.open(options(disk, { dir, fs: counting, capacityBytes: 20 * 1024 * MIB }).o);
    expect(log.diskBytes).toBeGreaterThan(15 * 1024 * MIB);
    expect(log.segments().reduce((sum, segment) => sum + segment.records, 0)).toBe(records);
    const sealed = [...read.bytes].filter(([path]) => path.endsWith('.seg')).map(([, bytes]) => bytes);
    const open = [...read.bytes].filter(([path]) => path.endsWith('.open')).map(([, bytes]) => bytes);
    // The header of each, once for its format and once to be taken up; of each area's last its blocks too, for the last ids.
    expect(sealed.filter((bytes) => bytes === 2 * 512)).toHaveLength(120 - 4);
    expect(open).toHaveLength(4);
    for (const bytes of open) expect(bytes).toBeLessThan(18 * MIB);
    // By windows of a megabyte at most, and not header by header.
    expect(read.reads).toBeLessThan(4_000);
    expect(read.atOnce).toBeLessThanOrEqual(MIB);
    await log.close();
  });

  it('knows the received times of a segment left open by a crash', async () => {
    const disk = new SimulatedDisk(seeded(1));
    let clock = 100_000;
    const { o, told } = options(disk, { now: () => clock, retentionMs: 50_000 });
    const log = await SegmentLog.open(o);
    await log.append('high', record('early', 1, 50, 'high', 90_000));
    clock = 140_000;
    await log.append('high', record('late', 1, 50, 'high', 139_000));
    disk.crash();
    clock = 170_000; // 70 s after the file was made, 31 s after the last of it was received
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    await again.maintain();
    expect(told.dropped).toEqual([]);
    expect(again.stats('high').oldestReceivedAt).toBe(90_000);
    expect(again.segments()[0]).toMatchObject({ state: 'sealed', lastReceivedAt: 139_000 });
    expect(ids(await readAll(again, 'high'))).toEqual(['early', 'late']);
    await again.close();
  });

  describe('after a kill followed by a power failure, before the system has flushed its cache', () => {
    const SEEDS = Array.from({ length: 12 }, (_, seed) => seed);

    /** A file system whose owner is killed at one of its steps: it waits there for ever. */
    function killedAt(disk: SimulatedDisk, isHere: (step: string) => boolean) {
      const fs = disk.fileSystem();
      let tell = () => {};
      const reached = new Promise<void>((resolve) => {
        tell = resolve;
      });
      const step = async (what: string, go: () => Promise<void>) => {
        if (!isHere(what)) return go();
        tell();
        return new Promise<void>(() => {});
      };
      const mortal: FileSystem = {
        ...fs,
        syncDir: (dir) => step(`sync ${dir}`, () => fs.syncDir(dir)),
        open: async (path, mode) => {
          const file = await fs.open(path, mode);
          return { ...file, sync: () => step(`sync ${path}`, () => file.sync()) };
        },
      };
      return { fs: mortal, reached };
    }
    /** The nth fsync of a segment: 1 is its header's, then one for each append, then its seal's. */
    const nthSync = (n: number) => {
      let syncs = 0;
      return (what: string) => what.endsWith('.open') && ++syncs === n;
    };

    it('an acknowledged record exists', async () => {
      for (const seed of SEEDS) {
        const disk = new SimulatedDisk(seeded(seed));
        const { o } = options(disk);
        const { fs, reached } = killedAt(disk, nthSync(2));
        const first = await SegmentLog.open({ ...o, fs });
        void first.append('normal', record('a'));
        await reached;
        const second = await SegmentLog.open(o);
        expect([...second.lastIds]).toEqual(['a']); // who brings it again is told that it is kept
        disk.crash();
        const third = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
        expect(ids(await readAll(third, 'normal')), `seed ${seed}`).toEqual(['a']);
        await third.close();
      }
    });

    it('a segment with its final name has its seal', async () => {
      for (const seed of SEEDS) {
        const disk = new SimulatedDisk(seeded(seed));
        const { o, told } = options(disk);
        const { fs, reached } = killedAt(disk, nthSync(3));
        const first = await SegmentLog.open({ ...o, fs });
        await first.append('normal', record('a'));
        void first.seal('normal');
        await reached;
        await SegmentLog.open(o);
        disk.crash();
        const third = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
        expect(ids(await readAll(third, 'normal')), `seed ${seed}`).toEqual(['a']);
        expect(told.corrupted, `seed ${seed}`).toEqual([]);
        await third.close();
      }
    });

    it('a reported write-off stays', async () => {
      for (const seed of SEEDS) {
        const disk = new SimulatedDisk(seeded(seed));
        const { o, told } = options(disk);
        let isPurging = false;
        const { fs, reached } = killedAt(disk, (what) => isPurging && what === 'sync /dlq/normal');
        const first = await SegmentLog.open({ ...o, fs });
        await first.append('normal', record('a', 3));
        await first.seal('normal');
        isPurging = true;
        void first.purge('normal');
        await reached;
        await SegmentLog.open(o);
        expect(told.writtenOff.normal).toEqual({ purged: 3 });
        disk.crash();
        const third = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
        expect(told.writtenOff.normal, `seed ${seed}`).toEqual({ purged: 3 });
        expect(third.stats('normal').items).toBe(0);
        await third.close();
      }
    });
  });

  it('returns the ids that were written last', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o } = options(disk, { segmentBytes: MIB });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 100; i++) await log.append('normal', record(`r${i}`));
    disk.crash();
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    expect(again.lastIds.has('r99')).toBe(true);
    expect(again.lastIds.size).toBe(64); // one block each, and no more of them than could be in flight
    await again.close();
  });

  it('loses only the block with a bad sector', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk, { segmentBytes: 40_000 });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 6; i++) await log.append('normal', incompressible(`r${i}`, 2, 9_000, i));
    await log.seal('normal');
    await log.close();
    disk.beforeRead = (path, at, bytes) => {
      if (path.endsWith('1.seg') && at < 20_480 && at + bytes > 16_384) throw fault('EIO');
    };
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    const found = await readAll(again, 'normal');
    expect(ids(found).length).toBeGreaterThanOrEqual(4);
    const lost = told.corrupted.reduce((sum, { items }) => sum + items, 0);
    expect(lost).toBe((6 - found.length) * 2);
    for (const { position } of found) again.ack(position);
    await again.maintain();
    expect(
      disk.paths().filter((path) => path.startsWith('/dlq/quarantine/') && path.endsWith('.json')),
    ).toHaveLength(1);
    await again.close();
  });

  it('verifies what it can, and never throws otherwise', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o, told } = options(disk);
    const log = await SegmentLog.open(o);
    await log.append('normal', record('a'));
    await log.seal('normal');
    await log.close();
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    disk.beforeRead = () => {
      throw fault('EIO');
    };
    await expect(again.verifyOne()).resolves.toBe(true);
    expect(told.corrupted).toHaveLength(1);
    disk.beforeRead = undefined;
    await again.close();
  });

  it('keeps a damaged checkpoint for inspection', async () => {
    const disk = new SimulatedDisk(seeded(1));
    const { o } = options(disk);
    const log = await SegmentLog.open(o);
    await log.append('normal', record('a'));
    await log.seal('normal');
    await log.close();
    disk.replace('/dlq/normal/checkpoint', Buffer.alloc(100));
    await (await SegmentLog.open({ ...o, fs: disk.fileSystem() })).close();
    expect(disk.paths()).toContain('/dlq/quarantine/normal-checkpoint-2000');
  });
});

it('does not block on a named pipe with the name of a segment', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nrdot-pipe-'));
  try {
    const fs = new NodeFileSystem();
    const { o, told } = options(new SimulatedDisk(seeded(1)), {});
    const first = await SegmentLog.open({ ...o, dir, fs });
    await first.append('normal', record('a'));
    await first.close();
    execFileSync('mkfifo', [join(dir, 'normal', '0000000000000009.seg')]);
    const log = await SegmentLog.open({ ...o, dir, fs: new NodeFileSystem() });
    expect(ids(await readAll(log, 'normal'))).toEqual(['a']);
    expect(told.corrupted).toEqual([]);
    await log.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
