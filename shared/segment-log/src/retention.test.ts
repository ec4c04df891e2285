import { describe, expect, it } from 'vitest';
import { ids, options, readAll, record, seeded } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { SegmentLog } from './index.ts';

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

/** A log with a retention of ten hours that can be started again with any clock. */
async function world() {
  const disk = new SimulatedDisk(seeded(1));
  const clock = { now: 50 * YEAR_MS };
  const { o, told } = options(disk, {
    now: () => clock.now,
    retentionMs: 10 * HOUR_MS,
    rejectedRetentionMs: 10 * HOUR_MS,
  });
  const start = () => SegmentLog.open({ ...o, fs: disk.fileSystem() });
  const run = async (log: SegmentLog, ms: number) => {
    for (const end = clock.now + ms; clock.now < end; ) {
      clock.now += 600_000;
      await log.maintain();
    }
  };
  return { disk, clock, told, start, run };
}

describe('retention', () => {
  it.each([
    ['a year ahead', YEAR_MS],
    ['a year behind', -YEAR_MS],
  ])('drops nothing if the clock is %s when the log is opened', async (_, off) => {
    const { clock, told, start, run } = await world();
    const first = await start();
    for (const area of ['normal', 'rejected'] as const)
      await first.append(area, record(area, 1, 50, area, clock.now));
    await first.seal('normal');
    await run(first, HOUR_MS);
    await first.close();
    clock.now += off;
    const second = await start();
    await second.append('high', record('new', 1, 50, 'high', clock.now));
    await run(second, 5 * HOUR_MS);
    await second.close();
    clock.now -= off;
    const third = await start();
    await run(third, HOUR_MS);
    expect(told.dropped).toEqual([]);
    expect(ids(await readAll(third, 'normal'))).toEqual(['normal']);
    expect(ids(await readAll(third, 'rejected'))).toEqual(['rejected']);
    expect(ids(await readAll(third, 'high'))).toEqual(['new']);
    await third.close();
  });

  it('counts the time for which the log was open, across restarts and kills', async () => {
    const { disk, clock, told, start, run } = await world();
    let log = await start();
    await log.append('normal', record('a', 3, 50, 'normal', clock.now));
    for (let n = 0; n < 3; n++) {
      await run(log, 3 * HOUR_MS);
      if (n === 1) disk.crash();
      else await log.close();
      clock.now += 100 * HOUR_MS;
      log = await start();
    }
    expect(told.dropped).toEqual([]);
    await run(log, 2 * HOUR_MS);
    expect(told.dropped).toEqual([{ items: 3, reason: 'retention' }]);
    await log.close();
  });

  it('counts from the last record of a segment', async () => {
    const { clock, told, start, run } = await world();
    const log = await start();
    await log.append('normal', record('a', 1, 50, 'normal', clock.now));
    await run(log, 8 * HOUR_MS);
    await log.append('normal', record('b', 1, 50, 'normal', clock.now));
    await run(log, 8 * HOUR_MS);
    expect(told.dropped).toEqual([]);
    await run(log, 3 * HOUR_MS);
    expect(told.dropped).toEqual([{ items: 2, reason: 'retention' }]);
    await log.close();
  });

  it('ignores the times in a batch', async () => {
    const { told, start, run } = await world();
    const log = await start();
    await log.append('normal', record('from-1970', 1, 50, 'normal', 1));
    await run(log, HOUR_MS);
    expect(told.dropped).toEqual([]);
    await log.close();
  });

  it('starts again for segments without a start time in the checkpoint', async () => {
    const { disk, clock, told, start, run } = await world();
    const first = await start();
    await first.append('normal', record('a', 1, 50, 'normal', clock.now));
    await run(first, 8 * HOUR_MS);
    await first.close();
    disk.remove('/dlq/normal/checkpoint');
    const second = await start();
    await run(second, 8 * HOUR_MS);
    expect(told.dropped).toEqual([]);
    await second.close();
  });
});
