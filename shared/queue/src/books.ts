import type { Depth } from './depth.ts';
import { numberField } from './number-field.ts';
import { CLASSES } from './priority-class.ts';

/** Items on the dlq's disk. */
export interface DiskItems {
  /** Waiting for replay, those in flight included. */
  waiting: number;
  /** Of those: taken by the dlq while Redis was away, so not yet booked as accepted. */
  unbooked: number;
  /** In the area that is replayed only on command. */
  rejected: number;
}

/** What the dlq says of its disk, and what it knows of Redis. */
export interface DiskReport extends DiskItems {
  /** Items that the disk has dropped and the books have not heard of. */
  undropped: number;
  /** Number of the first outcome of a replayed batch that was not acted on; -1 when something else is on its way. */
  outcomesSeen: number;
  /** What was last seen of Redis; absent when it never was. */
  seen: RedisSeen | undefined;
  /** Epoch for a Redis that has none. */
  freshEpoch: string;
}

/** What a dlq remembers of Redis, on its disk too, so that a Redis that has lost everything is noticed, and what it held is not forgotten. */
export interface RedisSeen {
  epoch: string;
  /** Unix ms, by Redis' clock. */
  at: number;
  /** The books then. */
  books: Record<string, number>;
  /** Items that were in Redis and nowhere else. */
  live: number;
  paused: boolean;
}

export interface DiskReported {
  /**
   * `begun`: a Redis without an epoch has got one. `lost`: it has lost what it held, and the books were taken up again. `older`: it
   * was restored from an older state. `busy`: lost, and that could not be booked yet.
   */
  state: 'same' | 'begun' | 'lost' | 'busy' | 'older';
  lostItems: number;
  seen: RedisSeen;
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

/** The counters of the books from their hash, fields and values in turn; the epoch of Redis is none. */
export function booksOf(flat: readonly string[]): Record<string, number> {
  const books: Record<string, number> = {};
  for (let i = 0; i + 1 < flat.length; i += 2)
    if (!flat[i]!.startsWith('epoch')) books[flat[i]!] = numberField(flat[i + 1]);
  return books;
}
