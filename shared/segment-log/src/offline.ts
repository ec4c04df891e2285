import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Acked } from './acked.ts';
import type { BlockEntry } from './block.ts';
import { CHECKPOINT, type RememberedSegment, readCheckpoint } from './checkpoint.ts';
import { type File, type FileSystem, overBadSectors, withFile } from './file-system.ts';
import { readHeader } from './format-version.ts';
import { AREAS, type Area } from './record.ts';
import { scanOpen } from './scan.ts';
import { blocksOf, parseSegmentName, segmentName } from './segment.ts';
import { SEGMENT_HEADER_BYTES, wrongHeader } from './segment-header.ts';

/** A record in a directory, or the position of a damaged one. */
export interface DirectoryEntry extends BlockEntry, Pick<SegmentReport, 'area' | 'file' | 'sequence'> {
  /** Acknowledged by the checkpoint. */
  acked: boolean;
}

/** Report on one segment. */
export interface SegmentReport {
  area: Area;
  file: string;
  sequence: number;
  state: 'open' | 'sealed' | 'damaged';
  /** Empty if there is none. */
  damage: string[];
  /** Readable records, and how many of them are acknowledged. */
  records: number;
  items: number;
  ackedRecords: number;
  /** Records by the seal or the checkpoint that cannot be read. */
  lostRecords: number;
  lostItems: number;
  fileBytes: number;
}

const HASH_CHUNK_BYTES = 1024 * 1024;

/**
 * Reads one segment file, sealed, open or damaged, as far as possible. Changes nothing and needs no running log; keeps one
 * block in memory.
 */
export async function* readSegment(fs: FileSystem, path: string): AsyncGenerator<BlockEntry> {
  const file = overBadSectors(await fs.open(path, 'read'));
  try {
    await readHeader(file, path);
    for await (const { entries } of blocksOf(file, await file.size())) yield* entries;
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
  for (const area of areas) {
    for (const { path, sequence, acked } of (await segmentsOf(fs, dir, area)).segments) {
      for await (const entry of readSegment(fs, path)) {
        yield { ...entry, area, file: path, sequence, acked: acked.has(entry.index) };
      }
    }
  }
}

/** Reads and checks every byte of a directory that no log has open: hashes, checksums, counts. Changes nothing. */
export async function* verifyDirectory(
  fs: FileSystem,
  dir: string,
  areas: readonly Area[] = AREAS,
): AsyncGenerator<SegmentReport> {
  for (const area of areas) {
    const { segments, missing, checkpointDamaged } = await segmentsOf(fs, dir, area);
    if (checkpointDamaged) {
      const file = join(dir, area, CHECKPOINT);
      yield { ...emptyReport(area, file, 0), state: 'damaged', damage: ['the checkpoint is damaged'] };
    }
    for (const { path, sequence, open, acked, known } of segments) {
      const report: SegmentReport = { ...emptyReport(area, path, sequence), state: open ? 'open' : 'sealed' };
      try {
        await withFile(fs, path, 'read', (file) =>
          verifySegment(overBadSectors(file), report, open, acked, known),
        );
      } catch (error) {
        report.damage.push(`it can't be read: ${(error as Error).message}`);
      }
      if (report.damage.length > 0) report.state = 'damaged';
      yield report;
    }
    for (const { sequence, records, items, ranges, ackedItems } of missing) {
      yield {
        ...emptyReport(area, join(dir, area, segmentName(sequence, false)), sequence),
        state: 'damaged',
        damage: ['the file is missing'],
        lostRecords: records - new Acked(ranges).count,
        lostItems: Math.max(0, items - ackedItems),
      };
    }
  }
}

function emptyReport(area: Area, file: string, sequence: number): Omit<SegmentReport, 'state'> {
  const counts = { records: 0, items: 0, ackedRecords: 0, lostRecords: 0, lostItems: 0, fileBytes: 0 };
  return { area, file, sequence, damage: [], ...counts };
}

async function verifySegment(
  file: File,
  report: SegmentReport,
  open: boolean,
  acked: Acked,
  known: RememberedSegment | undefined,
): Promise<void> {
  const { damage } = report;
  const size = await file.size();
  report.fileBytes = size;
  const header = await readHeader(file, report.file);
  const seal = header?.seal;
  const wrong = wrongHeader(header, report, open);
  if (wrong) damage.push(wrong);
  // A crash may have torn the end of an open segment, which is no damage.
  const end = seal ? size : (await scanOpen(file, header?.hasMarks ?? false)).end;
  for await (const block of blocksOf(file, end)) {
    if (block.damage) damage.push(block.damage);
    for (const { index, record } of block.entries) {
      if (!record) continue;
      report.records++;
      report.items += record.envelope.items;
      if (acked.has(index)) report.ackedRecords++;
    }
  }
  if (seal && size !== SEGMENT_HEADER_BYTES + seal.bodyBytes)
    damage.push('its length is not what its header says');
  if (seal && !(await sha256(file, size)).equals(seal.sha256))
    damage.push('its content is not what its SHA-256 says');
  const promised = seal ?? known ?? report;
  report.lostRecords = Math.max(0, promised.records - report.records);
  report.lostItems = Math.max(0, promised.items - report.items);
  if (!seal && report.lostRecords > 0) damage.push(`it had ${promised.records} records by the checkpoint`);
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

async function segmentsOf(fs: FileSystem, dir: string, area: Area) {
  const checkpoint = await readCheckpoint(fs, join(dir, area));
  const known = new Map(
    checkpoint && checkpoint !== 'damaged' ? checkpoint.segments.map((each) => [each.sequence, each]) : [],
  );
  const left = new Map(known);
  const segments = (await fs.list(join(dir, area))).sort().flatMap((name) => {
    const parsed = parseSegmentName(name);
    if (!parsed) return [];
    left.delete(parsed.sequence);
    const remembered = known.get(parsed.sequence);
    const acked = new Acked(remembered?.ranges);
    return [{ path: join(dir, area, name), ...parsed, acked, known: remembered }];
  });
  const missing = [...left.values()].filter(({ records, ranges }) => records > new Acked(ranges).count);
  return { segments, missing, checkpointDamaged: checkpoint === 'damaged' };
}
