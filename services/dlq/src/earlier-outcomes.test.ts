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

it('keeps what was delivered of a rejected segment that became readable while others were searched', async () => {
  let unread = true;
  const log = {
    hasUnread: () => unread,
    stats: () => ({ records: 0 }), // nothing is known of it
    async *scan() {
      unread = false;
      yield* [];
    },
  };
  const outcomes = new EarlierOutcomes(log as unknown as SegmentLog);
  outcomes.add('x1', 1);
  await outcomes.searchRejected(0, () => {});
  expect(outcomes.oldest).toBe(1);
  await outcomes.searchRejected(60_000, () => {});
  expect(outcomes.oldest).toBeUndefined();
});
