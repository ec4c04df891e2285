import type { Depth } from './depth.ts';
import { numberField } from './number-field.ts';

/** The dlq's report: what its disk holds, and what it last saw of Redis. */
export interface DiskReport {
  /** Waiting for replay or replayed and in flight. */
  waiting: number;
  /** Of those: accepted while Redis was away, so not yet in its accounting. */
  unbooked: number;
  /** In the area that is replayed only on command. */
  rejected: number;
  /** Items dropped from the disk that Redis' accounting does not have yet. */
  undropped: number;
  /** Index of the first outcome of a replayed batch that was not processed; -1 while a write of the ledger is in flight. */
  outcomesSeen: number;
  seen: RedisSeen | undefined;
  freshEpoch: string;
}

/** A snapshot of Redis that the dlq keeps, on its disk too, to detect that Redis has lost its data and to account for it. */
export interface RedisSeen {
  epoch: string;
  /** Unix ms, by Redis' clock. */
  at: number;
  books: Record<string, number>;
  live: number;
  paused: boolean;
}

export interface DiskReported {
  /**
   * `begun`: Redis had no epoch and got one. `lost`: Redis lost its data, and its accounting was restored. `older`: Redis was
   * restored from an older state. `busy`: data was lost, but that could not be accounted for yet.
   */
  state: 'same' | 'begun' | 'lost' | 'busy' | 'older';
  lostItems: number;
  seen: RedisSeen;
}

/** The accounting, in items: accepted = delivered + queued + on_disk + rejected + dropped + difference. */
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
 * Computes the accounting from Redis' depth, its counters and the dlq's report. A replayed batch that is in flight is still on
 * disk, so only live stages count as queued.
 */
export function accountingOf(
  { stages }: Depth,
  books: Record<string, number>,
  disk: Record<string, string | number>,
): Accounting {
  const live = [stages.queued, stages.export, stages.spill].flatMap((stage) => Object.values(stage));
  const queued = live.reduce((sum, { items }) => sum + items, 0);
  const onDisk = numberField(disk.waiting);
  const rejected = numberField(disk.rejected);
  const { delivered = 0 } = books;
  const accepted = (books.accepted ?? 0) + numberField(disk.unbooked);
  let dropped = 0;
  for (const [field, items] of Object.entries(books)) if (field.startsWith('dropped:')) dropped += items;
  const difference = accepted - delivered - queued - onDisk - rejected - dropped;
  return { accepted, delivered, queued, on_disk: onDisk, rejected, dropped, difference };
}

/** Parses the accounting hash; skips the epoch. */
export function booksOf(fields: readonly [field: string, items: string][]): Record<string, number> {
  const books: Record<string, number> = {};
  for (const [field, items] of fields) if (!field.startsWith('epoch')) books[field] = numberField(items);
  return books;
}
