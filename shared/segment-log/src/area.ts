import { join } from 'node:path';
import { Acked } from './acked.ts';
import { CHECKPOINT, type Checkpoint, readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { ALWAYS, type DropReason, type Entry, type LogEvents, type Period, type Position } from './entry.ts';
import { diskFault } from './errors.ts';
import type { File, FileSystem } from './file-system.ts';
import type { Quarantine } from './quarantine.ts';
import type { Area, Record } from './record.ts';
import { lastIdsOfSealed, recoverSegment, unreadable } from './recovery.ts';
import {
  type Cursor,
  openSegment,
  parseSegmentName,
  readBlock,
  type Segment,
  segmentName,
  segmentPath,
} from './segment.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';
import { SegmentWriter, sealFile } from './writer.ts';

export interface AreaOptions {
  fs: FileSystem;
  root: string;
  area: Area;
  segmentBytes: number;
  retentionMs: number;
  verifyBytesPerSecond: number;
  quarantine: Quarantine;
  events: LogEvents;
  reserve(bytes: number): Promise<void>;
  now(): number;
}

/** A segment whose records are all done with is given this long before it goes: appends may still come. */
const IDLE_MS = 1_000;
const VERIFY_AT_ONCE = 1024 * 1024 * 1024;

/** The segments of one class, or those of rejected batches: written at the end, read from the beginning. */
export class AreaLog {
  readonly dir: string;
  readonly segments: Segment[] = [];
  readonly #o: AreaOptions;
  readonly #writer: SegmentWriter;
  /** By sequence, what is wrong with a segment. */
  readonly #damaged = new Map<number, string[]>();
  #nextSequence = 1;
  #cursor: Cursor | undefined;
  /** All before it has been read. */
  #readUpTo = 0;
  #dirty = false;
  #appendedAt = 0;
  #exclusive: Promise<unknown> = Promise.resolve();
  #checkpointing: Promise<void> = Promise.resolve();

  constructor(options: AreaOptions) {
    this.#o = options;
    this.dir = join(options.root, options.area);
    this.#writer = new SegmentWriter({
      fs: options.fs,
      dir: this.dir,
      area: options.area,
      segmentBytes: options.segmentBytes,
      nextSequence: () => this.#nextSequence++,
      reserve: options.reserve,
      opened: (segment) => this.segments.push(segment),
      sealed: () => {
        this.#dirty = true;
      },
      discarded: (segment) => this.#forget(segment),
      fault: (error) => options.events.fault(error),
      now: options.now,
    });
  }

  /** Bytes of its files. */
  get bytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.end, 0);
  }

  async append(record: Record): Promise<void> {
    this.#appendedAt = this.#o.now();
    await this.#writer.append(record);
    // The end of an open segment, damaged, looks like a torn write: only the checkpoint can tell that it was whole.
    this.#dirty = true;
  }

  seal(): Promise<void> {
    return this.#writer.seal();
  }

  /** Reads what is on the disk: headers of sealed segments, block headers of open ones. @returns ids of the last records */
  async recover(): Promise<string[]> {
    const { fs, root, area, now } = this.#o;
    await fs.mkdir(this.dir);
    await fs.syncDir(root);
    const known = await this.#readCheckpoint();
    const remembered = new Map(known?.segments.map((entry) => [entry.sequence, entry]));
    this.#nextSequence = known?.nextSequence ?? 1;
    const names = (await fs.list(this.dir)).flatMap((name) => {
      const parsed = parseSegmentName(name);
      return parsed ? [{ name, ...parsed }] : [];
    });
    names.sort((a, b) => a.sequence - b.sequence || Number(a.open) - Number(b.open));
    const last: string[] = [];
    for (const { name, sequence } of names) {
      this.#nextSequence = Math.max(this.#nextSequence, sequence + 1);
      if (this.segments.at(-1)?.sequence === sequence) {
        const reason = 'there are two files of this number';
        this.#lost(join(this.dir, name), reason, 0, 0);
        await this.#setAside(name, reason);
        continue;
      }
      const found = await recoverSegment(fs, this.dir, area, name, remembered.get(sequence), now());
      remembered.delete(sequence);
      if (found.stillborn) {
        await fs.unlink(join(this.dir, name)).catch(() => {});
        continue;
      }
      this.segments.push(found.segment);
      last.push(...found.lastIds);
      for (const reason of found.damage) this.#damage(found.segment, reason);
    }
    // What was written last may be in the last segment that was sealed: the kill may have come right after.
    const sealed = this.segments.findLast(({ state }) => state === 'sealed');
    if (sealed) last.push(...(await lastIdsOfSealed(fs, this.dir, sealed)));
    for (const { sequence, records, items, ranges, ackedItems } of remembered.values()) {
      this.#dirty = true;
      const missing = records - new Acked(ranges).count;
      if (missing <= 0) continue; // it was done with, and the crash came before that was forgotten
      this.#lost(
        join(this.dir, segmentName(sequence, false)),
        'the file is missing',
        missing,
        items - ackedItems,
      );
    }
    return last;
  }

  async #readCheckpoint(): Promise<Checkpoint | undefined> {
    const checkpoint = await readCheckpoint(this.#o.fs, this.dir);
    if (checkpoint !== 'damaged') return checkpoint;
    const reason = 'the checkpoint is damaged; records may be replayed twice';
    this.#lost(join(this.dir, CHECKPOINT), reason, 0, 0);
    await this.#setAside(CHECKPOINT, reason);
    return undefined;
  }

  /** Keeps a file that can't be of use where people can look at it. On a disk that takes no writes it stays where it is. */
  async #setAside(name: string, reason: string): Promise<void> {
    const { area, now, quarantine } = this.#o;
    const at = new Date(now()).toISOString();
    await quarantine
      .take(this.dir, name, `${area}-${name}-${now()}`, { area, reasons: [reason], at })
      .catch(() => {});
  }

  /** The next record that was not given out yet; undefined when there is none now. One reader at a time. */
  read(): Promise<Entry | undefined> {
    return this.#alone(() => this.#read());
  }

  async #read(): Promise<Entry | undefined> {
    while (true) {
      const cursor = this.#cursor ?? (await this.#openNext());
      if (!cursor) return undefined;
      const { segment, seen } = cursor;
      for (let entry = cursor.entries.shift(); entry; entry = cursor.entries.shift()) {
        if (!entry.record || seen.has(entry.index)) continue;
        const { items } = entry.record.envelope;
        seen.add(entry.index);
        cursor.seenItems += items;
        if (segment.acked.has(entry.index)) continue; // since the segment was opened for reading
        segment.held.set(entry.index, items);
        const position = { area: this.#o.area, sequence: segment.sequence, index: entry.index, items };
        return { position, record: entry.record };
      }
      if (cursor.at < segment.end) {
        const { end, entries, damage } = await readBlock(cursor.file, cursor.at, segment.end);
        if (damage) this.#damage(segment, `bytes ${damage.at} to ${damage.end} can't be read`);
        cursor.at = end;
        cursor.entries = entries;
        continue;
      }
      if (segment === this.#writer.segment) return undefined;
      await this.#finish(cursor);
    }
  }

  /** Goes back to the first record that is not done with. */
  rewind(): Promise<void> {
    return this.#alone(async () => {
      await this.#closeCursor();
      this.#readUpTo = 0;
    });
  }

  /** A record is done with. Its segment goes when all of its records are. */
  ack({ sequence, index, items }: Position): void {
    const segment = this.#bySequence(sequence);
    segment?.held.delete(index);
    if (!segment?.acked.add(index)) return;
    segment.ackedItems += items;
    this.#dirty = true;
  }

  /** A record that was given out will not be delivered now: it may be dropped like any other. */
  release({ sequence, index }: Position): void {
    this.#bySequence(sequence)?.held.delete(index);
  }

  /**
   * Every record that can be read, done with or not, oldest first; changes nothing. Segments without a batch received
   * in a time are not read.
   */
  async *scan({ since, until }: Period = ALWAYS): AsyncGenerator<Entry & { acked: boolean }> {
    const { area, fs } = this.#o;
    for (const segment of [...this.segments]) {
      const { sequence, end } = segment;
      if (segment.lastReceivedAt < since || segment.firstReceivedAt > until) continue;
      const file = await openSegment(fs, this.dir, segment).catch(() => undefined);
      if (!file) continue; // removed meanwhile, or not to be read; then reading says so
      try {
        for (let at = SEGMENT_HEADER_BYTES; at < end; ) {
          const block = await readBlock(file, at, end);
          for (const { index, record } of block.entries) {
            if (!record) continue;
            const position = { area, sequence, index, items: record.envelope.items };
            yield { position, record, acked: segment.acked.has(index) };
          }
          at = block.end;
        }
      } finally {
        await file.close();
      }
    }
  }

  /** Seals, verifies, expires, removes and checkpoints what is due. Call about once a second. */
  async maintain(): Promise<void> {
    const { now, retentionMs } = this.#o;
    const active = this.#writer.segment;
    if (active && active.records > 0 && now() - this.#appendedAt > IDLE_MS) {
      const expired = active.lastReceivedAt < now() - retentionMs;
      if (expired || active.acked.count >= active.records) await this.#writer.seal();
    }
    const toSeal: Segment[] = [];
    for (const segment of [...this.segments]) {
      if (segment === this.#writer.segment || segment.state === 'open') continue;
      // While it is being replayed it is not dropped: what is under way would be counted twice.
      if (segment.lastReceivedAt < now() - retentionMs && segment.held.size === 0)
        await this.drop(segment, 'retention');
      else if (segment.acked.count >= segment.records && !this.#isRead(segment)) await this.#remove(segment);
      else if (segment.state === 'recovered' && !this.#damaged.has(segment.sequence)) toSeal.push(segment);
    }
    await this.checkpointIfChanged();
    // Hashing takes its time: one a turn, when all else is done.
    if (toSeal[0]) await this.#sealRecovered(toSeal[0]);
  }

  /** Checks the hash of one sealed segment that was not checked yet. @returns whether there was one */
  async verifyOne(): Promise<boolean> {
    const segment = this.segments.find((candidate) => this.#isUnverified(candidate));
    if (!segment) return false;
    await this.#verify(segment, this.#o.verifyBytesPerSecond);
    return true;
  }

  /** Checks the hash of each sealed segment, again if it was checked before. @returns each segment after that */
  async *verify(): AsyncGenerator<Segment> {
    for (const segment of [...this.segments]) {
      const isSound = segment.sha256 !== undefined && !this.#damaged.has(segment.sequence);
      if (isSound) await this.#verify(segment, this.#o.verifyBytesPerSecond);
      if (this.segments.includes(segment)) yield segment;
    }
  }

  /** When it resolves, what was done with before is written down: by this call, or by one that was under way. */
  async checkpointIfChanged(): Promise<void> {
    await this.#checkpointing;
    if (this.#dirty) await this.checkpoint();
  }

  /** Writes down what is done with: one after another, so that a later one is never overtaken by an earlier. */
  checkpoint(): Promise<void> {
    const done = this.#checkpointing.then(() => this.#writeCheckpoint());
    this.#checkpointing = done.catch(() => {});
    return done;
  }

  async #writeCheckpoint(): Promise<void> {
    this.#dirty = false;
    const segments = this.segments
      .filter(({ records }) => records > 0)
      .map(({ sequence, records, items, acked, ackedItems }) => {
        return { sequence, records, items, ranges: acked.toRanges(), ackedItems };
      });
    try {
      await writeCheckpoint(this.#o.fs, this.dir, { nextSequence: this.#nextSequence, segments });
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
  }

  /**
   * Gives a segment up, but for those of its records that were given out: they may be delivered yet, and the segment
   * goes when they are done with.
   * @returns items given up
   */
  async drop(segment: Segment, reason: DropReason): Promise<number> {
    // Not under the lock: what is being written may wait for room, and that for the lock.
    if (segment === this.#writer.segment) await this.#writer.seal();
    return this.#alone(async () => {
      if (!this.segments.includes(segment)) return 0;
      if (this.#cursor?.segment === segment) await this.#closeCursor();
      const { held, records } = segment;
      const heldItems = [...held.values()].reduce((sum, items) => sum + items, 0);
      const items = Math.max(0, segment.items - segment.ackedItems - heldItems);
      if (items > 0) this.#o.events.dropped(this.#o.area, items, reason);
      for (let index = 0; index < records; index++) if (!held.has(index)) segment.acked.add(index);
      segment.ackedItems += items;
      await this.checkpoint();
      if (held.size === 0) await this.#discard(segment);
      return items;
    });
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#alone(() => this.#closeCursor());
    await this.checkpointIfChanged();
  }

  isDamaged(segment: Segment): boolean {
    return this.#damaged.has(segment.sequence);
  }

  isActive(segment: Segment): boolean {
    return segment === this.#writer.segment;
  }

  #bySequence(sequence: number): Segment | undefined {
    return this.segments.find((candidate) => candidate.sequence === sequence);
  }

  /** What is wrong with a segment; empty when nothing is known to be. */
  damageOf(segment: Segment): readonly string[] {
    return this.#damaged.get(segment.sequence) ?? [];
  }

  isBeingRead(segment: Segment): boolean {
    return this.#cursor?.segment === segment;
  }

  async #openNext(): Promise<Cursor | undefined> {
    while (true) {
      const segment = this.#next();
      if (!segment) return undefined;
      if (this.#isUnverified(segment)) await this.#verify(segment, VERIFY_AT_ONCE);
      let file: File;
      try {
        file = await openSegment(this.#o.fs, this.dir, segment);
      } catch (error) {
        this.#readUpTo = segment.sequence;
        await this.#passOver(segment, error);
        continue;
      }
      const { acked, ackedItems } = segment;
      const seen = new Acked(acked.toRanges());
      this.#cursor = { segment, file, at: SEGMENT_HEADER_BYTES, entries: [], seen, seenItems: ackedItems };
      // The one after it is checked while this one is read.
      const after = this.#next(segment.sequence);
      if (after && this.#isUnverified(after)) void this.#verify(after, this.#o.verifyBytesPerSecond);
      return this.#cursor;
    }
  }

  #next(after = this.#readUpTo): Segment | undefined {
    return this.segments.find(
      (candidate) =>
        candidate.sequence > after &&
        (candidate.acked.count < candidate.records || candidate === this.#writer.segment),
    );
  }

  /** A segment that can't be opened: gone, it is lost; else it is left for the next start, and others go on. */
  async #passOver(segment: Segment, error: unknown): Promise<void> {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      this.#damage(segment, unreadable(error));
      return;
    }
    if (!this.segments.includes(segment)) return;
    const records = segment.records - segment.acked.count;
    this.#lost(
      segmentPath(this.dir, segment),
      'the file is missing',
      records,
      segment.items - segment.ackedItems,
    );
    this.#forget(segment);
  }

  /** All of a segment was read: what was promised and did not come is lost. */
  async #finish(cursor: Cursor): Promise<void> {
    const { segment, seen } = cursor;
    const lost: number[] = [];
    for (let index = 0; index < segment.records; index++) if (!seen.has(index)) lost.push(index);
    if (lost.length > 0) {
      const items = Math.max(0, segment.items - cursor.seenItems);
      for (const index of lost) segment.acked.add(index);
      segment.ackedItems += items;
      this.#dirty = true;
      this.#damage(segment, `${lost.length} records with ${items} items are lost`);
      this.#lost(segmentPath(this.dir, segment), 'records are lost', lost.length, items);
    }
    await this.#closeCursor();
    this.#readUpTo = segment.sequence;
  }

  async #closeCursor(): Promise<void> {
    const cursor = this.#cursor;
    this.#cursor = undefined;
    await cursor?.file.close().catch(() => {});
  }

  #isUnverified(segment: Segment): boolean {
    return segment.sha256 !== undefined && !segment.verified && !this.#damaged.has(segment.sequence);
  }

  /** Never throws: what can't be read to be checked is damaged as far as anybody knows. */
  async #verify(segment: Segment, bytesPerSecond: number): Promise<void> {
    const { fs } = this.#o;
    try {
      const found = await fs.sha256(
        segmentPath(this.dir, segment),
        SEGMENT_HEADER_BYTES,
        segment.end,
        bytesPerSecond,
      );
      segment.verified = found.equals(segment.sha256!);
      if (!segment.verified) this.#damage(segment, 'its content is not what its SHA-256 says');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Without a code it is not the file's fault; without a file it was done with meanwhile, or reading will say so.
      if (code !== undefined && code !== 'ENOENT') this.#damage(segment, unreadable(error));
    }
  }

  #damage(segment: Segment, reason: string): void {
    const reasons = this.#damaged.get(segment.sequence);
    if (reasons?.includes(reason)) return;
    if (reasons) reasons.push(reason);
    else {
      if (!this.segments.includes(segment)) return; // it is gone already
      this.#damaged.set(segment.sequence, [reason]);
      this.#lost(segmentPath(this.dir, segment), reason, 0, 0);
    }
  }

  #lost(file: string, reason: string, records: number, items: number): void {
    this.#o.events.corrupted({ area: this.#o.area, file, reason, records, items: Math.max(0, items) });
  }

  #isRead(segment: Segment): boolean {
    return this.#cursor?.segment === segment && this.#cursor.at < segment.end;
  }

  async #sealRecovered(segment: Segment): Promise<void> {
    const { fs, now, verifyBytesPerSecond } = this.#o;
    const path = segmentPath(this.dir, segment);
    try {
      const sha256 = await fs.sha256(path, SEGMENT_HEADER_BYTES, segment.end, verifyBytesPerSecond);
      await this.#alone(async () => {
        if (!this.segments.includes(segment)) return;
        const file = await fs.open(path, 'write');
        try {
          await sealFile(fs, this.dir, file, segment, sha256, now());
          segment.verified = true;
        } finally {
          await file.close();
        }
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EIO') this.#damage(segment, unreadable(error));
      if (code !== 'ENOENT') throw diskFault(error, `could not seal ${path}`);
    }
  }

  async #remove(segment: Segment): Promise<void> {
    await this.#alone(async () => {
      if (!this.segments.includes(segment)) return;
      if (this.#cursor?.segment === segment) {
        await this.#closeCursor();
        this.#readUpTo = segment.sequence;
      }
      // First it is written that all of it is done with: a crash in between replays nothing.
      await this.checkpoint();
      await this.#discard(segment);
    });
  }

  /** Removes the file; one that has what can't be read is kept apart with a report instead. */
  async #discard(segment: Segment): Promise<void> {
    const { fs, area, now, quarantine } = this.#o;
    const reasons = this.#damaged.get(segment.sequence);
    const { sequence, records, items, acked, ackedItems, state } = segment;
    const name = segmentName(sequence, state !== 'sealed');
    try {
      if (reasons) {
        const done = { records: acked.count, items: ackedItems };
        const report = { area, sequence, reasons, records, items, done, at: new Date(now()).toISOString() };
        await quarantine.take(this.dir, name, `${area}-${name}-${now()}`, report);
      } else {
        await fs.unlink(join(this.dir, name));
        await fs.syncDir(this.dir);
      }
    } catch (error) {
      // Someone else took it away: what it held is done with.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    this.#forget(segment);
  }

  #forget(segment: Segment): void {
    const at = this.segments.indexOf(segment);
    if (at >= 0) this.segments.splice(at, 1);
    this.#damaged.delete(segment.sequence);
    this.#dirty = true;
  }

  /** One at a time: reading, and what takes files away. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#exclusive.then(work);
    this.#exclusive = done.catch(() => {});
    return done;
  }
}
