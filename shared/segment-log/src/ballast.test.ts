import { describe, expect, it } from 'vitest';
import { ids, incompressible, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const BALLAST = '/dlq/ballast';
const BYTES = 3_000;

async function laidDown() {
  const disk = new SimulatedDisk(seeded(1));
  const clock = { now: 2_000 };
  const { o, told } = options(disk, {
    segmentBytes: 1_500,
    ballastBytes: BYTES,
    reserveBytes: 4_000,
    now: () => clock.now,
  });
  disk.capacityBytes = 100_000;
  const log = await SegmentLog.open(o);
  for (let i = 0; i < 8; i++) await log.append('normal', incompressible(`r${i}`, 2, 400, i));
  await log.maintain();
  const used = () => disk.paths().reduce((sum, path) => sum + disk.bytes(path).byteLength, 0);
  const turn = () => {
    clock.now += 5_000;
    return log.maintain();
  };
  return { disk, log, o, told, used, turn };
}

describe('the ballast', () => {
  it('exists from the start, with its full size and incompressible content', async () => {
    const { disk, log } = await laidDown();
    expect(log.ballastBytes).toBe(BYTES);
    expect(disk.bytes(BALLAST).byteLength).toBe(BYTES);
    expect(new Set(disk.bytes(BALLAST)).size).toBeGreaterThan(200);
    await log.close();
  });

  it('allows acknowledged data to be deleted from a completely full disk', async () => {
    const { disk, log, told, used, turn } = await laidDown();
    const found = await readAll(log, 'normal');
    for (const { position } of found) log.ack(position);
    disk.capacityBytes = used();
    await turn();
    await turn();
    expect(log.segments()).toEqual([]);
    expect(disk.paths().filter((path) => /\.(seg|open)$/.test(path))).toEqual([]);
    expect(told.ballast[0]).toBe('given_up');
    // What was removed stays removed over a kill.
    disk.crash();
    const again = await SegmentLog.open({ ...options(disk).o, fs: disk.fileSystem() });
    expect(await readAll(again, 'normal')).toEqual([]);
    await again.close();
  });

  it('is restored once there is room besides the reserve, not before', async () => {
    const { disk, log, told, used, turn } = await laidDown();
    for (const { position } of (await readAll(log, 'normal')).slice(0, 3)) log.ack(position);
    disk.capacityBytes = used();
    await turn();
    expect(log.ballastBytes).toBe(0);
    disk.capacityBytes = used() + 4_000 + BYTES - 500;
    await turn();
    expect(log.ballastBytes).toBe(0);
    disk.capacityBytes = used() + 4_000 + BYTES;
    await turn();
    expect(log.ballastBytes).toBe(BYTES);
    expect(told.ballast).toEqual(['given_up', 'kept']);
    await log.close();
  });

  it('is not used for new data: an append to a full disk is refused, and the ballast stays', async () => {
    const { disk, log, told, used, turn } = await laidDown();
    disk.capacityBytes = used();
    await turn();
    await expect(log.append('normal', record('more'))).rejects.toMatchObject({ code: 'disk_full' });
    expect(log.ballastBytes).toBe(BYTES);
    expect(told.ballast).toEqual([]);
    await log.close().catch(() => {});
  });

  it('is used by a purge, which counts what it drops', async () => {
    const { disk, log, told, used } = await laidDown();
    disk.capacityBytes = used();
    expect(await log.purge('normal')).toEqual({ items: 16, heldItems: 0 });
    expect(log.segments()).toEqual([]);
    expect(told.writtenOff.normal).toEqual({ purged: 16 });
    await log.close();
  });

  it('is used once; a disk that stays full is reported, and nothing is removed before it is recorded', async () => {
    const { disk, log, told, used, turn } = await laidDown();
    for (const { position } of await readAll(log, 'normal')) log.ack(position);
    disk.capacityBytes = used() - BYTES; // others are quicker
    await turn();
    expect(told.faults).not.toEqual([]);
    expect(log.segments()).not.toEqual([]);
    disk.capacityBytes = 100_000;
    await turn();
    await turn();
    expect(log.segments()).toEqual([]);
    expect(log.ballastBytes).toBe(BYTES);
    await log.close();
  });

  it('is recreated with another size, or after a crash that left it incomplete', async () => {
    const { disk, log, o } = await laidDown();
    await log.close();
    disk.replace(BALLAST, disk.bytes(BALLAST).subarray(0, 700));
    const again = await SegmentLog.open({ ...o, fs: disk.fileSystem(), ballastBytes: 2_000 });
    expect(disk.bytes(BALLAST).byteLength).toBe(2_000);
    expect(ids(await readAll(again, 'normal'))).toHaveLength(8);
    await again.close();
    const without = await SegmentLog.open({ ...o, fs: disk.fileSystem(), ballastBytes: 0 });
    expect(disk.paths()).not.toContain(BALLAST);
    await without.close();
  });
});
