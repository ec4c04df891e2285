import { join } from 'node:path';
import { Acked } from './acked.ts';
import type { RememberedSegment } from './checkpoint.ts';
import { codeOf, isDamage, isExhausted } from './errors.ts';
import { type File, type FileSystem, overBadSectors, withFile } from './file-system.ts';
import { readHeader } from './format-version.ts';
import type { Area } from './record.ts';
import { scanOpen } from './scan.ts';
import { emptySegment, parseSegmentName, readBlock, type Segment, segmentName } from './segment.ts';
import { type Identity, SEGMENT_HEADER_BYTES, type SegmentHeader, wrongHeader } from './segment-header.ts';

/** A segment as found when the log was opened. */
export interface Recovered {
  segment: Segment;
  /** Its damage; empty if there is none. */
  damage: string[];
  /** Ids at the end of a segment that was left open: their writer may send them again. */
  lastIds: string[];
  /** A crash came while it was being created: it has never had any records. */
  stillborn: boolean;
  /** What its header says, if that differs from its name. */
  foreign?: Identity | undefined;
  /** Why it cannot be read now, without a sign of damage. */
  unreadable?: unknown;
}

/**
 * Reads the header of a sealed segment, or the block headers of an open one. Does not throw for a problem of this file alone,
 * which must not keep the others from being replayed.
 * @throws when the process or the machine has run out of a resource
 */
export async function recoverSegment(
  fs: FileSystem,
  dir: string,
  area: Area,
  name: string,
  remembered: RememberedSegment | undefined,
  nowMs: number,
): Promise<Recovered> {
  const { sequence, open } = parseSegmentName(name)!;
  const sound = { damage: [], lastIds: [], stillborn: false };
  try {
    return await withFile(fs, join(dir, name), 'read', async (opened) => {
      const file = overBadSectors(opened);
      // Data that was written but not synced before a kill is in the system's memory only. Sync it before anybody relies on
      // it: power may fail next.
      const [synced] = await Promise.allSettled([open ? file.sync() : undefined]);
      const isDurable = synced.status === 'fulfilled';
      const size = await file.size();
      const header = await readHeader(file, join(dir, name));
      const ours = header?.area === area && header.sequence === sequence ? header : undefined;
      if (ours?.seal && size === SEGMENT_HEADER_BYTES + ours.seal.bodyBytes) {
        const { sealedAt: _, bodyBytes: __, ...content } = ours.seal;
        const segment: Segment = {
          ...emptySegment(area, sequence, ours.createdAt),
          ...content,
          ...{ state: 'sealed', end: size },
        };
        if (open) await rename(fs, dir, segment, isDurable);
        acknowledge(segment, remembered);
        return { segment, ...sound };
      }
      const found = await recoverByBlocks({ file, size, open, area, sequence, header, remembered, nowMs });
      return isDurable ? found : { ...found, lastIds: [] };
    });
  } catch (error) {
    if (isExhausted(error)) throw error;
    const segment = emptySegment(area, sequence, nowMs);
    segment.state = open ? 'recovered' : 'sealed';
    segment.lastReceivedAt = nowMs;
    remember(segment, remembered);
    segment.isUnread = true;
    if (isDamage(error)) return { segment, ...sound, damage: [unreadable(error)] };
    return { segment, ...sound, unreadable: error };
  }
}

/** It was sealed, and the crash came before the rename. */
async function rename(fs: FileSystem, dir: string, segment: Segment, isDurable: boolean): Promise<void> {
  try {
    if (!isDurable) throw new Error('the seal may not be on the disk');
    const [from = '', to = ''] = [true, false].map((open) => join(dir, segmentName(segment.sequence, open)));
    await fs.rename(from, to);
  } catch {
    segment.state = 'recovered'; // on a disk that takes no writes it is sealed again when it does
    segment.sha256 = undefined;
    return;
  }
  await fs.syncDir(dir).catch(() => {}); // either name is valid after a crash
}

interface Opened extends Pick<Segment, 'area' | 'sequence'> {
  file: File;
  size: number;
  open: boolean;
  header: SegmentHeader | undefined;
  remembered: RememberedSegment | undefined;
  nowMs: number;
}

async function recoverByBlocks(opened: Opened): Promise<Recovered> {
  const { file, size, open, area, sequence, header, remembered, nowMs } = opened;
  const scanned = await scanOpen(file, header?.hasMarks ?? false);
  const { blocks, records, items, rawBytes, end, gaps } = scanned;
  const stillborn = open && !header && blocks === 0 && size <= SEGMENT_HEADER_BYTES && !remembered;
  const segment: Segment = {
    ...emptySegment(area, sequence, header?.createdAt ?? nowMs),
    state: open ? 'recovered' : 'sealed',
    records,
    items,
    rawBytes,
    // Without a block there is no time of receipt, and an unreadable segment must not look as old as the epoch.
    firstReceivedAt: blocks > 0 ? scanned.firstReceivedAt : nowMs,
    lastReceivedAt: blocks > 0 ? scanned.lastReceivedAt : nowMs,
    end: open ? end : Math.max(end, size),
  };
  const damage: string[] = [];
  const ours = header?.area === area && header.sequence === sequence;
  const wrong =
    wrongHeader(header, opened, open) ?? (open ? undefined : 'its length is not what its header says');
  if (wrong) damage.push(wrong);
  if (gaps > 0) damage.push(`${gaps} places in it can't be read`);
  const promised = Math.max(header?.seal?.records ?? 0, remembered?.records ?? 0);
  if (ours && promised > records) damage.push(`it had ${promised} records and has ${records}`);
  if (damage.length > 0) {
    segment.end = Math.max(end, size);
    segment.records = Math.max(records, header?.seal?.records ?? 0);
    segment.items = Math.max(items, header?.seal?.items ?? 0);
  }
  // Acknowledgements are by record number. If it is not certain that the numbers belong to this segment, its records are
  // replayed rather than lost; if none is readable, only the number of lost records is left to report.
  if (ours) acknowledge(segment, remembered);
  if (ours || blocks === 0) remember(segment, remembered);
  const lastIds = open ? await idsOf(file, scanned.tail, segment.end) : [];
  return { segment, damage: stillborn ? [] : damage, lastIds, stillborn, foreign: ours ? undefined : header };
}

/** Whether the file with this segment's name is that segment. */
export async function isInPlace(fs: FileSystem, root: string, identity: Identity): Promise<boolean> {
  const { area, sequence, createdAt } = identity;
  for (const open of [false, true]) {
    const path = join(root, area, segmentName(sequence, open));
    // Missing or unreadable: then the other copy may be the only one.
    const found = await withFile(fs, path, 'read', (file) => readHeader(file, path)).catch(() => undefined);
    if (found?.area === area && found.sequence === sequence && found.createdAt === createdAt) return true;
  }
  return false;
}

function acknowledge(segment: Segment, remembered: RememberedSegment | undefined): void {
  if (!remembered) return;
  segment.acked = new Acked(remembered.ranges);
  segment.ackedItems = remembered.ackedItems;
}

/** The content by the checkpoint. */
function remember(segment: Segment, remembered: RememberedSegment | undefined): void {
  if (!remembered) return;
  segment.records = Math.max(segment.records, remembered.records);
  segment.items = Math.max(segment.items, remembered.items);
  acknowledge(segment, remembered);
}

/** Ids at the end of a sealed segment: their writer may have been killed before they were acknowledged to it. */
export async function lastIdsOfSealed(fs: FileSystem, dir: string, segment: Segment): Promise<string[]> {
  const path = join(dir, segmentName(segment.sequence, false));
  try {
    return await withFile(fs, path, 'read', async (opened) => {
      const file = overBadSectors(opened);
      return idsOf(file, (await scanOpen(file, false)).tail, segment.end);
    });
  } catch (error) {
    if (isExhausted(error)) throw error;
    return []; // damage is found when it is read
  }
}

async function idsOf(file: File, blocks: readonly number[], limit: number): Promise<string[]> {
  const ids: string[] = [];
  for (const at of blocks) {
    const { entries } = await readBlock(file, at, limit);
    for (const { record } of entries) if (record) ids.push(record.envelope.id);
  }
  return ids;
}

/** Message for a file that the disk cannot open or read. */
export function unreadable(error: unknown): string {
  return `it can't be read: ${codeOf(error) ?? (error as Error).message}`;
}
