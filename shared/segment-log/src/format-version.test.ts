import { describe, expect, it } from 'vitest';
import { ids, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { crc32c, readSegment, SegmentLog, verifyDirectory } from './index.ts';

const SEALED = '/dlq/normal/0000000000000001.seg';

async function laidDown() {
  const disk = new SimulatedDisk(seeded(1));
  const { o, told } = options(disk, { version: '1.4.2' });
  const log = await SegmentLog.open(o);
  await log.append('normal', record('a'));
  await log.seal('normal');
  await log.append('normal', record('b'));
  await log.close();
  return { disk, o, told };
}

/** As a later version would have it: what says so is where it always was, and all else may be different. */
function asOfFormat(disk: SimulatedDisk, path: string, format: number): void {
  const bytes = Buffer.from(disk.bytes(path));
  bytes.writeUInt16LE(format, 8);
  bytes.writeUInt32LE(crc32c(bytes, 0, 32), 32);
  bytes.fill(0xee, 40);
  disk.replace(path, bytes);
}

describe('a segment of a newer format', () => {
  it.each(['0000000000000001.seg', '0000000000000002.open'])(
    'prevents the log from being opened, names the version that wrote it, and changes nothing: %s',
    async (name) => {
      const { disk, o, told } = await laidDown();
      asOfFormat(disk, `/dlq/normal/${name}`, 2);
      // A later version may have its own idea of a checkpoint too.
      disk.replace('/dlq/normal/checkpoint', Buffer.from('version two'));
      disk.replace('/dlq/high/checkpoint', Buffer.from('version two'));
      const before = disk.paths().map((path) => [path, disk.bytes(path)]);
      const opening = SegmentLog.open({ ...o, version: '1.3.0', fs: disk.fileSystem() });
      await expect(opening).rejects.toMatchObject({ code: 'newer_format' });
      await expect(opening).rejects.toThrow(
        `/dlq/normal/${name} is of format 2, written by NRDOT+ 1.4.2; this version reads format 1 and no newer`,
      );
      expect(disk.paths().map((path) => [path, disk.bytes(path)])).toEqual(before);
      expect(told.corrupted).toEqual([]);
    },
  );

  it('is distinguished from a damaged one', async () => {
    const { disk, o } = await laidDown();
    const bytes = Buffer.from(disk.bytes(SEALED));
    bytes.writeUInt16LE(2, 8); // and its checksum does not hold
    disk.replace(SEALED, bytes);
    const log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    expect(ids(await readAll(log, 'normal'))).toEqual(['a', 'b']);
    await log.close();
  });

  it('that does not name its writer is of an unknown version', async () => {
    const { disk, o } = await laidDown();
    const bytes = Buffer.from(disk.bytes(SEALED));
    bytes.fill(0, 12, 16);
    disk.replace(SEALED, bytes);
    asOfFormat(disk, SEALED, 7);
    await expect(SegmentLog.open({ ...o, fs: disk.fileSystem() })).rejects.toThrow(
      'is of format 7, written by NRDOT+ of an unknown version',
    );
  });

  it('is neither read nor called damaged without a log', async () => {
    const { disk } = await laidDown();
    asOfFormat(disk, SEALED, 2);
    const fs = disk.fileSystem();
    await expect(async () => {
      for await (const _ of readSegment(fs, SEALED));
    }).rejects.toThrow('is of format 2, written by NRDOT+ 1.4.2');
    const reports = [];
    for await (const report of verifyDirectory(fs, '/dlq', ['normal'])) reports.push(report);
    expect(reports[0]!.damage.join()).toContain('is of format 2, written by NRDOT+ 1.4.2');
    expect(reports[0]!.damage).toHaveLength(1);
  });
});
