import type { DiskReport, DiskReported, RedisSeen, Store } from '@nrdot/queue';
import type { SegmentLog } from '@nrdot/segment-log';
import { expect, it } from 'vitest';
import { Crossing } from './crossing.ts';
import { Housekeeping } from './housekeeping.ts';
import type { Ledger } from './ledger.ts';
import type { Replayer } from './replayer.ts';

const SEEN = { epoch: 'e', at: 1, books: { accepted: 5 }, live: 2, paused: false };

/** A dlq's housekeeping whose Redis answers as it is told. */
function rig(answer: () => DiskReported, tell: Ledger['tell'] = async () => {}) {
  const told: DiskReport[] = [];
  const kept: RedisSeen[] = [];
  const said: string[] = [];
  const unsettled = new Set(['held', 'settled']);
  const disk = { fails: false };
  const write = () => {
    if (disk.fails) throw new Error('ENOSPC');
  };
  let seen: RedisSeen | undefined;
  const keeping = new Housekeeping({
    store: {
      holds: async (ids: string[]) => ids.map((id) => id === 'held'),
      reportDisk: async (report: DiskReport) => {
        told.push(report);
        return answer();
      },
      book: async () => {
        throw new Error('the answer got lost');
      },
    } as unknown as Store,
    segments: {
      maintain: async () => {},
      verifyOne: async () => {},
      stats: () => ({ items: 3 }),
    } as unknown as SegmentLog,
    ledger: {
      tell,
      unsettled,
      pending: () => 0,
      pendingDrops: 0,
      isBusy: false,
      get seen() {
        return seen;
      },
      saw: async (now: RedisSeen, keep: boolean) => {
        seen = now;
        if (!keep) return;
        write();
        kept.push(now);
      },
    } as unknown as Ledger,
    replayer: {
      checkpoint: async () => write(),
      wake: () => {},
      caughtUp: async () => 7,
      redisLost: async () => void said.push('replayed again'),
    } as unknown as Replayer,
    intake: { crossing: new Crossing() },
    notReady: () => undefined,
    lost: (items) => said.push(`lost ${items}`),
    older: (items) => said.push(`older ${items}`),
  });
  const turns = async (many: number) => {
    told.length = 0;
    for (let i = 0; i < many; i++) await keeping.turn();
    return told.length;
  };
  return { keeping, told, kept, said, unsettled, disk, turns };
}

it('reports the disk to Redis after changes, and every other turn in case Redis lost the report', async () => {
  const { keeping, turns } = rig(() => ({ state: 'same', lostItems: 0, seen: SEEN }));
  expect(await turns(1)).toBe(1);
  expect(await turns(10)).toBe(5);
  await turns(1);
  keeping.changed();
  expect(await turns(1)).toBe(1);
});

it('forgets batches of an earlier run that Redis no longer has', async () => {
  const { unsettled, turns } = rig(() => ({ state: 'same', lostItems: 0, seen: SEEN }));
  await turns(1);
  expect([...unsettled]).toEqual(['held']);
});

it('takes a snapshot once it has seen the same epoch twice, and saves it periodically and when the epoch changes', async () => {
  let answer: DiskReported = { state: 'begun', lostItems: 0, seen: SEEN };
  const { told, kept, turns } = rig(() => answer);
  await turns(1);
  answer = { state: 'same', lostItems: 0, seen: SEEN };
  await turns(2);
  expect(told.at(-1)?.seen).toBeUndefined();
  await turns(2);
  expect(told.at(-1)?.seen).toEqual(SEEN);
  expect(told.at(-1)?.outcomesSeen).toBe(7);
  await turns(40);
  expect(kept).toEqual([SEEN]);
  for (let i = 0; i < 40; i++) {
    answer = { state: 'same', lostItems: 0, seen: { ...SEEN, books: { accepted: i } } };
    await turns(1);
  }
  expect(kept.length).toBeLessThanOrEqual(5);
});

it('reports what Redis has lost, and keeps the old snapshot until the loss is accounted for', async () => {
  let answer: DiskReported = { state: 'same', lostItems: 0, seen: SEEN };
  const { told, said, turns } = rig(() => answer);
  await turns(2);
  const empty = { ...SEEN, epoch: '', books: {}, live: 0 };
  answer = { state: 'busy', lostItems: 0, seen: empty };
  await turns(2);
  answer = { state: 'lost', lostItems: 2, seen: { ...SEEN, epoch: 'f' } };
  await turns(2);
  expect(told.at(-1)?.seen).toEqual(SEEN);
  answer = { state: 'older', lostItems: 0, seen: { ...SEEN, epoch: 'f', books: { accepted: 1 } } };
  await turns(2);
  expect(said).toEqual(['lost 2', 'replayed again', 'older 4']);
});

it('reports to Redis while the disk accepts no writes, and saves the snapshot when it does', async () => {
  const failing = async () => {
    throw new Error('ENOSPC'); // as the ledger does with an entry that it cannot write
  };
  const { keeping, told, kept, disk } = rig(() => ({ state: 'same', lostItems: 0, seen: SEEN }), failing);
  disk.fails = true;
  for (let i = 0; i < 20; i++) await expect(keeping.turn()).rejects.toThrow('ENOSPC');
  expect(told.length).toBeGreaterThanOrEqual(10);
  expect(kept).toEqual([]);
  disk.fails = false;
  for (let i = 0; i < 2; i++) await keeping.turn().catch(() => {});
  expect(kept).toEqual([SEEN]);
});

it('does not report while it is unknown whether the accounting has an entry: it would count twice', async () => {
  const answer = (): DiskReported => ({ state: 'same', lostItems: 0, seen: SEEN });
  const { keeping, told } = rig(answer, async (book) => {
    await book({ id: 'e', counts: { accepted: 1 } });
  });
  await expect(keeping.turn()).rejects.toThrow('the answer got lost');
  expect(told).toEqual([]);
});
