import { describe, expect, it } from 'vitest';
import { ids, incompressible, options, readAll, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { readDirectory, readSegment, SegmentLog, verifyDirectory } from './index.ts';

async function laidDown(): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk(seeded(1));
  const { o } = options(disk, { segmentBytes: 1_500 });
  const log = await SegmentLog.open(o);
  for (let i = 0; i < 8; i++)
    await log.append(i % 2 ? 'high' : 'rejected', incompressible(`r${i}`, 3, 400, i));
  log.ack((await log.read('high'))!.position);
  await log.close();
  return disk;
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe('a directory that no log has open', () => {
  it('lists its records, and which are acknowledged', async () => {
    const disk = await laidDown();
    const before = disk.paths().map((path) => disk.bytes(path).toString('base64'));
    const found = await all(readDirectory(disk.fileSystem(), '/dlq'));
    expect(found.map(({ record, area, acked }) => [record?.envelope.id, area, acked])).toEqual([
      ['r1', 'high', true],
      ['r3', 'high', false],
      ['r5', 'high', false],
      ['r7', 'high', false],
      ['r0', 'rejected', false],
      ['r2', 'rejected', false],
      ['r4', 'rejected', false],
      ['r6', 'rejected', false],
    ]);
    expect(await all(readDirectory(disk.fileSystem(), '/dlq', ['normal']))).toEqual([]);
    expect(disk.paths().map((path) => disk.bytes(path).toString('base64'))).toEqual(before);
  });

  it('is verified byte by byte', async () => {
    const disk = await laidDown();
    const good = await all(verifyDirectory(disk.fileSystem(), '/dlq'));
    expect(
      good.map(({ state, area, records, ackedRecords }) => [state, area, records, ackedRecords]),
    ).toEqual([
      ['sealed', 'high', 2, 1],
      ['open', 'high', 2, 0],
      ['sealed', 'rejected', 2, 0],
      ['open', 'rejected', 2, 0],
    ]);
    const { file } = good[0]!;
    const bytes = Buffer.from(disk.bytes(file));
    bytes[700]! ^= 1;
    disk.replace(file, bytes);
    const [bad] = await all(verifyDirectory(disk.fileSystem(), '/dlq'));
    expect(bad).toMatchObject({ state: 'damaged', records: 1, lostRecords: 1, lostItems: 3 });
    expect(bad!.damage).toContain('its content is not what its SHA-256 says');
    const entries = await all(readSegment(disk.fileSystem(), file));
    expect(entries.map(({ record }) => record?.envelope.id)).toEqual([undefined, 'r3']);
  });

  it('reports what the checkpoint knows but is missing (a file, the end of an open one), and a damaged checkpoint', async () => {
    const disk = await laidDown();
    disk.remove('/dlq/high/0000000000000001.seg');
    const open = '/dlq/high/0000000000000002.open';
    disk.replace(open, disk.bytes(open).subarray(0, -20));
    const high = await all(verifyDirectory(disk.fileSystem(), '/dlq', ['high']));
    expect(high).toMatchObject([
      { sequence: 2, state: 'damaged', records: 1, lostRecords: 1, lostItems: 3 },
      { sequence: 1, state: 'damaged', damage: ['the file is missing'], lostRecords: 1, lostItems: 3 },
    ]);
    disk.replace('/dlq/high/checkpoint', Buffer.alloc(40));
    const [first] = await all(verifyDirectory(disk.fileSystem(), '/dlq', ['high']));
    expect(first).toMatchObject({ state: 'damaged', damage: ['the checkpoint is damaged'] });
  });

  it('reads the same when a log opens it', async () => {
    const disk = await laidDown();
    const { o } = options(disk, { fs: disk.fileSystem() });
    const log = await SegmentLog.open(o);
    expect(ids(await readAll(log, 'high'))).toEqual(['r3', 'r5', 'r7']);
    await log.close();
  });
});
