import { join } from 'node:path';
import { Acked } from './acked.ts';
import { type BlockEntry, decodeBlock } from './block.ts';
import type { RememberedSegment } from './checkpoint.ts';
import { codeOf } from './errors.ts';
import { type File, type FileSystem, overBadSectors } from './file-system.ts';
import type { Area } from './record.ts';
import { blockAt, nextBlock, readStored } from './scan.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';

export type SegmentState = 'open' | 'recovered' | 'sealed';

/** What is known of a segment without reading its body. */
export type Segment = ReturnType<typeof emptySegment>;

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

export function emptySegment(area: Area, sequence: number, createdAt: number) {
  return {
    ...{ area, sequence, createdAt, state: 'open' as SegmentState },
    ...{ firstReceivedAt: 0, lastReceivedAt: 0, records: 0, items: 0, rawBytes: 0 },
    /** End of the durable data; the file's length once it is sealed. */
    end: SEGMENT_HEADER_BYTES,
    acked: new Acked(),
    ackedItems: 0,
    /** Records in flight, with their items: read, and neither acknowledged nor released. */
    held: new Map<number, number>(),
    /** Time of its last record, by the running clock. */
    writtenAtMs: 0,
    /** For a sealed segment. */
    sha256: undefined as Buffer | undefined,
    /** Whether its SHA-256 was verified since the log was opened. */
    verified: false,
    /** Its file was unreadable when the log was opened: only the checkpoint's data is known. */
    isUnread: false,
    /** Its file cannot be read now, without a sign of damage. */
    isUnreadable: false,
    /** Its damage, for people; empty if none is known. */
    damage: [] as string[],
  };
}

/** What the checkpoint has of a segment. */
export function rememberedOf(segment: Segment): RememberedSegment {
  const { sequence, records, items, acked, ackedItems, writtenAtMs } = segment;
  return { sequence, records, items, ranges: acked.toRanges(), ackedItems, writtenAtMs };
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
  /** For people: what of it was unreadable. */
  damage: string | undefined;
}

/** Reads the block at `at`, or whatever is there instead. Only this block is in memory. */
export async function readBlock(file: File, at: number, limit: number): Promise<ReadBlock> {
  const block = await blockAt(file, at, limit);
  if (!block) {
    const end = (await nextBlock(file, at + 1, limit))?.at ?? limit;
    return { end, entries: [], damage: unreadableBytes(at, end) };
  }
  const { stored, intact } = await readStored(file, block);
  const entries = await decodeBlock(block.header, stored, intact);
  const whole = intact && entries.every(({ record }) => record !== undefined);
  return { end: block.end, entries, damage: whole ? undefined : unreadableBytes(at, block.end) };
}

function unreadableBytes(at: number, end: number): string {
  return `bytes ${at} to ${end} can't be read`;
}

/** Reads all blocks of a segment, one after the other. */
export async function* blocksOf(file: File, limit: number): AsyncGenerator<ReadBlock> {
  for (let at = SEGMENT_HEADER_BYTES; at < limit; ) {
    const block = await readBlock(file, at, limit);
    yield block;
    at = block.end;
  }
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
