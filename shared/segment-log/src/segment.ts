import { join } from 'node:path';
import { Acked } from './acked.ts';
import { type BlockEntry, decodeBlock } from './block.ts';
import { codeOf } from './errors.ts';
import { type File, type FileSystem, overBadSectors } from './file-system.ts';
import type { Area } from './record.ts';
import { blockAt, nextBlock, readStored } from './scan.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';

export type SegmentState = 'open' | 'recovered' | 'sealed';

/** What is known of a segment without reading its body. */
export interface Segment {
  area: Area;
  sequence: number;
  state: SegmentState;
  createdAt: number;
  firstReceivedAt: number;
  lastReceivedAt: number;
  records: number;
  items: number;
  rawBytes: number;
  /** End of the durable data; the file's length once it is sealed. */
  end: number;
  acked: Acked;
  ackedItems: number;
  /** Records in flight, with their items: read, and neither acknowledged nor released. */
  held: Map<number, number>;
  /** Time of its last record, by the running clock. */
  writtenAtMs: number;
  /** For a sealed segment. */
  sha256: Buffer | undefined;
  /** Whether its SHA-256 was verified since the log was opened. */
  verified: boolean;
  /** Its file was unreadable when the log was opened: only the checkpoint's data is known. */
  isUnread: boolean;
  /** Its file cannot be read now, without a sign of damage. */
  isUnreadable: boolean;
  /** Its damage, for people; empty if none is known. */
  damage: string[];
}

export function segmentName(sequence: number, open: boolean): string {
  return `${String(sequence).padStart(16, '0')}.${open ? 'open' : 'seg'}`;
}

/** @returns undefined for a file that is not a segment */
export function parseSegmentName(name: string): { sequence: number; open: boolean } | undefined {
  const match = /^(\d{16})\.(open|seg)$/.exec(name);
  return match ? { sequence: Number(match[1]), open: match[2] === 'open' } : undefined;
}

export function segmentPath(dir: string, segment: Pick<Segment, 'sequence' | 'state'>): string {
  return join(dir, segmentName(segment.sequence, segment.state !== 'sealed'));
}

export function emptySegment(area: Area, sequence: number, createdAt: number): Segment {
  return {
    area,
    sequence,
    state: 'open',
    createdAt,
    firstReceivedAt: 0,
    lastReceivedAt: 0,
    records: 0,
    items: 0,
    rawBytes: 0,
    end: SEGMENT_HEADER_BYTES,
    acked: new Acked(),
    ackedItems: 0,
    held: new Map(),
    writtenAtMs: 0,
    sha256: undefined,
    verified: false,
    isUnread: false,
    isUnreadable: false,
    damage: [],
  };
}

/** Items of the records in flight. */
export function heldItems({ held }: Segment): number {
  return [...held.values()].reduce((sum, items) => sum + items, 0);
}

interface ReadBlock {
  /** Next position. */
  end: number;
  /** Empty if there is no block before `limit`. */
  entries: BlockEntry[];
  /** Range that was unreadable. */
  damage: { at: number; end: number } | undefined;
}

/** Reads the block at `at`, or whatever is there instead. Only this block is in memory. */
export async function readBlock(file: File, at: number, limit: number): Promise<ReadBlock> {
  const block = await blockAt(file, at, limit);
  if (!block) {
    const end = (await nextBlock(file, at + 1, limit))?.at ?? limit;
    return { end, entries: [], damage: { at, end } };
  }
  const { stored, intact } = await readStored(file, block);
  const entries = await decodeBlock(block.header, stored, intact);
  const whole = intact && entries.every(({ record }) => record !== undefined);
  return { end: block.end, entries, damage: whole ? undefined : { at, end: block.end } };
}

/** Opens a segment for reading. While a rename is in flight, either of its names may be the right one. */
export async function openSegment(fs: FileSystem, dir: string, segment: Segment): Promise<File> {
  const { sequence } = segment;
  let missing: unknown;
  for (const open of segment.state === 'sealed' ? [false] : [true, false]) {
    try {
      return overBadSectors(await fs.open(join(dir, segmentName(sequence, open)), 'read'));
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      missing = error;
    }
  }
  throw missing;
}
