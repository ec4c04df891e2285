import { join } from 'node:path';
import { Acked } from './acked.ts';
import { type BlockEntry, decodeBlock } from './block.ts';
import type { File, FileSystem } from './file-system.ts';
import type { Area } from './record.ts';
import { blockAt, nextBlock, readStored } from './scan.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';

export type SegmentState = 'open' | 'recovered' | 'sealed';

/** What the log knows of a segment without reading its body. */
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
  /** End of what is durable; the file's length once it is sealed. */
  end: number;
  acked: Acked;
  ackedItems: number;
  /** Of a sealed one. */
  sha256: Buffer | undefined;
  /** Whether its SHA-256 was found right since the log was opened. */
  verified: boolean;
}

const SEQUENCE_DIGITS = 16;

export function segmentName(sequence: number, open: boolean): string {
  return `${String(sequence).padStart(SEQUENCE_DIGITS, '0')}.${open ? 'open' : 'seg'}`;
}

/** @returns undefined for a file that is no segment */
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
    sha256: undefined,
    verified: false,
  };
}

/** Bytes, in order, that a reader found it could not read. */
export interface Damage {
  at: number;
  end: number;
  records: number;
  items: number;
}

/**
 * Reads a segment block by block, from a place on. One block is in memory at a time, however long the segment is.
 * What can't be read is told to `damaged` and passed over.
 */
export async function* readBlocks(
  file: File,
  end: () => number,
  damaged: (damage: Damage) => void,
  start = SEGMENT_HEADER_BYTES,
): AsyncGenerator<{ entries: BlockEntry[]; end: number }> {
  let at = start;
  while (at < end()) {
    const limit = end();
    const block = await blockAt(file, at, limit);
    if (!block) {
      const next = await nextBlock(file, at + 1, limit);
      damaged({ at, end: next?.at ?? limit, records: 0, items: 0 });
      at = next?.at ?? limit;
      continue;
    }
    const { stored, intact } = await readStored(file, block);
    const entries = await decodeBlock(block.header, stored);
    const lost = entries.filter((entry) => entry.record === undefined).length;
    if (!intact || lost > 0) {
      const kept = entries.reduce((sum, { record }) => sum + (record?.envelope.items ?? 0), 0);
      damaged({ at, end: block.end, records: lost, items: Math.max(0, block.header.items - kept) });
    }
    yield { entries, end: block.end };
    at = block.end;
  }
}

export async function openSegment(fs: FileSystem, dir: string, segment: Segment): Promise<File> {
  return fs.open(segmentPath(dir, segment), 'read');
}
