import { describe, expect, it } from 'vitest';
import { ids, incompressible, MIB, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog, verifyDirectory } from './index.ts';

const SEEDS = Array.from({ length: 24 }, (_, seed) => seed + 1);
/** Several blocks in a group: one each. */
const LARGE_BYTES = 260 * 1024;

const fault = (code: string) => Object.assign(new Error(code), { code });

/** One group is acknowledged, then power goes while another, of several blocks, is on its way to the disk. */
async function tornGroup(seed: number) {
  const disk = new SimulatedDisk(seeded(seed * 7919));
  const { o, told } = options(disk, { segmentBytes: 64 * MIB });
  const log = await SegmentLog.open(o);
  await log.append('normal', record('acknowledged', 10));
  disk.beforeWrite = (operation, path) => {
    if (operation !== 'sync' || !path.endsWith('.open')) return;
    disk.cutPowerAfter(0); // its pages may be there or not, and nobody is told
    throw fault('EIO');
  };
  const group = Array.from({ length: 4 }, (_, i) =>
    log.append('normal', incompressible(`torn${i}`, 100, LARGE_BYTES, i)),
  );
  expect((await Promise.allSettled(group)).every(({ status }) => status === 'rejected')).toBe(true);
  disk.beforeWrite = undefined;
  disk.crash();
  return { disk, o: { ...o, fs: disk.fileSystem() }, told };
}

describe('a group whose pages reach the disk out of order before a power failure', () => {
  it('loses no acknowledged data, and counts no unacknowledged data as lost', async () => {
    for (const seed of SEEDS) {
      const { disk, o, told } = await tornGroup(seed);
      const log = await SegmentLog.open(o);
      const items = log.stats('normal').items;
      const found = await readAll(log, 'normal');
      expect(ids(found)[0], `seed ${seed}`).toBe('acknowledged');
      expect(
        found.reduce((sum, { position }) => sum + position.items, 0),
        `seed ${seed}: what is counted is there`,
      ).toBe(items);
      await log.maintain();
      for await (const { damage } of verifyDirectory(disk.fileSystem(), '/dlq'))
        expect(damage, `seed ${seed}`).toEqual([]);
      for (const { position } of found) log.ack(position);
      await log.maintain();
      await log.maintain();
      expect(told.corrupted, `seed ${seed}`).toEqual([]);
      expect(told.writtenOff.normal?.corrupted ?? 0, `seed ${seed}`).toBe(0);
      expect(log.segments(), `seed ${seed}`).toEqual([]);
      await log.close();
    }
  });

  it('is distinguished from damage in an acknowledged group', async () => {
    for (const what of ['header', 'content'] as const) {
      const disk = new SimulatedDisk(seeded(1));
      const { o, told } = options(disk, { segmentBytes: 64 * MIB });
      const log = await SegmentLog.open(o);
      await Promise.all(
        Array.from({ length: 4 }, (_, i) =>
          log.append('normal', incompressible(`a${i}`, 100, LARGE_BYTES, i)),
        ),
      );
      await log.append('normal', record('after', 1));
      disk.crash();
      const path = '/dlq/normal/0000000000000001.open';
      const bytes = Buffer.from(disk.bytes(path));
      const second = bytes.indexOf('NRDB', bytes.indexOf('NRDB', bytes.indexOf('NRDB') + 60) + 60);
      bytes.fill(0, second + (what === 'header' ? 0 : 100), second + (what === 'header' ? 20 : 200));
      disk.replace(path, bytes);
      const again = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
      expect(again.stats('normal').items).toBe(401);
      expect(await readAll(again, 'normal')).toHaveLength(4);
      expect(told.corrupted.reduce((sum, { items }) => sum + items, 0)).toBe(100);
      await again.close();
    }
  });
});
