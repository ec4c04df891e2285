import { Acked } from './acked.ts';
import type { BlockEntry } from './block.ts';
import type { Entry } from './entry.ts';
import { codeOf, isDamage } from './errors.ts';
import type { File, FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';
import { unreadable } from './recovery.ts';
import { openSegment, readBlock, type Segment, segmentPath } from './segment.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';
import type { Verifier } from './verifier.ts';
import type { SegmentWriter } from './writer.ts';

/** Time after which a segment that could not be opened is tried again. */
const PUT_OFF_MS = 5_000;
/** Hash rate for a segment that is needed now. */
const VERIFY_AT_ONCE = 1024 * 1024 * 1024;

/** Read position in a segment. */
interface Cursor {
  segment: Segment;
  file: File;
  at: number;
  entries: BlockEntry[];
  /** Records that were read or are known to be acknowledged, and their items. */
  seen: Acked;
  seenItems: number;
}

/** Reads an area's records, oldest first, each once until a rewind. Callers take turns. */
export class AreaReader {
  readonly #fs: FileSystem;
  readonly #inventory: Inventory;
  readonly #verifier: Verifier;
  readonly #writer: SegmentWriter;
  #cursor: Cursor | undefined;
  /** All segments before it have been read, except those put off. */
  #readUpTo = 0;
  /** Segments that could not be opened, by sequence: when to retry each. */
  readonly #putOff = new Map<number, number>();
  readonly #now: () => number;

  constructor(
    fs: FileSystem,
    inventory: Inventory,
    verifier: Verifier,
    writer: SegmentWriter,
    now: () => number,
  ) {
    this.#fs = fs;
    this.#inventory = inventory;
    this.#verifier = verifier;
    this.#writer = writer;
    this.#now = now;
  }

  async read(): Promise<Entry | undefined> {
    const inventory = this.#inventory;
    while (true) {
      const cursor = this.#cursor ?? (await this.#openNext());
      if (!cursor) return undefined;
      const { segment, seen } = cursor;
      for (let entry = cursor.entries.shift(); entry; entry = cursor.entries.shift()) {
        if (!entry.record || seen.has(entry.index)) continue;
        const { items } = entry.record.envelope;
        seen.add(entry.index);
        cursor.seenItems += items;
        if (segment.acked.has(entry.index)) continue; // acknowledged since the segment was opened for reading
        segment.held.set(entry.index, items);
        const position = { area: inventory.area, sequence: segment.sequence, index: entry.index, items };
        return { position, record: entry.record };
      }
      if (cursor.at < segment.end) {
        const { end, entries, damage } = await readBlock(cursor.file, cursor.at, segment.end);
        if (damage) inventory.damage(segment, damage);
        cursor.at = end;
        cursor.entries = entries;
        continue;
      }
      if (segment === this.#writer.segment) return undefined;
      await this.#finish(cursor);
    }
  }

  async rewind(): Promise<void> {
    await this.close();
    this.#readUpTo = 0;
  }

  /** Closes a segment that is about to be removed. */
  async leave(segment: Segment): Promise<void> {
    if (this.isAt(segment)) await this.close();
  }

  /** Skips a segment whose records are all acknowledged. */
  async pass(segment: Segment): Promise<void> {
    if (this.isAt(segment)) await this.#leaveBehind(segment);
  }

  async #leaveBehind({ sequence }: Segment): Promise<void> {
    await this.close();
    this.#readUpTo = Math.max(this.#readUpTo, sequence);
  }

  async close(): Promise<void> {
    const cursor = this.#cursor;
    this.#cursor = undefined;
    await cursor?.file.close().catch(() => {});
  }

  isAt(segment: Segment): boolean {
    return this.#cursor?.segment === segment;
  }

  /** Whether it is reading a segment and has not reached its end. */
  isWithin(segment: Segment): boolean {
    return this.isAt(segment) && this.#cursor!.at < segment.end;
  }

  async #openNext(): Promise<Cursor | undefined> {
    const inventory = this.#inventory;
    const { dir } = inventory;
    while (true) {
      const segment = this.#next();
      if (!segment) return undefined;
      if (this.#verifier.isDue(segment)) await this.#verifier.verify(segment, VERIFY_AT_ONCE);
      let file: File;
      try {
        file = await openSegment(this.#fs, dir, segment);
      } catch (error) {
        this.#passOver(segment, error);
        continue;
      }
      this.#putOff.delete(segment.sequence);
      segment.isUnreadable = false;
      const seen = new Acked(segment.acked.toRanges());
      const known = { seen, seenItems: segment.ackedItems };
      this.#cursor = { segment, file, at: SEGMENT_HEADER_BYTES, entries: [], ...known };
      // Verify the next segment while this one is read.
      const after = this.#next(segment.sequence);
      if (after && this.#verifier.isDue(after)) void this.#verifier.verify(after);
      return this.#cursor;
    }
  }

  #next(after = this.#readUpTo): Segment | undefined {
    return this.#inventory.segments.find(
      (candidate) =>
        !candidate.isUnread &&
        (this.#putOff.get(candidate.sequence) ?? (candidate.sequence > after ? 0 : Infinity)) <=
          this.#now() &&
        (candidate.acked.count < candidate.records || candidate === this.#writer.segment),
    );
  }

  /** Makes a segment that was put off or unknown be read, although later ones have been. */
  revisit({ sequence }: Segment): void {
    this.#putOff.set(sequence, 0);
  }

  /**
   * Handles a segment that cannot be opened: if its file is gone, it is lost; otherwise reading continues behind it, and it is
   * retried unless damaged.
   */
  #passOver(segment: Segment, error: unknown): void {
    const inventory = this.#inventory;
    const { sequence } = segment;
    if (codeOf(error) === 'ENOENT') inventory.missing(segment);
    else if (isDamage(error)) inventory.damage(segment, unreadable(error));
    else {
      inventory.unreadable(segment, error);
      this.#putOff.set(sequence, this.#now() + PUT_OFF_MS);
      return;
    }
    this.#putOff.delete(sequence);
    this.#readUpTo = Math.max(this.#readUpTo, sequence);
  }

  /** Called at the end of a segment: records that are missing are lost. */
  async #finish(cursor: Cursor): Promise<void> {
    const { segment, seen } = cursor;
    const inventory = this.#inventory;
    const lost: number[] = [];
    for (let index = 0; index < segment.records; index++) if (!seen.has(index)) lost.push(index);
    if (lost.length > 0) {
      const items = Math.max(0, segment.items - cursor.seenItems);
      for (const index of lost) segment.acked.add(index);
      segment.ackedItems += items;
      inventory.isChanged = true;
      inventory.damage(segment, `${lost.length} records with ${items} items are lost`);
      inventory.lost(segmentPath(inventory.dir, segment), 'records are lost', lost.length, items);
    }
    await this.#leaveBehind(segment);
  }
}
