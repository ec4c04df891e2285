import type { SegmentLog } from '@nrdot/segment-log';
import { expect, it } from 'vitest';
import { EarlierOutcomes } from './earlier-outcomes.ts';

it('forgets nothing in the pass during which a segment became readable: it may be behind the reader', () => {
  let unread = true;
  const outcomes = new EarlierOutcomes({ hasUnread: () => unread } as unknown as SegmentLog);
  outcomes.add('r1', 1);
  outcomes.allRead();
  expect(outcomes.oldest).toBe(1);
  unread = false; // after its area was read to the end, and before the others were
  outcomes.allRead();
  expect(outcomes.oldest).toBe(1);
  outcomes.allRead(); // this pass has read it
  expect(outcomes.oldest).toBeUndefined();
});

/** A log whose rejected area has segments of one record each, with the id of its number; those that are locked cannot be read. */
function rejectedLog(sequences: number[], locked: Set<number>) {
  const scanned: number[] = [];
  const log = {
    segments: () =>
      sequences.map((sequence) => ({
        area: 'rejected',
        sequence,
        state: 'sealed',
        records: 1,
        ackedRecords: 0,
      })),
    async *scan(_area: string, _period: unknown, sequence: number) {
      if (locked.has(sequence)) throw new Error('EACCES');
      scanned.push(sequence);
      yield { record: { envelope: { id: String(sequence) } }, position: { sequence }, acked: false };
    },
  };
  return { scanned, outcomes: new EarlierOutcomes(log as unknown as SegmentLog) };
}

it('searches each rejected segment once, and one that cannot be read as soon as it can', async () => {
  const locked = new Set([2]);
  const { scanned, outcomes } = rejectedLog([1, 2, 3], locked);
  for (const key of ['x2', 'x3', 'x4']) outcomes.add(key, Number(key.slice(1)));
  const finished: number[] = [];
  const search = (nowMs: number) =>
    outcomes.searchRejected(nowMs, ({ sequence }) => void finished.push(sequence));
  await search(0);
  expect([scanned, finished, outcomes.oldest]).toEqual([[1, 3], [3], 2]);
  expect([outcomes.isSearchDue(59_999), outcomes.isSearchDue(60_000)]).toEqual([false, true]);
  await search(60_000);
  expect([scanned, outcomes.oldest]).toEqual([[1, 3], 2]);
  locked.clear();
  await search(120_000);
  expect([scanned, finished]).toEqual([
    [1, 3, 2],
    [3, 2],
  ]);
  expect(outcomes.oldest).toBeUndefined(); // 4 is not on the disk any more
});

it('keeps what was delivered of a rejected segment that was unread when it was searched', async () => {
  let state = 'unreadable';
  const log = {
    segments: () => [{ area: 'rejected', sequence: 1, state, records: 0, ackedRecords: 0 }], // nothing is known of it
    async *scan() {},
  };
  const outcomes = new EarlierOutcomes(log as unknown as SegmentLog);
  outcomes.add('x1', 1);
  await outcomes.searchRejected(0, () => {});
  expect(outcomes.oldest).toBe(1);
  state = 'sealed';
  await outcomes.searchRejected(60_000, () => {});
  expect(outcomes.oldest).toBeUndefined();
});
