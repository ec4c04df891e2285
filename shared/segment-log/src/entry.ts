import type { SegmentLogError } from './errors.ts';
import type { Area, Record } from './record.ts';

/** Names a record for its acknowledgement. */
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

/** Received times, Unix ms, both included. */
export interface Period {
  since: number;
  until: number;
}

export const ALWAYS: Period = { since: 0, until: Number.POSITIVE_INFINITY };

export type DropReason = 'retention' | 'capacity' | 'purged';

/** Why items leave the disk without being delivered. */
export const WRITE_OFF_REASONS = ['retention', 'capacity', 'purged', 'corrupted'] as const;
/** Items that were written off since the directory was first used, by reason. */
export type WriteOffs = { [R in (typeof WRITE_OFF_REASONS)[number]]?: number };

/** What the log tells its owner. */
export interface LogEvents {
  /** Something on disk could not be read; what it held is lost as far as `items` says, and its file is kept. */
  corrupted(what: { area: Area; file: string; reason: string; records: number; items: number }): void;
  /**
   * A file that nobody says is damaged can't be read now. It is passed over and tried again, what it holds goes on waiting;
   * told once until it was read.
   */
  unreadable(what: { area: Area; file: string; reason: string }): void;
  /** Items that were given up, and why. */
  dropped(area: Area, items: number, reason: DropReason): void;
  /**
   * Totals that are on the disk, in the same write as what made them: told once when the log is opened, and after each
   * change. They only grow, but for those of a checkpoint that was damaged, which begin at 0 again.
   */
  writtenOff(area: Area, totals: Readonly<WriteOffs>): void;
  /** The disk was full, and the ballast went so that what is acknowledged can go; or it is there again. */
  ballast(state: 'given_up' | 'kept'): void;
  fault(error: SegmentLogError): void;
}
