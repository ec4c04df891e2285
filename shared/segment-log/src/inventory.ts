import type { LogEvents, WriteOffs } from './entry.ts';
import { codeOf } from './errors.ts';
import type { Area } from './record.ts';
import { type Segment, segmentPath } from './segment.ts';

/** The segments of one area, oldest first, and what is wrong with each. */
export class Inventory {
  readonly area: Area;
  readonly dir: string;
  readonly segments: Segment[] = [];
  /** Whether there is something that the checkpoint does not say yet. */
  isChanged = false;
  /** What the next checkpoint says of items that left without being delivered. */
  readonly writtenOff: WriteOffs = {};
  readonly #events: LogEvents;
  /** By sequence. */
  readonly #damaged = new Map<number, string[]>();
  /** Sequences of those that are known to be unreadable now. */
  readonly #unreadable = new Set<number>();

  constructor(area: Area, dir: string, events: LogEvents) {
    this.area = area;
    this.dir = dir;
    this.#events = events;
  }

  /** Bytes of its files. */
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
    this.#damaged.delete(segment.sequence);
    this.#unreadable.delete(segment.sequence);
    this.isChanged = true;
  }

  isDamaged(segment: Segment): boolean {
    return this.#damaged.has(segment.sequence);
  }

  /** What is wrong with a segment; empty when nothing is known to be. */
  damageOf(segment: Segment): readonly string[] {
    return this.#damaged.get(segment.sequence) ?? [];
  }

  /** Notes what is wrong with a segment; what comes first is told. */
  damage(segment: Segment, reason: string): void {
    const reasons = this.#damaged.get(segment.sequence);
    if (reasons?.includes(reason)) return;
    if (reasons) reasons.push(reason);
    else {
      if (!this.has(segment)) return; // it is gone already
      this.#damaged.set(segment.sequence, [reason]);
      this.lost(segmentPath(this.dir, segment), reason, 0, 0);
    }
  }

  /** A segment can't be read now, and nobody says that it is damaged. */
  unreadable(segment: Segment, error: unknown): void {
    if (this.#unreadable.has(segment.sequence)) return;
    this.#unreadable.add(segment.sequence);
    const reason = codeOf(error) ?? (error as Error).message;
    this.#events.unreadable({ area: this.area, file: segmentPath(this.dir, segment), reason });
  }

  readable(segment: Segment): void {
    this.#unreadable.delete(segment.sequence);
  }

  isUnreadable(segment: Segment): boolean {
    return this.#unreadable.has(segment.sequence);
  }

  /** A segment's file is gone: what was not acknowledged is lost. */
  missing(segment: Segment): void {
    if (!this.has(segment)) return;
    const records = segment.records - segment.acked.count;
    if (records > 0) {
      const items = segment.items - segment.ackedItems;
      this.lost(segmentPath(this.dir, segment), 'the file is missing', records, items);
    }
    this.forget(segment);
  }

  /** Tells that a file cannot be read as it should, and how much of it is lost by that. */
  lost(file: string, reason: string, records: number, items: number): void {
    this.writeOff('corrupted', items);
    this.#events.corrupted({ area: this.area, file, reason, records, items: Math.max(0, items) });
  }

  /** The next checkpoint is to count them, with what makes it true. */
  writeOff(reason: keyof WriteOffs, items: number): void {
    if (items <= 0) return;
    this.writtenOff[reason] = (this.writtenOff[reason] ?? 0) + items;
    this.isChanged = true;
  }
}
