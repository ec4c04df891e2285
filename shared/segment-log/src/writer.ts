import { createHash, type Hash } from 'node:crypto';
import { join } from 'node:path';
import { encodeBlock } from './block.ts';
import { diskFault, SegmentLogError } from './errors.ts';
import type { File, FileSystem } from './file-system.ts';
import { type Area, encodeRecord, type Record } from './record.ts';
import { emptySegment, type Segment, segmentName } from './segment.ts';
import { encodeSegmentHeader, SEGMENT_HEADER_BYTES } from './segment-header.ts';

/** Aim of a block: what damage to one byte can cost at most, and enough for zstd to find what repeats. */
const BLOCK_RAW_BYTES = 256 * 1024;
/** One group commit takes no more than this into memory. */
const GROUP_RAW_BYTES = 8 * 1024 * 1024;
const RETRY_AFTER_FAULT_MS = 500;
const RECORD_MAX_BYTES = 192 * 1024 * 1024;

export interface WriterOptions {
  fs: FileSystem;
  dir: string;
  area: Area;
  segmentBytes: number;
  /** Larger appends wait in their callers. */
  nextSequence(): number;
  /** Makes room for so many bytes, or throws SegmentLogError. */
  reserve(bytes: number): Promise<void>;
  opened(segment: Segment): void;
  sealed(segment: Segment): void;
  fault(error: SegmentLogError): void;
  now(): number;
}

interface Waiting {
  record: Record;
  bytes: Buffer;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Appends to the one open segment of an area. Records that arrive while a write is under way share the next one and
 * its fsync (group commit); an append is done when its record is on the disk.
 */
export class SegmentWriter {
  readonly #o: WriterOptions;
  #segment: Segment | undefined;
  #file: File | undefined;
  #hash: Hash = createHash('sha256');
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #faultUntil = 0;
  #fault: SegmentLogError | undefined;
  #closed = false;

  constructor(options: WriterOptions) {
    this.#o = options;
  }

  get segment(): Segment | undefined {
    return this.#segment;
  }

  /** @throws SegmentLogError; then the record is not in the log, and never half of it is */
  append(record: Record): Promise<void> {
    if (this.#closed) return Promise.reject(new SegmentLogError('closed', 'the log is closed'));
    if (record.payload.byteLength > RECORD_MAX_BYTES) {
      return Promise.reject(
        new SegmentLogError(
          'too_large',
          `a payload of ${record.payload.byteLength} bytes; expected at most ${RECORD_MAX_BYTES}`,
        ),
      );
    }
    if (this.#fault && this.#o.now() < this.#faultUntil) return Promise.reject(this.#fault);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, bytes: encodeRecord(record), resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Ends the open segment, so that no more is added to it. */
  async seal(): Promise<void> {
    await this.#running;
    await this.#seal();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
    await this.#file?.close();
    this.#file = undefined;
  }

  /** Forgets an open segment whose file was removed. */
  async abandon(): Promise<void> {
    await this.#file?.close().catch(() => {});
    this.#file = undefined;
    this.#segment = undefined;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        await this.#write(group);
        this.#fault = undefined;
        for (const { resolve } of group) resolve();
      } catch (error) {
        const fault = diskFault(error, `could not write to ${this.#o.dir}`);
        this.#fault = fault;
        this.#faultUntil = this.#o.now() + RETRY_AFTER_FAULT_MS;
        this.#o.fault(fault);
        for (const { reject } of group) reject(fault);
      }
    }
    this.#running = undefined;
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    let n = 0;
    while (n < this.#waiting.length) {
      bytes += this.#waiting[n]!.bytes.byteLength;
      if (n > 0 && bytes > GROUP_RAW_BYTES) break;
      n++;
    }
    return this.#waiting.splice(0, n);
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const segment = this.#segment;
    let firstRecord = segment && segment.end < this.#o.segmentBytes ? segment.records : 0;
    const blocks = await Promise.all(
      blocksOf(group).map((records) => {
        const first = firstRecord;
        firstRecord += records.length;
        const items = records.reduce((sum, { record }) => sum + record.envelope.items, 0);
        return encodeBlock(
          records.map(({ bytes }) => bytes),
          items,
          first,
        );
      }),
    );
    const body = blocks.length === 1 ? blocks[0]! : Buffer.concat(blocks);
    await this.#o.reserve(body.byteLength + SEGMENT_HEADER_BYTES);
    if (segment && segment.end >= this.#o.segmentBytes) await this.#seal();
    const open = this.#segment ?? (await this.#open());
    const file = this.#file!;
    try {
      await file.write(body, open.end);
      await file.sync();
    } catch (error) {
      await this.#leave(open);
      throw error;
    }
    this.#hash.update(body);
    open.end += body.byteLength;
    for (const { record, bytes } of group) {
      const { receivedAt, items } = record.envelope;
      open.records++;
      open.items += items;
      open.rawBytes += bytes.byteLength;
      open.firstReceivedAt =
        open.firstReceivedAt === 0 ? receivedAt : Math.min(open.firstReceivedAt, receivedAt);
      open.lastReceivedAt = Math.max(open.lastReceivedAt, receivedAt);
    }
  }

  async #open(): Promise<Segment> {
    const { fs, dir, area, now } = this.#o;
    const segment = emptySegment(area, this.#o.nextSequence(), now());
    const path = join(dir, segmentName(segment.sequence, true));
    const file = await fs.open(path, 'create');
    try {
      await file.write(encodeSegmentHeader(headerOf(segment, 0, Buffer.alloc(32))), 0);
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
    this.#o.opened(segment);
    return segment;
  }

  /**
   * After a failed write or fsync nobody knows what of it is on the disk, and a second fsync may lie (Rebello et al.,
   * "Can Applications Recover from fsync Failures?", 2020). The file is cut to what is known to be there and left;
   * the next append begins a new one.
   */
  async #leave(segment: Segment): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#segment = undefined;
    await file?.truncate(segment.end).catch(() => {});
    await file?.close().catch(() => {});
    segment.state = 'recovered';
    this.#o.sealed(segment);
  }

  async #seal(): Promise<void> {
    const segment = this.#segment;
    const file = this.#file;
    if (!segment || !file) return;
    this.#segment = undefined;
    this.#file = undefined;
    try {
      await sealFile(this.#o.fs, this.#o.dir, file, segment, this.#hash.digest(), this.#o.now());
      segment.verified = true; // this very process computed its hash from what it wrote
    } catch (error) {
      segment.state = 'recovered';
      this.#o.fault(diskFault(error, `could not seal a segment in ${this.#o.dir}`));
    } finally {
      await file.close().catch(() => {});
      this.#o.sealed(segment);
    }
  }
}

/** Writes the final header, then gives the file its final name. See FORMAT.md for what a crash in between leaves. */
export async function sealFile(
  fs: FileSystem,
  dir: string,
  file: File,
  segment: Segment,
  sha256: Buffer,
  nowMs: number,
): Promise<void> {
  await file.truncate(segment.end);
  await file.write(encodeSegmentHeader(headerOf(segment, nowMs, sha256)), 0);
  await file.sync();
  await fs.rename(
    join(dir, segmentName(segment.sequence, true)),
    join(dir, segmentName(segment.sequence, false)),
  );
  await fs.syncDir(dir);
  segment.state = 'sealed';
  segment.sha256 = sha256;
}

function headerOf(segment: Segment, sealedAt: number, sha256: Buffer) {
  const { area, sequence, createdAt, firstReceivedAt, lastReceivedAt, records, items, rawBytes, end } =
    segment;
  const counts =
    sealedAt === 0
      ? { records: 0, items: 0, rawBytes: 0, bodyBytes: 0 }
      : { records, items, rawBytes, bodyBytes: end - SEGMENT_HEADER_BYTES };
  return { area, sequence, createdAt, sealedAt, firstReceivedAt, lastReceivedAt, sha256, ...counts };
}

function blocksOf(group: readonly Waiting[]): Waiting[][] {
  const blocks: Waiting[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const waiting of group) {
    if (bytes + waiting.bytes.byteLength > BLOCK_RAW_BYTES) {
      blocks.push([]);
      bytes = 0;
    }
    blocks.at(-1)!.push(waiting);
    bytes += waiting.bytes.byteLength;
  }
  return blocks;
}
