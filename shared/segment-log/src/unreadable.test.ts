import { describe, expect, it } from 'vitest';
import { ids, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });

/** What says nothing about the content of a file. */
const PASSING = ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EACCES', 'ESTALE', 'ETIMEDOUT'];
/** Of these: what the process or the machine has run out of. */
const EXHAUSTED = ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'];

/** Two sealed segments, one that a kill has left open, and a clock. */
async function laidDown(code: string) {
  const disk = new SimulatedDisk(seeded(1));
  const clock = { now: 2_000 };
  const { o, told } = options(disk, { segmentBytes: 600, now: () => clock.now });
  const log = await SegmentLog.open(o);
  for (const id of ['a', 'b']) {
    await log.append('normal', record(id, 2));
    await log.seal('normal');
  }
  await log.append('normal', record('c', 2));
  await log.checkpoint();
  disk.crash();
  const open = () => SegmentLog.open({ ...o, fs: disk.fileSystem() });
  const isSegment = (path: string) => /\.(seg|open)$/.test(path);
  return { disk, told, open, clock, isSegment, error: fault(code) };
}

const quarantined = (disk: SimulatedDisk) => disk.paths().filter((path) => path.includes('quarantine'));

describe.each(PASSING)('a file that cannot be read because of %s', (code) => {
  it('is not damaged: its hash is checked again', async () => {
    const { disk, told, open, error } = await laidDown(code);
    const log = await open();
    disk.beforeRead = (path) => {
      if (path.endsWith('1.seg')) throw error;
    };
    await log.verifyOne();
    await log.verifyOne(); // the others have their turn meanwhile
    expect(log.segments().map(({ verified }) => verified)).toEqual([false, true, false]);
    disk.beforeRead = undefined;
    await log.verifyOne();
    expect(log.segments().map(({ state, verified }) => [state, verified])).toEqual([
      ['sealed', true],
      ['sealed', true],
      ['recovered', false],
    ]);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it('is skipped, reported once, and read once it is readable', async () => {
    const { disk, told, open, clock, error } = await laidDown(code);
    const log = await open();
    disk.beforeOpen = (path) => {
      if (path.endsWith('1.seg')) throw error;
    };
    const others = await readAll(log, 'normal');
    expect(ids(others)).toEqual(['b', 'c']);
    clock.now += 60_000;
    expect(await readAll(log, 'normal')).toEqual([]);
    expect(told.unreadable).toEqual([{ file: '/dlq/normal/0000000000000001.seg', reason: code }]);
    expect(log.stats('normal')).toMatchObject({ records: 3, items: 6 }); // it still waits
    expect(log.hasUnread('normal')).toBe(true);
    disk.beforeOpen = undefined;
    clock.now += 60_000;
    const late = await readAll(log, 'normal');
    expect(ids(late)).toEqual(['a']);
    expect(log.hasUnread('normal')).toBe(false);
    for (const { position } of [...others, ...late]) log.ack(position);
    await log.maintain();
    await log.maintain();
    expect(told.corrupted).toEqual([]);
    expect(quarantined(disk)).toEqual([]);
    expect(log.segments()).toEqual([]);
    await log.close();
  });

  it('is not damaged if a read fails halfway', async () => {
    const { disk, told, open, error } = await laidDown(code);
    const log = await open();
    let reads = 0;
    disk.beforeRead = (path) => {
      if (path.endsWith('1.seg') && ++reads === 3) throw error;
    };
    const found: string[] = [];
    for (let tries = 0; tries < 3; tries++) {
      found.push(...(await readAll(log, 'normal').then(ids, () => [])));
    }
    expect(found).toEqual(['a', 'b', 'c']);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });

  it('fails a scan instead of being omitted', async () => {
    const { disk, open, error } = await laidDown(code);
    const log = await open();
    disk.beforeOpen = (path) => {
      if (path.endsWith('1.seg')) throw error;
    };
    await expect(async () => {
      for await (const _ of log.scan('normal'));
    }).rejects.toThrow(code);
    disk.beforeOpen = undefined;
    await log.close();
  });
});

describe.each(PASSING.filter((code) => !EXHAUSTED.includes(code)))(
  'a start that may not read a file: %s',
  (code) => {
    it.each(['1.seg', '3.open'])(
      'keeps %s, continues with others, and reads it once it is readable',
      async (name) => {
        const { disk, told, open, clock, error } = await laidDown(code);
        disk.beforeOpen = (path) => {
          if (path.endsWith(name)) throw error;
        };
        const log = await open();
        expect(log.stats('normal')).toMatchObject({ records: 3, items: 6 });
        expect(log.segments().map(({ state }) => state)).toContain('unreadable');
        expect(log.hasUnread('normal')).toBe(true);
        const others = await readAll(log, 'normal');
        expect(others).toHaveLength(2);
        for (const { position } of others) log.ack(position);
        clock.now += 60_000;
        await log.maintain();
        expect(await log.purge('normal')).toEqual({ items: 0, heldItems: 0 });
        expect(told.unreadable).toHaveLength(1);
        disk.beforeOpen = undefined;
        clock.now += 60_000;
        await log.maintain();
        expect(await readAll(log, 'normal')).toHaveLength(1);
        expect(told.corrupted).toEqual([]);
        expect(quarantined(disk)).toEqual([]);
        await log.close();
      },
    );

    it('does not delete a file that no checkpoint knows', async () => {
      const { disk, open, error } = await laidDown(code);
      disk.remove('/dlq/normal/checkpoint');
      disk.beforeOpen = (path) => {
        if (path.endsWith('1.seg')) throw error;
      };
      const log = await open();
      await log.maintain();
      disk.beforeOpen = undefined;
      await log.maintain();
      expect(ids(await readAll(log, 'normal'))).toContain('a');
      await log.close();
    });
  },
);

describe.each(EXHAUSTED)('a start without resources: %s', (code) => {
  it('waits for them, knows what was written last, and reports no damage', async () => {
    const { disk, told, open, error } = await laidDown(code);
    let left = 12;
    disk.beforeOpen = () => {
      if (left-- > 0 && left % 2 === 0) throw error;
    };
    const log = await open();
    expect(left).toBeLessThan(0);
    expect([...log.lastIds].sort()).toEqual(['b', 'c']);
    expect(ids(await readAll(log, 'normal'))).toEqual(['a', 'b', 'c']);
    expect(told).toMatchObject({ corrupted: [], unreadable: [] });
    await log.close();
  });

  it('fails if they do not return, leaving everything in place', async () => {
    const { disk, told, open, isSegment, error } = await laidDown(code);
    const before = disk.paths();
    disk.beforeOpen = (path) => {
      if (isSegment(path) || path.endsWith('checkpoint')) throw error;
    };
    await expect(open()).rejects.toThrow(code);
    disk.beforeOpen = undefined;
    expect(disk.paths()).toEqual(before);
    expect(told.corrupted).toEqual([]);
  });

  it('does not call an unreadable checkpoint damaged', async () => {
    const { disk, open, error } = await laidDown(code);
    let left = 1;
    disk.beforeRead = (path) => {
      if (path.endsWith('checkpoint') && left-- > 0) throw error;
    };
    const log = await open();
    expect(quarantined(disk)).toEqual([]);
    await log.close();
  });
});
