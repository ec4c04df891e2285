import { createHash, type Hash } from 'node:crypto';
import { join } from 'node:path';
import type { AreaOptions } from './area.ts';
import { encodeBlockHeader, encodeMark, type PackedBlock, packBlock } from './block.ts';
import { codeOf, diskFault, SegmentLogError } from './errors.ts';
import type { File, FileSystem } from './file-system.ts';
import { concatInTurns, hashInTurns } from './in-turns.ts';
import type { Inventory } from './inventory.ts';
import { oneByOne } from './one-by-one.ts';
import type { Record } from './record.ts';
import type { RunningClock } from './running-clock.ts';
import { emptySegment, type Segment, segmentName } from './segment.ts';
import { encodeIdentity, encodeSeal, SEAL_AT, SEGMENT_HEADER_BYTES } from './segment-header.ts';

/** Target size of a block: bounds the loss by one damaged byte, and is enough for zstd to find repetitions. */
const BLOCK_RAW_BYTES = 256 * 1024;
/** Maximum number of blocks packed ahead of the write, and thus the size of a group: 8 MiB. */
const BLOCKS_AHEAD = 32;
/** Maximum bytes of waiting payloads; beyond it appends fail. A single one is always accepted. */
const WAITING_MAX_BYTES = 64 * 1024 * 1024;
const RETRY_AFTER_FAULT_MS = 500;
const RECORD_MAX_BYTES = 192 * 1024 * 1024;

interface Waiting {
  record: Record;
  resolve(): void;
  reject(error: unknown): void;
}

interface Block {
  waiting: Waiting[];
  packed: Promise<PackedBlock>;
}

/**
 * Appends to the one open segment of an area. Records that arrive during a write share the next write and its fsync (group
 * commit); full blocks are packed meanwhile. An append resolves when its record is on disk.
 */
export class SegmentWriter {
  readonly #o: AreaOptions;
  readonly #inventory: Inventory;
  readonly #clock: RunningClock;
  #segment: Segment | undefined;
  #file: File | undefined;
  #hash: Hash = createHash('sha256');
  /** Records that are in no block yet, oldest first, and the bytes of their payloads; then packed blocks, which are older. */
  #loose: Waiting[] = [];
  #looseBytes = 0;
  #blocks: Block[] = [];
  #waitingBytes = 0;
  #running: Promise<void> | undefined;
  /** Serialises writing and sealing. */
  readonly #alone = oneByOne();
  #faultUntil = Number.NEGATIVE_INFINITY;
  #fault: SegmentLogError | undefined;
  #closed = false;

  constructor(options: AreaOptions, inventory: Inventory, clock: RunningClock) {
    this.#o = options;
    this.#inventory = inventory;
    this.#clock = clock;
  }

  get segment(): Segment | undefined {
    return this.#segment;
  }

  /** @throws SegmentLogError; then no part of the record is in the log */
  append(record: Record): Promise<void> {
    const bytes = record.payload.byteLength;
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new SegmentLogError('closed', 'the log is closed');
      if (bytes > RECORD_MAX_BYTES) {
        const message = `a payload of ${bytes} bytes; expected at most ${RECORD_MAX_BYTES}`;
        throw new SegmentLogError('too_large', message);
      }
      if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > WAITING_MAX_BYTES) {
        const message = `${this.#waitingBytes} bytes wait to be written to ${this.#inventory.dir}`;
        throw new SegmentLogError('busy', message);
      }
      if (this.#fault && this.#o.now() < this.#faultUntil) throw this.#fault;
      this.#loose.push({ record, resolve, reject });
      this.#looseBytes += bytes;
      this.#waitingBytes += bytes;
      if (this.#looseBytes >= BLOCK_RAW_BYTES && this.#blocks.length < BLOCKS_AHEAD) this.#pack();
      this.#running ??= this.#run();
    });
  }

  seal(): Promise<void> {
    return this.#alone(() => this.#seal());
  }

  /** Waits until a segment that is no longer written to has been sealed. */
  untilSealed(): Promise<void> {
    return this.#alone(async () => {});
  }

  /** Writes waiting records, and accepts no more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
    await this.#alone(async () => {
      await this.#file?.close();
      this.#file = undefined;
    });
  }

  async #run(): Promise<void> {
    while (this.#loose.length + this.#blocks.length > 0) {
      await this.#alone(async () => {
        while (this.#loose.length > 0 && this.#blocks.length < BLOCKS_AHEAD) this.#pack();
        await this.#commit(this.#blocks.splice(0, BLOCKS_AHEAD));
      });
    }
    this.#running = undefined;
  }

  /** Packs the oldest loose records into a block. */
  #pack(): void {
    let bytes = 0;
    const end = this.#loose.findIndex(({ record }, i) => {
      bytes += record.payload.byteLength;
      return i > 0 && bytes > BLOCK_RAW_BYTES;
    });
    const waiting = this.#loose.splice(0, end < 0 ? this.#loose.length : end);
    for (const { record } of waiting) this.#looseBytes -= record.payload.byteLength;
    const packed = packBlock(waiting.map(({ record }) => record));
    packed.catch(() => {}); // awaited when its turn comes
    this.#blocks.push({ waiting, packed });
  }

  async #commit(group: readonly Block[]): Promise<void> {
    const waiting = group.flatMap((block) => block.waiting);
    try {
      if (this.#fault && this.#o.now() < this.#faultUntil) throw this.#fault;
      await this.#write(await Promise.all(group.map(({ packed }) => packed)));
      this.#fault = undefined;
      for (const { resolve } of waiting) resolve();
    } catch (error) {
      const fault = diskFault(error, `could not write to ${this.#inventory.dir}`);
      if (fault !== this.#fault) {
        this.#fault = fault;
        this.#faultUntil = this.#o.now() + RETRY_AFTER_FAULT_MS;
        this.#o.events.fault(fault);
      }
      for (const { reject } of waiting) reject(fault);
    } finally {
      for (const { record } of waiting) this.#waitingBytes -= record.payload.byteLength;
    }
  }

  async #write(blocks: readonly PackedBlock[]): Promise<void> {
    const bytes = blocks.reduce((sum, { stored }) => sum + stored.byteLength + 64, SEGMENT_HEADER_BYTES + 64);
    await this.#o.reserve(bytes);
    if (this.#segment && this.#segment.end >= this.#o.segmentBytes) await this.#seal();
    const open = this.#segment ?? (await this.#open());
    const file = this.#file!;
    let { records: firstRecord, items: itemsBefore } = open;
    const body = await concatInTurns([
      encodeMark({ firstRecord, itemsBefore }, blocks),
      ...blocks.flatMap(({ header, stored }) => {
        const first = firstRecord;
        const before = itemsBefore;
        firstRecord += header.records;
        itemsBefore += header.items;
        return [encodeBlockHeader({ ...header, firstRecord: first, itemsBefore: before }), stored];
      }),
    ]);
    try {
      await file.write(body, open.end);
      await file.sync();
      const path = join(this.#inventory.dir, segmentName(open.sequence, true));
      if (!this.#inventory.has(open) || !(await file.isAt(path)))
        throw new SegmentLogError('disk_failing', `${path} was removed or renamed while it was written to`);
    } catch (error) {
      await this.#leave(open);
      throw error;
    }
    await hashInTurns(this.#hash, body);
    open.end += body.byteLength;
    open.writtenAtMs = this.#clock.ms;
    for (const { header } of blocks) {
      open.firstReceivedAt =
        open.records === 0 ? header.firstReceivedAt : Math.min(open.firstReceivedAt, header.firstReceivedAt);
      open.lastReceivedAt = Math.max(open.lastReceivedAt, header.lastReceivedAt);
      open.records += header.records;
      open.items += header.items;
      open.rawBytes += header.rawBytes;
    }
  }

  async #open(): Promise<Segment> {
    const { fs, area, version, now } = this.#o;
    const { dir, segments } = this.#inventory;
    const segment = emptySegment(area, this.#inventory.nextSequence++, now());
    const path = join(dir, segmentName(segment.sequence, true));
    const file = await fs.open(path, 'create').catch(async (error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
      await fs.mkdir(dir); // it was removed
      return fs.open(path, 'create');
    });
    try {
      await file.write(encodeIdentity({ ...segment, hasMarks: true, writtenBy: version }), 0);
      await file.sync();
      await fs.syncDir(dir);
    } catch (error) {
      await file.close().catch(() => {});
      await fs.unlink(path).catch(() => {});
      throw error;
    }
    this.#hash = createHash('sha256');
    this.#file = file;
    this.#segment = segment;
    segments.push(segment);
    return segment;
  }

  /**
   * After a failed write or fsync it is unknown what is on disk, and a second fsync may wrongly succeed (Rebello et al., "Can
   * Applications Recover from fsync Failures?", 2020). The file is truncated to what is known to be durable and abandoned; the
   * next append begins a new one.
   */
  async #leave(segment: Segment): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.truncate(segment.end).catch(() => {});
    await file?.close().catch(() => {});
    segment.state = 'recovered';
    this.#segment = undefined;
    this.#inventory.isChanged = true;
    if (segment.records > 0) return;
    // A disk that stays full would otherwise collect one empty file per attempt.
    await this.#o.fs.unlink(join(this.#inventory.dir, segmentName(segment.sequence, true))).then(
      () => this.#inventory.forget(segment),
      () => {},
    );
  }

  async #seal(): Promise<void> {
    const segment = this.#segment;
    const file = this.#file;
    if (!segment || !file) return;
    this.#segment = undefined;
    this.#file = undefined;
    try {
      await sealFile(this.#o.fs, this.#inventory.dir, file, segment, this.#hash.digest(), this.#o.now());
      segment.verified = true; // this process computed its hash from the data that it wrote
    } catch (error) {
      // If it has its final name, it has its seal: only the durability of the name is uncertain, and either name is valid.
      if (segment.state !== 'sealed') segment.state = 'recovered';
      this.#o.events.fault(diskFault(error, `could not seal a segment in ${this.#inventory.dir}`));
    } finally {
      await file.close().catch(() => {});
      this.#inventory.isChanged = true;
    }
  }
}

/** Writes the seal into the header, then renames the file. See FORMAT.md for what a crash in between leaves. */
export async function sealFile(
  fs: FileSystem,
  dir: string,
  file: File,
  segment: Segment,
  sha256: Buffer,
  nowMs: number,
): Promise<void> {
  await file.truncate(segment.end);
  const { firstReceivedAt, lastReceivedAt, records, items, rawBytes, end } = segment;
  const counts = { records, items, rawBytes, bodyBytes: end - SEGMENT_HEADER_BYTES };
  const seal = encodeSeal({ sealedAt: nowMs, firstReceivedAt, lastReceivedAt, ...counts, sha256 });
  await file.write(seal, SEAL_AT);
  await file.sync();
  await fs.rename(
    join(dir, segmentName(segment.sequence, true)),
    join(dir, segmentName(segment.sequence, false)),
  );
  segment.state = 'sealed';
  segment.sha256 = sha256;
  await fs.syncDir(dir);
}
