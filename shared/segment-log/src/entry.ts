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

/** What the log tells its owner. */
export interface LogEvents {
  /** Something on disk could not be read; what it held is lost as far as `items` says, and its file is kept. */
  corrupted(what: { area: Area; file: string; reason: string; records: number; items: number }): void;
  /** Items that were given up, and why. */
  dropped(area: Area, items: number, reason: DropReason): void;
  fault(error: SegmentLogError): void;
}
