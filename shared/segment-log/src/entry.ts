import type { SegmentLogError } from './errors.ts';
import type { Area, Record } from './record.ts';

/** Identifies a record for its acknowledgement. */
export interface Position {
  area: Area;
  sequence: number;
  index: number;
  items: number;
}

export interface Entry {
  position: Position;
  record: Record;
}

/** Times of receipt, Unix ms, both inclusive. */
export interface Period {
  since: number;
  until: number;
}

export const ALWAYS: Period = { since: 0, until: Number.POSITIVE_INFINITY };

export type DropReason = 'retention' | 'capacity' | 'purged';

/** Why items are removed from the disk without being delivered. */
export const WRITE_OFF_REASONS = ['retention', 'capacity', 'purged', 'corrupted'] as const;
/** Items written off since the directory was first used, by reason. */
export type WriteOffs = { [R in (typeof WRITE_OFF_REASONS)[number]]?: number };

/** Callbacks of the log. */
export interface LogEvents {
  /** Something on disk was unreadable. Its items are lost, as far as `items` says; the file is kept. */
  corrupted(what: { area: Area; file: string; reason: string; records: number; items: number }): void;
  /**
   * A file cannot be read now, without a sign of damage. It is skipped and retried, and its records wait; reported once until
   * it was read.
   */
  unreadable(what: { area: Area; file: string; reason: string }): void;
  /** Items that were dropped, and the reason. */
  dropped(area: Area, items: number, reason: DropReason): void;
  /**
   * Totals on disk, in the same write as the change that caused them: reported once when the log is opened, and after each
   * change. They only grow, except after a damaged checkpoint, when they restart at 0.
   */
  writtenOff(area: Area, totals: Readonly<WriteOffs>): void;
  /**
   * The disk was full and the ballast was released so that acknowledged records can be removed; or the ballast was restored.
   */
  ballast(state: 'given_up' | 'kept'): void;
  fault(error: SegmentLogError): void;
}
