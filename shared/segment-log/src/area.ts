import { join } from 'node:path';
import { AreaReader } from './area-reader.ts';
import { recoverArea } from './area-recovery.ts';
import type { Ballast } from './ballast.ts';
import { CheckpointKeeper } from './checkpoint-keeper.ts';
import { ALWAYS, type DropReason, type Entry, type Period, type Position } from './entry.ts';
import { codeOf, diskFault, isDamage } from './errors.ts';
import { type File, withFile } from './file-system.ts';
import { Inventory } from './inventory.ts';
import { oneByOne } from './one-by-one.ts';
import { patient } from './patience.ts';
import type { Quarantine } from './quarantine.ts';
import type { Area, Record } from './record.ts';
import { recoverSegment, unreadable } from './recovery.ts';
import { RunningClock } from './running-clock.ts';
import {
  blocksOf,
  heldItems,
  openSegment,
  rememberedOf,
  type Segment,
  segmentName,
  segmentPath,
} from './segment.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';
import type { SegmentLogOptions } from './segment-log.ts';
import { Verifier } from './verifier.ts';
import { SegmentWriter, sealFile } from './writer.ts';

export interface AreaOptions extends SegmentLogOptions {
  area: Area;
  quarantine: Quarantine;
  ballast: Ballast;
  /** Makes room for so many bytes, or throws SegmentLogError. */
  reserve(bytes: number): Promise<void>;
}

/** Time before an open segment with only acknowledged records is removed: more appends may come. */
const IDLE_MS = 1_000;

/** The segments of one class, or of rejected batches: appended at the end, read from the beginning. */
export class AreaLog {
  readonly verifier: Verifier;
  readonly checkpoints: CheckpointKeeper;
  readonly #o: AreaOptions;
  readonly #inventory: Inventory;
  readonly #writer: SegmentWriter;
  readonly #reader: AreaReader;
  readonly #clock: RunningClock;
  #appendedAt = 0;
  /** Sequence of the segment that was last attempted to be sealed. */
  #sealTried = 0;
  /** Serialises reading and removing files. */
  readonly #alone = oneByOne();

  constructor(options: AreaOptions) {
    this.#o = options;
    const { fs, dir, area, events, verifyBytesPerSecond, now } = options;
    this.#inventory = new Inventory(area, join(dir, area), events);
    this.#clock = new RunningClock(now);
    this.verifier = new Verifier(fs, this.#inventory, verifyBytesPerSecond);
    this.checkpoints = new CheckpointKeeper(options, this.#inventory, this.#clock);
    this.#writer = new SegmentWriter(options, this.#inventory, this.#clock);
    this.#reader = new AreaReader(fs, this.#inventory, this.verifier, this.#writer, now);
  }

  get segments(): readonly Segment[] {
    return this.#inventory.segments;
  }

  get bytes(): number {
    return this.#inventory.bytes;
  }

  async append(record: Record): Promise<void> {
    this.#appendedAt = this.#o.now();
    await this.#writer.append(record);
    // A damaged end of an open segment looks like a torn write: only the checkpoint can tell that it was complete.
    this.#inventory.isChanged = true;
  }

  seal(): Promise<void> {
    return this.#writer.seal();
  }

  /** @returns ids of the last records */
  async recover(): Promise<string[]> {
    const fs = patient(this.#o.fs);
    const inventory = this.#inventory;
    await fs.mkdir(inventory.dir);
    await fs.syncDir(this.#o.dir);
    // Renames before a kill may be in the system's memory only, and are relied upon from here on.
    await fs.syncDir(inventory.dir);
    const { lastIds, writtenOff } = await recoverArea({ ...this.#o, fs }, inventory, this.#clock);
    this.checkpoints.tell(writtenOff);
    return lastIds;
  }

  read(): Promise<Entry | undefined> {
    return this.#alone(() => this.#reader.read());
  }

  rewind(): Promise<void> {
    return this.#alone(() => this.#reader.rewind());
  }

  /** A segment is removed once all its records are acknowledged. */
  ack({ sequence, index, items }: Position): void {
    const segment = this.#inventory.bySequence(sequence);
    segment?.held.delete(index);
    if (!segment?.acked.add(index)) return;
    segment.ackedItems += items;
    this.#inventory.isChanged = true;
  }

  release({ sequence, index }: Position): void {
    this.#inventory.bySequence(sequence)?.held.delete(index);
  }

  /** @throws if a file cannot be read now: callers must not take the result for complete */
  async *scan({ since, until }: Period = ALWAYS, only?: number): AsyncGenerator<Entry & { acked: boolean }> {
    const { area, fs } = this.#o;
    const segments = this.segments.filter(({ sequence }) => only === undefined || sequence === only);
    for (const segment of segments) {
      const { sequence, end } = segment;
      if (segment.isUnread || segment.lastReceivedAt < since || segment.firstReceivedAt > until) continue;
      const file = await openSegment(fs, this.#inventory.dir, segment).catch((error: unknown) => {
        if (codeOf(error) === 'ENOENT' || isDamage(error)) return undefined; // reading says so
        throw error;
      });
      if (!file) continue;
      try {
        for await (const { entries } of blocksOf(file, end))
          for (const { index, record } of entries) {
            if (!record) continue;
            const position = { area, sequence, index, items: record.envelope.items };
            yield { position, record, acked: segment.acked.has(index) };
          }
      } finally {
        await file.close();
      }
    }
  }

  async maintain(): Promise<void> {
    const { now } = this.#o;
    const active = this.#writer.segment;
    if (active && active.records > 0 && now() - this.#appendedAt > IDLE_MS) {
      if (this.#isExpired(active) || active.acked.count >= active.records) await this.#writer.seal();
    }
    for (const segment of this.segments.filter(({ isUnread }) => isUnread)) await this.#takeUp(segment);
    const toSeal: Segment[] = [];
    for (const segment of [...this.segments]) {
      if (segment === this.#writer.segment || segment.state === 'open' || segment.isUnread) continue;
      // Not while its records are in flight: they would be counted twice.
      if (this.#isExpired(segment) && segment.held.size === 0) await this.drop(segment, 'retention');
      else if (segment.acked.count >= segment.records && !this.#reader.isWithin(segment))
        await this.#remove(segment);
      else if (segment.state === 'recovered' && segment.damage.length === 0) toSeal.push(segment);
    }
    await this.checkpoints.writeIfChanged();
    // Hashing takes time, so seal one per turn, after everything else. One that cannot be sealed does not block others.
    const next = toSeal.find(({ sequence }) => sequence > this.#sealTried) ?? toSeal[0];
    if (!next) return;
    this.#sealTried = next.sequence;
    await this.#sealRecovered(next);
  }

  /**
   * Drops a segment except for records in flight: they may yet be delivered, and the segment is removed when they are
   * acknowledged.
   * @returns the number of dropped items
   */
  async drop(segment: Segment, reason: DropReason): Promise<number> {
    // Not under the lock: a write may be waiting for room, and making room for the lock.
    if (segment === this.#writer.segment) await this.#writer.seal();
    // Its file is renamed when it is sealed.
    else if (segment.state === 'open') await this.#writer.untilSealed();
    return this.#alone(async () => {
      // Its content is unknown, so nobody could say what would be dropped.
      if (!this.#inventory.has(segment) || segment.isUnread) return 0;
      await this.#reader.leave(segment);
      const { held, records } = segment;
      const items = Math.max(0, segment.items - segment.ackedItems - heldItems(segment));
      if (items > 0) this.#o.events.dropped(this.#o.area, items, reason);
      for (let index = 0; index < records; index++) if (!held.has(index)) segment.acked.add(index);
      segment.ackedItems += items;
      // One write has both the acknowledgements and the write-off: a crash leaves both or neither.
      this.#inventory.writeOff(reason, items);
      await this.checkpoints.write();
      // Records that were released meanwhile are not in flight any more, and must be read again.
      if (segment.acked.count >= records) await this.#discard(segment);
      return items;
    });
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#alone(() => this.#reader.close());
    await this.checkpoints.writeIfChanged();
  }

  get hasUnread(): boolean {
    return this.segments.some(
      ({ isUnread, isUnreadable, damage, acked, records }) =>
        isUnread || (acked.count < records && (isUnreadable || damage.length > 0)),
    );
  }

  isActive(segment: Segment): boolean {
    return segment === this.#writer.segment;
  }

  isBeingRead(segment: Segment): boolean {
    return this.#reader.isAt(segment);
  }

  #isExpired({ writtenAtMs }: Segment): boolean {
    return writtenAtMs < this.#clock.ms - this.#o.retentionMs;
  }

  /** Reads a segment again that was unreadable when the log was opened, or is not where it should be. */
  async #takeUp(segment: Segment): Promise<void> {
    const { fs, area, now } = this.#o;
    const inventory = this.#inventory;
    await this.#alone(async () => {
      // A segment that is being read or has records in flight is not lost, even without a name.
      if (!inventory.has(segment) || this.#reader.isAt(segment) || segment.held.size > 0) return;
      const name = await this.#nameOnDisk(segment);
      if (name === undefined) return inventory.missing(segment);
      const { records, writtenAtMs, held, damage } = segment;
      const known = records > 0 ? rememberedOf(segment) : undefined;
      const found = await recoverSegment(fs, inventory.dir, area, name, known, now());
      if (found.segment.isUnread) return;
      if (segment.isUnread) this.#reader.revisit(segment);
      Object.assign(segment, found.segment, { held, writtenAtMs, damage });
      for (const reason of found.damage) inventory.damage(segment, reason);
    });
  }

  /** Current name of a segment's file; undefined if there is none. */
  async #nameOnDisk({ sequence }: Segment): Promise<string | undefined> {
    const names = await this.#o.fs.list(this.#inventory.dir);
    return [false, true].map((open) => segmentName(sequence, open)).find((name) => names.includes(name));
  }

  async #sealRecovered(segment: Segment): Promise<void> {
    const { fs, now, verifyBytesPerSecond } = this.#o;
    const inventory = this.#inventory;
    const path = segmentPath(inventory.dir, segment);
    try {
      const sha256 = await fs
        .sha256(path, SEGMENT_HEADER_BYTES, segment.end, verifyBytesPerSecond)
        .catch((error: unknown) => {
          if (isDamage(error)) inventory.damage(segment, unreadable(error));
          throw error;
        });
      await this.#alone(async () => {
        if (!inventory.has(segment)) return;
        const seal = (file: File) => sealFile(fs, inventory.dir, file, segment, sha256, now());
        await withFile(fs, path, 'write', seal);
        segment.verified = true;
      });
    } catch (error) {
      // A rename that failed may have happened all the same.
      if (codeOf(error) === 'ENOENT') await this.#takeUp(segment);
      else throw diskFault(error, `could not seal ${path}`);
    }
  }

  async #remove(segment: Segment): Promise<void> {
    await this.#alone(async () => {
      if (!this.#inventory.has(segment)) return;
      await this.#reader.pass(segment);
      // First write that all of it is acknowledged, so that a crash in between replays nothing.
      await this.checkpoints.write();
      await this.#discard(segment);
    });
  }

  /** Removes the file; one with unreadable parts is moved to quarantine with a report instead. */
  async #discard(segment: Segment): Promise<void> {
    const { fs, area, now, quarantine } = this.#o;
    const { dir } = this.#inventory;
    const { sequence, records, items, acked, ackedItems, state, damage: reasons } = segment;
    const name = segmentName(sequence, state !== 'sealed');
    try {
      if (reasons.length > 0) {
        const done = { records: acked.count, items: ackedItems };
        const report = { area, sequence, reasons, records, items, done, at: new Date(now()).toISOString() };
        await quarantine.take(dir, name, `${area}-${name}-${now()}`, report);
      } else {
        await fs.unlink(join(dir, name));
        await fs.syncDir(dir);
      }
    } catch (error) {
      // Somebody else has removed it: its records are acknowledged.
      if (codeOf(error) !== 'ENOENT') throw error;
    }
    this.#inventory.forget(segment);
  }
}
