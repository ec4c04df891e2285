import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Acked } from './acked.ts';
import { readCheckpoint } from './checkpoint.ts';
import type { File, FileSystem } from './file-system.ts';
import { AREAS, type Area, type Record } from './record.ts';
import { overBadSectors, scanOpen } from './scan.ts';
import { parseSegmentName, readBlock } from './segment.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment-header.ts';

/** A record in a file, or the place of one that is damaged. */
export interface StoredEntry {
  /** Number in its segment. */
  index: number;
  record: Record | undefined;
}

/** A record in a directory. */
export interface DirectoryEntry extends StoredEntry {
  area: Area;
  file: string;
  sequence: number;
  /** The checkpoint says that it is done with. */
  acked: boolean;
}

/** What is to be said of one segment. */
export interface SegmentReport {
  area: Area;
  file: string;
  sequence: number;
  state: 'open' | 'sealed' | 'damaged';
  /** Empty when nothing is wrong. */
  damage: string[];
  /** That can be read, and how many of them are done with. */
  records: number;
  items: number;
  ackedRecords: number;
  /** What its seal promises and can't be read. */
  lostRecords: number;
  lostItems: number;
  fileBytes: number;
}

const HASH_CHUNK_BYTES = 1024 * 1024;

/**
 * Reads one segment file, sealed, open or damaged, as far as it can be read. Changes nothing and needs no running log;
 * one block is in memory at a time.
 */
export async function* readSegment(fs: FileSystem, path: string): AsyncGenerator<StoredEntry> {
  const file = overBadSectors(await fs.open(path, 'read'));
  try {
    const size = await file.size();
    for (let at = SEGMENT_HEADER_BYTES; at < size; ) {
      const block = await readBlock(file, at, size);
      yield* block.entries;
      at = block.end;
    }
  } finally {
    await file.close();
  }
}

/** Reads every record of a directory that no log has open, oldest first within an area. */
export async function* readDirectory(
  fs: FileSystem,
  dir: string,
  areas: readonly Area[] = AREAS,
): AsyncGenerator<DirectoryEntry> {
  for await (const { area, path, sequence, acked } of segmentsOf(fs, dir, areas)) {
    for await (const entry of readSegment(fs, path)) {
      yield { ...entry, area, file: path, sequence, acked: acked.has(entry.index) };
    }
  }
}

/** Reads and checks every byte of a directory that no log has open: hashes, checksums, counts. Changes nothing. */
export async function* verifyDirectory(
  fs: FileSystem,
  dir: string,
  areas: readonly Area[] = AREAS,
): AsyncGenerator<SegmentReport> {
  for await (const { area, path, sequence, open, acked } of segmentsOf(fs, dir, areas)) {
    const report: SegmentReport = {
      area,
      file: path,
      sequence,
      state: open ? 'open' : 'sealed',
      damage: [],
      records: 0,
      items: 0,
      ackedRecords: 0,
      lostRecords: 0,
      lostItems: 0,
      fileBytes: 0,
    };
    try {
      const file = overBadSectors(await fs.open(path, 'read'));
      try {
        await verifySegment(file, report, open, acked);
      } finally {
        await file.close();
      }
    } catch (error) {
      report.damage.push(`it can't be read: ${(error as Error).message}`);
    }
    if (report.damage.length > 0) report.state = 'damaged';
    yield report;
  }
}

async function verifySegment(file: File, report: SegmentReport, open: boolean, acked: Acked): Promise<void> {
  const { damage } = report;
  const size = await file.size();
  report.fileBytes = size;
  const header = await readHeader(file);
  const seal = header?.seal;
  if (!header) damage.push('its header is damaged');
  else if (header.area !== report.area || header.sequence !== report.sequence) {
    damage.push(`its header says that it is segment ${header.sequence} of ${header.area}`);
  } else if (!seal && !open) damage.push('the seal in its header is damaged');
  // A crash may have torn the end of an open segment; that is no damage.
  const end = seal ? size : (await scanOpen(file)).end;
  for (let at = SEGMENT_HEADER_BYTES; at < end; ) {
    const block = await readBlock(file, at, end);
    if (block.damage) damage.push(`bytes ${block.damage.at} to ${block.damage.end} can't be read`);
    for (const { index, record } of block.entries) {
      if (!record) continue;
      report.records++;
      report.items += record.envelope.items;
      if (acked.has(index)) report.ackedRecords++;
    }
    at = block.end;
  }
  if (!seal) return;
  if (size !== SEGMENT_HEADER_BYTES + seal.bodyBytes) damage.push('its length is not what its header says');
  if (!(await sha256(file, size)).equals(seal.sha256)) {
    damage.push('its content is not what its SHA-256 says');
  }
  report.lostRecords = Math.max(0, seal.records - report.records);
  report.lostItems = Math.max(0, seal.items - report.items);
}

async function readHeader(file: File): Promise<SegmentHeader | undefined> {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  await file.read(bytes, 0);
  return decodeSegmentHeader(bytes);
}

async function sha256(file: File, size: number): Promise<Buffer> {
  const hash = createHash('sha256');
  const chunk = Buffer.allocUnsafe(HASH_CHUNK_BYTES);
  for (let at = SEGMENT_HEADER_BYTES; at < size; ) {
    const read = await file.read(chunk, at);
    if (read === 0) break;
    hash.update(chunk.subarray(0, read));
    at += read;
  }
  return hash.digest();
}

async function* segmentsOf(fs: FileSystem, dir: string, areas: readonly Area[]) {
  for (const area of areas) {
    const checkpoint = await readCheckpoint(fs, join(dir, area));
    const ranges = new Map(
      checkpoint && checkpoint !== 'damaged'
        ? checkpoint.segments.map((known) => [known.sequence, known.ranges])
        : [],
    );
    for (const name of (await fs.list(join(dir, area))).sort()) {
      const parsed = parseSegmentName(name);
      if (!parsed) continue;
      const acked = new Acked(ranges.get(parsed.sequence));
      yield { area, path: join(dir, area, name), ...parsed, acked };
    }
  }
}
