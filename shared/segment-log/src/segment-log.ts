import { dirname, join } from 'node:path';
import { sizeText } from '@nrdot/telemetry';
import { AreaLog } from './area.ts';
import { Ballast } from './ballast.ts';
import type { Entry, LogEvents, Period, Position } from './entry.ts';
import { SegmentLogError } from './errors.ts';
import type { FileSystem } from './file-system.ts';
import { expectKnownFormats } from './format-version.ts';
import { patient } from './patience.ts';
import { Quarantine } from './quarantine.ts';
import { AREAS, type Area, type Record } from './record.ts';
import type { Segment, SegmentState } from './segment.ts';

export interface SegmentLogOptions {
  dir: string;
  /** Of this program, as 1.2.3: each segment says what wrote it. */
  version: string;
  fs: FileSystem;
  /** Size at which a segment is sealed; at most an eighth of the capacity, so that room can be made in parts. */
  segmentBytes: number;
  /** Most bytes on disk, quarantine included. */
  capacityBytes: number;
  /** Most bytes of rejected batches; beyond it the oldest of them go, counted. Default: no limit of their own. */
  rejectedCapacityBytes?: number;
  /** Kept free on the disk. */
  reserveBytes: number;
  /** Size of a file that goes when others have filled the disk, so that what is acknowledged can go. Default: none. */
  ballastBytes?: number;
  whenFull: 'refuse' | 'drop_oldest';
  retentionMs: number;
  rejectedRetentionMs: number;
  /** For the background check of hashes. */
  verifyBytesPerSecond: number;
  events: LogEvents;
  now(): number;
}

export interface AreaStats {
  segments: number;
  /** Not acknowledged yet. */
  records: number;
  items: number;
  /** Of the files. */
  diskBytes: number;
  /** Records before compression, those acknowledged included. */
  rawBytes: number;
  /** About how much of it is not acknowledged yet. */
  waitingBytes: number;
  /** Unix ms; 0 when there is nothing. */
  oldestReceivedAt: number;
}

export interface SegmentInfo {
  area: Area;
  sequence: number;
  state: SegmentState | 'damaged' | 'replaying' | 'unreadable';
  /** As the file is, whoever reads it. */
  file: SegmentState;
  createdAt: number;
  firstReceivedAt: number;
  lastReceivedAt: number;
  records: number;
  ackedRecords: number;
  items: number;
  ackedItems: number;
  rawBytes: number;
  diskBytes: number;
  verified: boolean;
  /** What is wrong with it, in words. */
  damage: readonly string[];
}

/** Lowest first: what goes when room must be made. */
const DROP_ORDER: readonly Area[] = ['normal', 'high', 'critical'];
const FREE_BYTES_AGE_MS = 1_000;
/** Written and removed again, to see whether a disk that failed takes something. */
const PROBE = 'probe';
const PROBE_BYTES = 4_096;
/** Segments that a capacity holds at least. */
const PARTS = 8;

/** Batches on disk, in checksummed segments by class; see FORMAT.md. */
export class SegmentLog {
  /** Ids of the records written last before the log was opened: their writer may come with them again. */
  readonly lastIds = new Set<string>();
  readonly #o: SegmentLogOptions;
  readonly #areas: Readonly<{ [A in Area]: AreaLog }>;
  readonly #quarantine: Quarantine;
  readonly #ballast: Ballast;
  #fault: SegmentLogError | undefined;
  #freeBytes = Number.POSITIVE_INFINITY;
  #freeBytesAt = Number.NEGATIVE_INFINITY;
  #maintaining: Promise<void> | undefined;

  private constructor(options: SegmentLogOptions) {
    this.#o = options;
    const { fs, dir, reserveBytes, ballastBytes: bytes = 0 } = options;
    const ballast = new Ballast({ fs, dir, bytes, reserveBytes, changed: options.events.ballast });
    const quarantine = new Quarantine(fs, dir, ballast);
    this.#ballast = ballast;
    this.#quarantine = quarantine;
    const limitOf = (area: Area) =>
      area === 'rejected' ? (options.rejectedCapacityBytes ?? options.capacityBytes) : options.capacityBytes;
    const of = (area: Area) =>
      new AreaLog({
        fs: options.fs,
        root: options.dir,
        area,
        version: options.version,
        segmentBytes: Math.min(options.segmentBytes, Math.floor(limitOf(area) / PARTS)),
        quarantine,
        ballast,
        retentionMs: area === 'rejected' ? options.rejectedRetentionMs : options.retentionMs,
        verifyBytesPerSecond: options.verifyBytesPerSecond,
        events: {
          ...options.events,
          fault: (error) => {
            this.#fault = error;
            options.events.fault(error);
          },
        },
        reserve: (bytes) => this.#reserve(area, bytes),
        now: options.now,
      });
    this.#areas = {
      critical: of('critical'),
      high: of('high'),
      normal: of('normal'),
      rejected: of('rejected'),
    };
  }

  /** Opens a directory, takes up what a crash left, and reads no more of it than headers and tails. */
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

  /** Why the last append failed; undefined when it did not, or the disk has taken something since. */
  get fault(): SegmentLogError | undefined {
    return this.#fault;
  }

  /**
   * Keeps a record.
   * @returns when it is on the disk
   * @throws SegmentLogError; then it is not in the log
   */
  async append(area: Area, record: Record): Promise<void> {
    await this.#areas[area].append(record);
    this.#fault = undefined;
  }

  /** The next record of an area, oldest first; undefined when there is none now. */
  read(area: Area): Promise<Entry | undefined> {
    return this.#areas[area].read();
  }

  /** Ends the open segment of an area. Its records can be read before and after. */
  seal(area: Area): Promise<void> {
    return this.#areas[area].seal();
  }

  /** Lets an area be read again from its first record that is not acknowledged. */
  rewind(area: Area): Promise<void> {
    return this.#areas[area].rewind();
  }

  /**
   * Every record of an area that can be read, acknowledged or not, oldest first; changes nothing. Segments without a batch
   * received in the period are not read; of the others all records come.
   */
  scan(area: Area, period?: Period): AsyncGenerator<Entry & { acked: boolean }> {
    return this.#areas[area].scan(period);
  }

  /** A record is acknowledged; it is written down with the next checkpoint. */
  ack(position: Position): void {
    this.#areas[position.area].ack(position);
  }

  /**
   * A record that was read is not on its way any more and not acknowledged: it may be dropped, and comes again after a
   * `rewind`. What was read and neither acknowledged nor released is never dropped, as it may be delivered yet.
   */
  release(position: Position): void {
    this.#areas[position.area].release(position);
  }

  /** Everything that is due: sealing, expiry, removal, checkpoints. Call about once a second; calls do not overlap. */
  maintain(): Promise<void> {
    this.#maintaining ??= this.#maintain().finally(() => {
      this.#maintaining = undefined;
    });
    return this.#maintaining;
  }

  async #maintain(): Promise<void> {
    for (const area of AREAS) {
      try {
        await this.#areas[area].maintain();
      } catch (error) {
        const fault = new SegmentLogError(
          'disk_failing',
          `could not tidy up ${area}: ${(error as Error).message}`,
          { cause: error },
        );
        this.#o.events.fault(fault);
      }
    }
    await this.#ballast.restore();
    if (this.#fault) await this.#probe();
  }

  /** Ends a fault that is over. Who asks whether there is one before they append would else never append again. */
  async #probe(): Promise<void> {
    const { fs, dir, reserveBytes, capacityBytes } = this.#o;
    const before = this.#fault;
    const path = join(dir, PROBE);
    try {
      if (this.diskBytes + PROBE_BYTES > capacityBytes) return;
      if ((await fs.freeBytes(dir)) - PROBE_BYTES < reserveBytes) return;
      if ((await fs.list(dir)).includes(PROBE)) await fs.unlink(path);
      const file = await fs.open(path, 'create');
      try {
        await file.write(Buffer.alloc(PROBE_BYTES), 0);
        await file.sync();
      } finally {
        await file.close();
        await fs.unlink(path);
      }
      if (this.#fault === before) this.#fault = undefined;
    } catch {
      // It is not over.
    }
  }

  /** Checks the hash of one segment, in the background. @returns whether there was one to check */
  async verifyOne(): Promise<boolean> {
    for (const area of AREAS) if (await this.#areas[area].verifyOne()) return true;
    return false;
  }

  /** Checks the hash of each sealed segment now, at the limited rate; open ones are given as they are. */
  async *verify(): AsyncGenerator<SegmentInfo> {
    for (const area of AREAS)
      for await (const segment of this.#areas[area].verify()) yield this.#info(area, segment);
  }

  /** Writes down what is acknowledged, where that has changed. When it resolves, no acknowledged record will be read again. */
  async checkpoint(): Promise<void> {
    for (const area of AREAS) await this.#areas[area].checkpointIfChanged();
  }

  /**
   * Gives up everything in an area but what was read and may be delivered yet.
   * @returns items dropped, and items that were not
   */
  async purge(area: Area): Promise<{ items: number; heldItems: number }> {
    const log = this.#areas[area];
    let items = 0;
    for (const segment of [...log.segments]) items += await log.drop(segment, 'purged');
    await log.checkpoint();
    const held = log.segments.flatMap((segment) => [...segment.held.values()]);
    return { items, heldItems: held.reduce((sum, each) => sum + each, 0) };
  }

  stats(area: Area): AreaStats {
    const { segments, bytes } = this.#areas[area];
    const waiting = segments.filter((segment) => segment.acked.count < segment.records);
    return {
      segments: segments.length,
      records: waiting.reduce((sum, segment) => sum + segment.records - segment.acked.count, 0),
      items: waiting.reduce((sum, segment) => sum + Math.max(0, segment.items - segment.ackedItems), 0),
      diskBytes: bytes,
      rawBytes: segments.reduce((sum, segment) => sum + segment.rawBytes, 0),
      waitingBytes: waiting.reduce(
        (sum, { rawBytes, records, acked }) =>
          sum + Math.round((rawBytes * (records - acked.count)) / records),
        0,
      ),
      oldestReceivedAt: waiting.reduce(
        (oldest, { firstReceivedAt }) => (oldest === 0 ? firstReceivedAt : Math.min(oldest, firstReceivedAt)),
        0,
      ),
    };
  }

  get diskBytes(): number {
    return AREAS.reduce((sum, area) => sum + this.#areas[area].bytes, this.#quarantine.bytes);
  }

  /** Bytes of files that can't be read; part of `diskBytes`. */
  get quarantinedBytes(): number {
    return this.#quarantine.bytes;
  }

  /** Of the ballast, beside `diskBytes`; 0 while it is given up. */
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
    const log = this.#areas[area];
    return {
      area,
      sequence: segment.sequence,
      state: stateOf(log, segment),
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
      damage: log.damageOf(segment),
    };
  }

  async close(): Promise<void> {
    await this.#maintaining;
    for (const area of AREAS) await this.#areas[area].close();
    await this.#o.fs.close();
  }

  async #reserve(area: Area, bytes: number): Promise<void> {
    const { rejectedCapacityBytes } = this.#o;
    if (area === 'rejected' && rejectedCapacityBytes !== undefined) {
      // They wait for people, who may never come: to refuse them would hold up what spills behind them.
      while (
        this.#areas.rejected.bytes + bytes > rejectedCapacityBytes &&
        (await this.#dropOldest(['rejected']))
      );
    }
    const { capacityBytes, reserveBytes, whenFull, fs, dir, now } = this.#o;
    if (now() - this.#freeBytesAt >= FREE_BYTES_AGE_MS) {
      this.#freeBytesAt = now();
      this.#freeBytes = await fs.freeBytes(dir);
    }
    while (this.diskBytes + bytes > capacityBytes || this.#freeBytes - bytes < reserveBytes) {
      if (whenFull === 'refuse' || !(await this.#dropOldest(DROP_ORDER))) {
        throw this.diskBytes + bytes > capacityBytes
          ? new SegmentLogError(
              'full',
              `the dlq is at its capacity of ${sizeText(capacityBytes)} (dlq.capacity)`,
            )
          : new SegmentLogError(
              'disk_full',
              `its disk has ${sizeText(this.#freeBytes)} free, and dlq.reserve keeps ${sizeText(reserveBytes)} of them free`,
            );
      }
      this.#freeBytes = await fs.freeBytes(dir);
    }
    this.#freeBytes -= bytes;
  }

  /** Of the first of these areas that has something to drop. The segments being written and replayed stay. */
  async #dropOldest(areas: readonly Area[]): Promise<boolean> {
    for (const area of areas) {
      const log = this.#areas[area];
      const oldest = log.segments.find(
        (segment) => !log.isActive(segment) && segment.held.size === 0 && !segment.isUnread,
      );
      if (!oldest) continue;
      await log.drop(oldest, 'capacity');
      return true;
    }
    return false;
  }
}

function stateOf(log: AreaLog, segment: Segment): SegmentInfo['state'] {
  if (log.isDamaged(segment)) return 'damaged';
  if (log.isUnreadable(segment)) return 'unreadable';
  return log.isBeingRead(segment) ? 'replaying' : segment.state;
}
