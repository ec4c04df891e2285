import { dirname, join } from 'node:path';
import { sizeText } from '@nrdot/telemetry';
import { AreaLog } from './area.ts';
import { Ballast } from './ballast.ts';
import type { Entry, LogEvents, Period, Position } from './entry.ts';
import { SegmentLogError } from './errors.ts';
import { createFile, type FileSystem } from './file-system.ts';
import { expectKnownFormats } from './format-version.ts';
import { patient } from './patience.ts';
import { Quarantine } from './quarantine.ts';
import { AREAS, type Area, type Record } from './record.ts';
import { heldItems, type Segment, type SegmentState } from './segment.ts';

export interface SegmentLogOptions {
  dir: string;
  /** Version of this program, as 1.2.3; written into each segment. */
  version: string;
  fs: FileSystem;
  /** Size at which a segment is sealed; at most an eighth of the capacity, so that room can be made in parts. */
  segmentBytes: number;
  /** Maximum bytes on disk, quarantine included. */
  capacityBytes: number;
  /** Maximum bytes of rejected batches; beyond it the oldest are dropped and counted. Default: no limit of their own. */
  rejectedCapacityBytes?: number;
  /** Kept free on the file system. */
  reserveBytes: number;
  /**
   * Bytes that others on the disk need beyond `reserveBytes`: the log does not grow into them, but drops nothing to provide them.
   */
  othersBytes?(): Promise<number>;
  /**
   * Size of the ballast file, which is released when others have filled the disk, so that acknowledged records can be removed.
   * Default: none.
   */
  ballastBytes?: number;
  /**
   * With `drop_oldest`, records of the same or a lower area, rejected ones first, are dropped if that makes the room. For a
   * rejected one it is always so.
   */
  whenFull: 'refuse' | 'drop_oldest';
  retentionMs: number;
  rejectedRetentionMs: number;
  /** Rate of the background verification. */
  verifyBytesPerSecond: number;
  events: LogEvents;
  now(): number;
}

export interface AreaStats {
  segments: number;
  /** Not yet acknowledged. */
  records: number;
  items: number;
  /** Of the files. */
  diskBytes: number;
  /** Records before compression, acknowledged ones included. */
  rawBytes: number;
  /** Estimated part of it that is not yet acknowledged. */
  waitingBytes: number;
  /** Unix ms; 0 if there are no records. */
  oldestReceivedAt: number;
}

export interface SegmentInfo extends Known {
  state: SegmentState | 'damaged' | 'replaying' | 'unreadable';
  /** State of the file, independent of reading. */
  file: SegmentState;
  ackedRecords: number;
  diskBytes: number;
}

/** What is told of a segment as it is. */
type Known = Pick<
  Segment,
  'area' | 'sequence' | 'createdAt' | 'firstReceivedAt' | 'lastReceivedAt' | 'records'
> &
  Pick<Segment, 'items' | 'ackedItems' | 'rawBytes' | 'verified' | 'damage'>;

/** What is dropped to make room: first what waits for people, who may never come, then the lowest class. */
const DROP_ORDER: readonly Area[] = ['rejected', 'normal', 'high', 'critical'];
const FREE_BYTES_AGE_MS = 1_000;
/** Written and removed again, to test whether a disk that failed accepts writes. */
const PROBE = 'probe';
const PROBE_BYTES = 4_096;
/** Minimum number of segments in a full log. */
const PARTS = 8;

/** Batches on disk, in checksummed segments by class; see FORMAT.md. */
export class SegmentLog {
  /** Ids of the last records before the log was opened: their writer may send them again. */
  readonly lastIds = new Set<string>();
  readonly #o: SegmentLogOptions;
  readonly #areas: Readonly<{ [A in Area]: AreaLog }>;
  readonly #quarantine: Quarantine;
  readonly #ballast: Ballast;
  #fault: SegmentLogError | undefined;
  #freeBytes = Number.POSITIVE_INFINITY;
  /** Bytes of the disk into which the log does not grow. */
  #keptFree = 0;
  #freeBytesAt = Number.NEGATIVE_INFINITY;
  #maintaining: Promise<void> | undefined;

  private constructor(options: SegmentLogOptions) {
    this.#o = options;
    const { fs, dir, events, capacityBytes, retentionMs, rejectedRetentionMs } = options;
    const { rejectedCapacityBytes = capacityBytes } = options;
    const ballast = new Ballast(options);
    const quarantine = new Quarantine(fs, dir, ballast);
    this.#ballast = ballast;
    this.#quarantine = quarantine;
    const fault = (error: SegmentLogError) => {
      this.#fault = error;
      events.fault(error);
    };
    const of = (area: Area) => {
      const [capacity, retention] =
        area === 'rejected' ? [rejectedCapacityBytes, rejectedRetentionMs] : [capacityBytes, retentionMs];
      return new AreaLog({
        ...options,
        ...{ area, quarantine, ballast, retentionMs: retention, events: { ...events, fault } },
        segmentBytes: Math.min(options.segmentBytes, Math.floor(Math.min(capacity, capacityBytes) / PARTS)),
        reserve: (bytes) => this.#reserve(area, bytes),
      });
    };
    this.#areas = Object.fromEntries(AREAS.map((area) => [area, of(area)])) as { [A in Area]: AreaLog };
  }

  /** Opens a directory and recovers from a crash; reads only headers and tails. */
  static async open(options: SegmentLogOptions): Promise<SegmentLog> {
    const log = new SegmentLog(options);
    await options.fs.mkdir(options.dir);
    await patient(options.fs).syncDir(dirname(options.dir));
    await expectKnownFormats(patient(options.fs), options.dir);
    await log.#quarantine.measure();
    await log.#ballast.open();
    for (const area of AREAS) for (const id of await log.#areas[area].recover()) log.lastIds.add(id);
    return log;
  }

  /** Why the last append failed; undefined if it did not, or if the disk has accepted a write since. */
  get fault(): SegmentLogError | undefined {
    return this.#fault;
  }

  /** Resolves when the record is on disk. @throws SegmentLogError; then it is not in the log */
  async append(area: Area, record: Record): Promise<void> {
    await this.#areas[area].append(record);
    this.#fault = undefined;
  }

  /** The next record of an area, oldest first; undefined if there is none now. */
  read(area: Area): Promise<Entry | undefined> {
    return this.#areas[area].read();
  }

  /** Seals the open segment of an area. Its records are readable before and after. */
  seal(area: Area): Promise<void> {
    return this.#areas[area].seal();
  }

  /** Goes back to an area's first record that is not acknowledged. */
  rewind(area: Area): Promise<void> {
    return this.#areas[area].rewind();
  }

  /**
   * Every readable record of an area, acknowledged or not, oldest first; changes nothing. Segments without a batch received in
   * the period are skipped; of the others all records are returned.
   * @param only sequence of the only segment to read
   */
  scan(area: Area, period?: Period, only?: number): AsyncGenerator<Entry & { acked: boolean }> {
    return this.#areas[area].scan(period, only);
  }

  /** Whether an area may have records that could not be read so far and can be later: `read` and `scan` leave them out. */
  hasUnread(area: Area): boolean {
    return this.#areas[area].hasUnread;
  }

  /** Acknowledges a record. Durable with the next checkpoint. */
  ack(position: Position): void {
    this.#areas[position.area].ack(position);
  }

  /**
   * Releases a record that was read and not acknowledged: it may be dropped, and is read again after a `rewind`. A record that
   * was read is never dropped before it is acknowledged or released, as it may yet be delivered.
   */
  release(position: Position): void {
    this.#areas[position.area].release(position);
  }

  /** Does everything that is due: sealing, expiry, removal, checkpoints. Call about once a second; calls do not overlap. */
  maintain(): Promise<void> {
    this.#maintaining ??= this.#maintain().finally(() => {
      this.#maintaining = undefined;
    });
    return this.#maintaining;
  }

  async #maintain(): Promise<void> {
    for (const area of AREAS) {
      await this.#areas[area].maintain().catch((error: Error) => {
        const message = `could not tidy up ${area}: ${error.message}`;
        this.#o.events.fault(new SegmentLogError('disk_failing', message, { cause: error }));
      });
    }
    await this.#ballast.restore();
    if (this.#fault) await this.#probe();
  }

  /** Clears an error that is over. Callers who check for one before they append would otherwise never append again. */
  async #probe(): Promise<void> {
    const { fs, dir, capacityBytes } = this.#o;
    const before = this.#fault;
    const path = join(dir, PROBE);
    try {
      if (this.diskBytes + PROBE_BYTES > capacityBytes) return;
      await this.#measureFree();
      if (this.#freeBytes - PROBE_BYTES < this.#keptFree) return;
      if ((await fs.list(dir)).includes(PROBE)) await fs.unlink(path);
      await createFile(fs, path, Buffer.alloc(PROBE_BYTES)).finally(() => fs.unlink(path));
      if (this.#fault === before) this.#fault = undefined;
    } catch {
      // Not over yet.
    }
  }

  /** Verifies the hash of one segment, in the background. @returns whether there was one to verify */
  async verifyOne(): Promise<boolean> {
    for (const area of AREAS) if (await this.#areas[area].verifier.verifyOne()) return true;
    return false;
  }

  /** Verifies the hash of each sealed segment now, at the limited rate; open ones are returned unverified. */
  async *verify(): AsyncGenerator<SegmentInfo> {
    for (const area of AREAS)
      for await (const segment of this.#areas[area].verifier.verifyAll()) yield this.#info(area, segment);
  }

  /** Writes checkpoints where acknowledgements have changed. Once it resolves, no acknowledged record will be read again. */
  async checkpoint(): Promise<void> {
    for (const area of AREAS) await this.#areas[area].checkpoints.writeIfChanged();
  }

  /** Drops everything in an area except records in flight. @returns dropped items, and items in flight */
  async purge(area: Area): Promise<{ items: number; heldItems: number }> {
    const log = this.#areas[area];
    let items = 0;
    for (const segment of [...log.segments]) items += await log.drop(segment, 'purged');
    await log.checkpoints.write();
    return { items, heldItems: log.segments.reduce((sum, segment) => sum + heldItems(segment), 0) };
  }

  stats(area: Area): AreaStats {
    const { segments, bytes } = this.#areas[area];
    const stats: AreaStats = {
      ...{ segments: segments.length, records: 0, items: 0, diskBytes: bytes },
      ...{ rawBytes: 0, waitingBytes: 0, oldestReceivedAt: 0 },
    };
    for (const { records, acked, items, ackedItems, rawBytes, firstReceivedAt } of segments) {
      stats.rawBytes += rawBytes;
      const left = records - acked.count;
      if (left <= 0) continue;
      stats.records += left;
      stats.items += Math.max(0, items - ackedItems);
      stats.waitingBytes += Math.round((rawBytes * left) / records);
      stats.oldestReceivedAt = Math.min(stats.oldestReceivedAt || firstReceivedAt, firstReceivedAt);
    }
    return stats;
  }

  get diskBytes(): number {
    return AREAS.reduce((sum, area) => sum + this.#areas[area].bytes, this.#quarantine.bytes);
  }

  /** Bytes of unreadable files; part of `diskBytes`. */
  get quarantinedBytes(): number {
    return this.#quarantine.bytes;
  }

  /** Size of the ballast, not part of `diskBytes`; 0 while it is released. */
  get ballastBytes(): number {
    return this.#ballast.bytes;
  }

  /** 0 to 1. */
  get utilization(): number {
    return this.diskBytes / this.#o.capacityBytes;
  }

  segments(): SegmentInfo[] {
    return AREAS.flatMap((area) => this.#areas[area].segments.map((segment) => this.#info(area, segment)));
  }

  #info(area: Area, segment: Segment): SegmentInfo {
    return {
      area,
      sequence: segment.sequence,
      state: this.#stateOf(area, segment),
      file: segment.state,
      createdAt: segment.createdAt,
      firstReceivedAt: segment.firstReceivedAt,
      lastReceivedAt: segment.lastReceivedAt,
      records: segment.records,
      ackedRecords: segment.acked.count,
      items: segment.items,
      ackedItems: segment.ackedItems,
      rawBytes: segment.rawBytes,
      diskBytes: segment.end,
      verified: segment.verified,
      damage: segment.damage,
    };
  }

  #stateOf(area: Area, segment: Segment): SegmentInfo['state'] {
    if (segment.damage.length > 0) return 'damaged';
    if (segment.isUnreadable) return 'unreadable';
    return this.#areas[area].isBeingRead(segment) ? 'replaying' : segment.state;
  }

  async close(): Promise<void> {
    await this.#maintaining;
    for (const area of AREAS) await this.#areas[area].close();
    await this.#o.fs.close();
  }

  async #reserve(area: Area, bytes: number): Promise<void> {
    const { rejectedCapacityBytes } = this.#o;
    if (area === 'rejected' && rejectedCapacityBytes !== undefined) {
      const { rejected } = this.#areas;
      for (const segment of this.#droppable(['rejected'])) {
        if (rejected.bytes + bytes <= rejectedCapacityBytes) break;
        if (this.#mayDrop(segment)) await rejected.drop(segment, 'capacity');
      }
    }
    const { capacityBytes, reserveBytes, whenFull, now } = this.#o;
    const leastFree = () => Math.max(reserveBytes, Math.min(this.#keptFree, this.#freeBytes));
    let least = leastFree();
    const missing = () => Math.max(this.diskBytes + bytes - capacityBytes, least + bytes - this.#freeBytes);
    if (missing() > 0 || now() - this.#freeBytesAt >= FREE_BYTES_AGE_MS) {
      await this.#measureFree();
      least = leastFree();
    }
    // Rejected batches wait for people, who may never come: drop the oldest rather than let new ones fill Redis.
    if (whenFull === 'drop_oldest' || area === 'rejected') {
      for (const segment of this.#makingRoom(area, missing())) {
        // Its records may have been read while another was dropped.
        if (this.#mayDrop(segment)) await this.#areas[segment.area].drop(segment, 'capacity');
        await this.#measureFree();
      }
    }
    if (this.diskBytes + bytes > capacityBytes) {
      const message = `the dlq is at its capacity of ${sizeText(capacityBytes)} (dlq.capacity)`;
      throw new SegmentLogError('full', message);
    }
    if (missing() > 0) {
      const message = `its disk has ${sizeText(this.#freeBytes)} free, and dlq.reserve keeps ${sizeText(this.#keptFree)} of them free`;
      throw new SegmentLogError('disk_full', message);
    }
    this.#freeBytes -= bytes;
  }

  async #measureFree(): Promise<void> {
    const { fs, dir, now, reserveBytes } = this.#o;
    const at = now();
    this.#keptFree = reserveBytes + ((await this.#o.othersBytes?.()) ?? 0);
    this.#freeBytes = await fs.freeBytes(dir);
    this.#freeBytesAt = at;
  }

  /**
   * The segments to drop so that so many bytes become free for a batch of an area, none of a class above its own. Empty if all
   * of them have fewer bytes: when others have filled the disk, everything would be dropped in vain.
   */
  #makingRoom(area: Area, bytes: number): Segment[] {
    const areas = DROP_ORDER.slice(0, DROP_ORDER.indexOf(area) + 1);
    // A damaged one is moved to quarantine, which frees nothing.
    const candidates = this.#droppable(areas).filter(({ damage }) => damage.length === 0);
    let found = 0;
    const last = candidates.findIndex(({ end }) => {
      found += end;
      return found >= bytes;
    });
    return bytes > 0 ? candidates.slice(0, last + 1) : [];
  }

  /** Segments that may be dropped, those of the first area first, oldest first. */
  #droppable(areas: readonly Area[]): Segment[] {
    return areas.flatMap((area) => this.#areas[area].segments.filter((segment) => this.#mayDrop(segment)));
  }

  /** Not while it is written, replayed or unreadable: its file would stay. */
  #mayDrop(segment: Segment): boolean {
    return !this.#areas[segment.area].isActive(segment) && segment.held.size === 0 && !segment.isUnread;
  }
}
