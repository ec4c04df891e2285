import { join } from 'node:path';
import { Acked } from './acked.ts';
import type { BlockEntry } from './block.ts';
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import type { SegmentLogError } from './errors.ts';
import type { File, FileSystem } from './file-system.ts';
import type { Area, Record } from './record.ts';
import { scanOpen } from './scan.ts';
import {
  emptySegment,
  openSegment,
  parseSegmentName,
  readBlocks,
  type Segment,
  segmentName,
  segmentPath,
} from './segment.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_BYTES } from './segment-header.ts';
import { SegmentWriter, sealFile } from './writer.ts';

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

/** What the log tells its owner. */
export interface LogEvents {
  /** Something on disk could not be read; what it held is lost as far as `items` says, and its file is kept. */
  corrupted(what: { area: Area; file: string; reason: string; records: number; items: number }): void;
  /** Items that were given up, and why. */
  dropped(area: Area, items: number, reason: 'retention' | 'capacity' | 'purged'): void;
  fault(error: SegmentLogError): void;
}

export interface AreaOptions {
  fs: FileSystem;
  root: string;
  area: Area;
  segmentBytes: number;
  retentionMs: number;
  verifyBytesPerSecond: number;
  events: LogEvents;
  reserve(bytes: number): Promise<void>;
  now(): number;
}

export const QUARANTINE = 'quarantine';
/** A segment whose records are all done with is given this long before it goes: appends may still come. */
const IDLE_MS = 1_000;
const VERIFY_AT_ONCE = 1024 * 1024 * 1024;

/** Where reading is. */
interface Cursor {
  segment: Segment;
  file: File;
  at: number;
  entries: BlockEntry[];
  /** Records given out or known to be done with, and their items. */
  seen: Acked;
  seenItems: number;
}

/** The segments of one class, or those of rejected batches: written at the end, read from the beginning. */
export class AreaLog {
  readonly dir: string;
  readonly segments: Segment[] = [];
  readonly #o: AreaOptions;
  readonly #writer: SegmentWriter;
  readonly #damaged = new Map<number, string[]>();
  #nextSequence = 1;
  #cursor: Cursor | undefined;
  /** All before it has been read. */
  #readUpTo = 0;
  #dirty = false;
  #appendedAt = 0;
  #exclusive: Promise<unknown> = Promise.resolve();

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
      fault: (error) => options.events.fault(error),
      now: options.now,
    });
  }

  /** Bytes of its files. */
  get bytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.end, 0);
  }

  append(record: Record): Promise<void> {
    this.#appendedAt = this.#o.now();
    return this.#writer.append(record);
  }

  /** Reads what is on the disk: headers of sealed segments, block headers of open ones. @returns ids of the last records */
  async recover(): Promise<string[]> {
    const { fs, area, events } = this.#o;
    await fs.mkdir(this.dir);
    const checkpoint = await readCheckpoint(fs, this.dir);
    if (checkpoint === 'damaged') {
      events.corrupted({
        area,
        file: join(this.dir, 'checkpoint'),
        reason: 'the checkpoint is damaged; records may be replayed twice',
        records: 0,
        items: 0,
      });
    }
    const known = checkpoint === 'damaged' ? undefined : checkpoint;
    const remembered = new Map(known?.segments.map((entry) => [entry.sequence, entry]));
    this.#nextSequence = known?.nextSequence ?? 1;
    const names = (await fs.list(this.dir)).flatMap((name) => {
      const parsed = parseSegmentName(name);
      return parsed ? [{ name, ...parsed }] : [];
    });
    names.sort((a, b) => a.sequence - b.sequence);
    const last: string[] = [];
    for (const { name, sequence } of names) {
      this.#nextSequence = Math.max(this.#nextSequence, sequence + 1);
      const file = await fs.open(join(this.dir, name), 'read');
      try {
        const segment = await this.#recoverSegment(file, name, sequence);
        const entry = remembered.get(sequence);
        remembered.delete(sequence);
        if (entry && !this.#damaged.has(sequence)) {
          segment.acked = new Acked(entry.ranges);
          segment.ackedItems = entry.ackedItems;
        }
        this.segments.push(segment);
        if (segment.state === 'recovered') last.push(...(await lastIds(file, segment)));
      } finally {
        await file.close();
      }
    }
    for (const { sequence, records, items, ranges, ackedItems } of remembered.values()) {
      const missing = records - new Acked(ranges).count;
      if (missing <= 0) continue; // it was done with, and the crash came before that was forgotten
      events.corrupted({
        area,
        file: join(this.dir, segmentName(sequence, false)),
        reason: 'the file is missing',
        records: missing,
        items: Math.max(0, items - ackedItems),
      });
      this.#dirty = true;
    }
    return last;
  }

  async #recoverSegment(file: File, name: string, sequence: number): Promise<Segment> {
    const { area, fs } = this.#o;
    const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
    const size = await file.size();
    await file.read(bytes, 0);
    const header = decodeSegmentHeader(bytes);
    const segment = emptySegment(area, sequence, header?.createdAt ?? this.#o.now());
    const open = parseSegmentName(name)?.open ?? false;
    const ours = header !== undefined && header.area === area && header.sequence === sequence;
    if (header && ours && header.sealedAt > 0 && size === SEGMENT_HEADER_BYTES + header.bodyBytes) {
      const { firstReceivedAt, lastReceivedAt, records, items, rawBytes, sha256 } = header;
      Object.assign(segment, {
        state: 'sealed',
        firstReceivedAt,
        lastReceivedAt,
        records,
        items,
        rawBytes,
        sha256,
        end: size,
      });
      if (open) {
        // It was sealed, and the crash came before it had its final name.
        await fs.rename(join(this.dir, name), join(this.dir, segmentName(sequence, false)));
        await fs.syncDir(this.dir);
      }
      return segment;
    }
    const scanned = await scanOpen(file);
    const { records, items, rawBytes, end } = scanned;
    const receivedAt = header?.createdAt ?? this.#o.now();
    Object.assign(segment, {
      state: open ? 'recovered' : 'sealed',
      records,
      items,
      rawBytes,
      end: Math.max(end, open ? 0 : size),
      firstReceivedAt: receivedAt,
      lastReceivedAt: receivedAt,
    });
    if (!open || !ours || scanned.gaps > 0) {
      const reason = !header
        ? 'its header is damaged'
        : !ours
          ? `its header says that it is segment ${header.sequence} of ${header.area}`
          : scanned.gaps > 0
            ? `${scanned.gaps} places in it can't be read`
            : 'its length is not what its header says';
      this.#damage(segment, reason);
      if (header && header.sealedAt > 0) {
        segment.records = Math.max(segment.records, header.records);
        segment.items = Math.max(segment.items, header.items);
        segment.firstReceivedAt = header.firstReceivedAt;
        segment.lastReceivedAt = header.lastReceivedAt;
      }
    }
    return segment;
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
        return {
          position: { area: segment.area, sequence: segment.sequence, index: entry.index, items },
          record: entry.record,
        };
      }
      if (cursor.at < segment.end) {
        const blocks = readBlocks(
          cursor.file,
          () => segment.end,
          (damage) => this.#damage(segment, `bytes ${damage.at} to ${damage.end} can't be read`),
          cursor.at,
        );
        const { value } = await blocks.next();
        cursor.at = value ? value.end : segment.end;
        cursor.entries = value ? value.entries : [];
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
    const segment = this.segments.find((candidate) => candidate.sequence === sequence);
    if (!segment?.acked.add(index)) return;
    segment.ackedItems += items;
    this.#dirty = true;
  }

  /** Every record that can be read, done with or not, oldest first; changes nothing. */
  async *scan(): AsyncGenerator<Entry & { acked: boolean }> {
    for (const segment of [...this.segments]) {
      if (!this.segments.includes(segment)) continue;
      const file = await openSegment(this.#o.fs, this.dir, segment);
      const { end } = segment;
      try {
        for await (const { entries } of readBlocks(
          file,
          () => end,
          () => {},
        )) {
          for (const { index, record } of entries) {
            if (!record) continue;
            const { items } = record.envelope;
            const position = { area: segment.area, sequence: segment.sequence, index, items };
            yield { position, record, acked: segment.acked.has(index) };
          }
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
    for (const segment of [...this.segments]) {
      if (segment === this.#writer.segment) continue;
      if (segment.lastReceivedAt < now() - retentionMs) await this.drop(segment, 'retention');
      else if (segment.acked.count >= segment.records && !this.#isRead(segment)) await this.#remove(segment);
      else if (segment.state === 'recovered' && !this.#damaged.has(segment.sequence))
        await this.#sealRecovered(segment);
    }
    await this.checkpointIfChanged();
  }

  /** Checks the hash of one sealed segment that was not checked yet. @returns whether there was one */
  async verifyOne(): Promise<boolean> {
    const segment = this.segments.find(
      (candidate) => candidate.sha256 && !candidate.verified && !this.#damaged.has(candidate.sequence),
    );
    if (!segment) return false;
    await this.#verify(segment, this.#o.verifyBytesPerSecond);
    return true;
  }

  async checkpointIfChanged(): Promise<void> {
    if (this.#dirty) await this.checkpoint();
  }

  async checkpoint(): Promise<void> {
    this.#dirty = false;
    try {
      await writeCheckpoint(this.#o.fs, this.dir, {
        nextSequence: this.#nextSequence,
        segments: this.segments
          .filter((segment) => segment.records > 0)
          .map(({ sequence, records, items, acked, ackedItems }) => ({
            sequence,
            records,
            items,
            ranges: acked.toRanges(),
            ackedItems,
          })),
      });
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
  }

  /** Gives a segment up. */
  async drop(segment: Segment, reason: 'retention' | 'capacity' | 'purged'): Promise<void> {
    await this.#alone(async () => {
      if (!this.segments.includes(segment)) return;
      if (this.#cursor?.segment === segment) await this.#closeCursor();
      if (segment === this.#writer.segment) await this.#writer.seal();
      this.#o.events.dropped(segment.area, Math.max(0, segment.items - segment.ackedItems), reason);
      segment.acked = new Acked(segment.records > 0 ? [0, segment.records] : []);
      segment.ackedItems = segment.items;
      await this.checkpoint();
      await this.#discard(segment);
    });
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#alone(() => this.#closeCursor());
    if (this.#dirty) await this.checkpoint();
  }

  isDamaged(segment: Segment): boolean {
    return this.#damaged.has(segment.sequence);
  }

  isActive(segment: Segment): boolean {
    return segment === this.#writer.segment;
  }

  isBeingRead(segment: Segment): boolean {
    return this.#cursor?.segment === segment;
  }

  async #openNext(): Promise<Cursor | undefined> {
    const segment = this.segments.find(
      (candidate) =>
        candidate.sequence > this.#readUpTo &&
        (candidate.acked.count < candidate.records || candidate === this.#writer.segment),
    );
    if (!segment) return undefined;
    if (segment.sha256 && !segment.verified && !this.#damaged.has(segment.sequence)) {
      await this.#verify(segment, VERIFY_AT_ONCE);
    }
    this.#cursor = {
      segment,
      file: await openSegment(this.#o.fs, this.dir, segment),
      at: SEGMENT_HEADER_BYTES,
      entries: [],
      seen: new Acked(segment.acked.toRanges()),
      seenItems: segment.ackedItems,
    };
    return this.#cursor;
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
      const { area } = segment;
      this.#o.events.corrupted({
        area,
        file: segmentPath(this.dir, segment),
        reason: 'records are lost',
        records: lost.length,
        items,
      });
    }
    await this.#closeCursor();
    this.#readUpTo = segment.sequence;
  }

  async #closeCursor(): Promise<void> {
    await this.#cursor?.file.close();
    this.#cursor = undefined;
  }

  async #verify(segment: Segment, bytesPerSecond: number): Promise<void> {
    const path = segmentPath(this.dir, segment);
    const found = await this.#o.fs.sha256(path, SEGMENT_HEADER_BYTES, segment.end, bytesPerSecond);
    if (found.equals(segment.sha256!)) segment.verified = true;
    else this.#damage(segment, 'its content is not what its SHA-256 says');
  }

  #damage(segment: Segment, reason: string): void {
    const reasons = this.#damaged.get(segment.sequence);
    if (reasons) {
      if (!reasons.includes(reason)) reasons.push(reason);
      return;
    }
    this.#damaged.set(segment.sequence, [reason]);
    this.#o.events.corrupted({
      area: segment.area,
      file: segmentPath(this.dir, segment),
      reason,
      records: 0,
      items: 0,
    });
  }

  #isRead(segment: Segment): boolean {
    return this.#cursor?.segment === segment && this.#cursor.at < segment.end;
  }

  async #sealRecovered(segment: Segment): Promise<void> {
    const { fs, now, verifyBytesPerSecond } = this.#o;
    const path = segmentPath(this.dir, segment);
    const sha256 = await fs.sha256(path, SEGMENT_HEADER_BYTES, segment.end, verifyBytesPerSecond);
    const file = await fs.open(path, 'write');
    try {
      await sealFile(fs, this.dir, file, segment, sha256, now());
      segment.verified = true;
    } finally {
      await file.close();
    }
  }

  async #remove(segment: Segment): Promise<void> {
    await this.#alone(async () => {
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
    const { fs, root, area, now } = this.#o;
    const path = segmentPath(this.dir, segment);
    const reasons = this.#damaged.get(segment.sequence);
    if (reasons) {
      const quarantine = join(root, QUARANTINE);
      const name = `${area}-${segmentName(segment.sequence, false)}-${now()}`;
      await fs.mkdir(quarantine);
      const { sequence, records, items, acked, ackedItems } = segment;
      const report = {
        area,
        sequence,
        reasons,
        records,
        items,
        done: { records: acked.count, items: ackedItems },
        at: new Date(now()).toISOString(),
      };
      const file = await fs.open(join(quarantine, `${name}.json`), 'create');
      await file.write(Buffer.from(`${JSON.stringify(report, null, 2)}\n`), 0);
      await file.sync();
      await file.close();
      await fs.rename(path, join(quarantine, name));
      await fs.syncDir(quarantine);
    } else {
      await fs.unlink(path);
    }
    await fs.syncDir(this.dir);
    this.segments.splice(this.segments.indexOf(segment), 1);
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

/** Ids in the last block of a segment that a crash left open: what its writer may be asked to write again. */
async function lastIds(file: File, segment: Segment): Promise<string[]> {
  let ids: string[] = [];
  for await (const { entries } of readBlocks(
    file,
    () => segment.end,
    () => {},
    Math.max(SEGMENT_HEADER_BYTES, segment.end - TAIL_BYTES),
  )) {
    ids = [...ids, ...entries.flatMap(({ record }) => (record ? [record.envelope.id] : []))];
  }
  return ids;
}

const TAIL_BYTES = 8 * 1024 * 1024;
