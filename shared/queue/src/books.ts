import type { Depth } from './depth.ts';
import { numberField } from './number-field.ts';
import { CLASSES } from './priority-class.ts';

/** Items on the dlq's disk. */
export interface DiskItems {
  /** Waiting for replay, those under way included. */
  waiting: number;
  /** Of those: taken by the dlq while Redis was away, so not yet booked as accepted. */
  unbooked: number;
  /** In the area that is replayed only on command. */
  rejected: number;
}

/** The books, in items: accepted = delivered + queued + on_disk + rejected + dropped + difference. */
export interface Accounting {
  accepted: number;
  delivered: number;
  queued: number;
  on_disk: number;
  rejected: number;
  dropped: number;
  difference: number;
}

/**
 * Balances the books from the three places that keep them. What came from the disk and is under way in Redis is on
 * the disk still, so only live stages count as queued.
 */
export function accountingOf(
  depth: Depth,
  books: Record<string, number>,
  disk: Record<string, string | number>,
): Accounting {
  const { queued, export: exporting, spill } = depth.stages;
  const live = CLASSES.reduce((sum, c) => sum + queued[c].items + exporting[c].items + spill[c].items, 0);
  const onDisk = numberField(disk.waiting);
  const rejected = numberField(disk.rejected);
  const accepted = (books.accepted ?? 0) + numberField(disk.unbooked);
  const delivered = books.delivered ?? 0;
  const dropped = Object.entries(books)
    .filter(([field]) => field.startsWith('dropped:'))
    .reduce((sum, [, items]) => sum + items, 0);
  return {
    accepted,
    delivered,
    queued: live,
    on_disk: onDisk,
    rejected,
    dropped,
    difference: accepted - delivered - live - onDisk - rejected - dropped,
  };
}
