import type { LogEvents, WriteOffs } from './entry.ts';
import { codeOf } from './errors.ts';
import type { Area } from './record.ts';
import { type Segment, segmentPath } from './segment.ts';

/** The segments of one area, oldest first, with their known damage. */
export class Inventory {
  readonly area: Area;
  readonly dir: string;
  readonly segments: Segment[] = [];
  /** Whether something has changed since the last checkpoint. */
  isChanged = false;
  /** Above the numbers of all segments so far. */
  nextSequence = 1;
  /** Write-offs for the next checkpoint. */
  readonly writtenOff: WriteOffs = {};
  readonly #events: LogEvents;

  constructor(area: Area, dir: string, events: LogEvents) {
    this.area = area;
    this.dir = dir;
    this.#events = events;
  }

  get bytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.end, 0);
  }

  has(segment: Segment): boolean {
    return this.segments.includes(segment);
  }

  bySequence(sequence: number): Segment | undefined {
    return this.segments.find((candidate) => candidate.sequence === sequence);
  }

  forget(segment: Segment): void {
    const at = this.segments.indexOf(segment);
    if (at >= 0) this.segments.splice(at, 1);
    this.isChanged = true;
  }

  /** Records damage of a segment, unless it was removed already; the first one is reported. */
  damage(segment: Segment, reason: string): void {
    if (segment.damage.includes(reason) || !this.has(segment)) return;
    segment.damage.push(reason);
    if (segment.damage.length === 1) this.lost(segmentPath(this.dir, segment), reason, 0, 0);
  }

  /** A segment cannot be read now, without a sign of damage. */
  unreadable(segment: Segment, error: unknown): void {
    if (segment.isUnreadable) return;
    segment.isUnreadable = true;
    const reason = codeOf(error) ?? (error as Error).message;
    this.#events.unreadable({ area: this.area, file: segmentPath(this.dir, segment), reason });
  }

  /** A segment's file is gone: records that were not acknowledged are lost. */
  missing(segment: Segment): void {
    if (!this.has(segment)) return;
    const records = segment.records - segment.acked.count;
    if (records > 0) {
      const items = segment.items - segment.ackedItems;
      this.lost(segmentPath(this.dir, segment), 'the file is missing', records, items);
    }
    this.forget(segment);
  }

  /** Reports that a file is not readable as it should be, and how much is lost. */
  lost(file: string, reason: string, records: number, items: number): void {
    this.writeOff('corrupted', items);
    this.#events.corrupted({ area: this.area, file, reason, records, items: Math.max(0, items) });
  }

  /** Adds items to the write-offs of the next checkpoint, which also has the change that causes them. */
  writeOff(reason: keyof WriteOffs, items: number): void {
    if (items <= 0) return;
    this.writtenOff[reason] = (this.writtenOff[reason] ?? 0) + items;
    this.isChanged = true;
  }
}
