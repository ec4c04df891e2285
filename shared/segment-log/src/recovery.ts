import { join } from 'node:path';
import { Acked } from './acked.ts';
import type { RememberedSegment } from './checkpoint.ts';
import { isDamage, isExhausted } from './errors.ts';
import type { File, FileSystem } from './file-system.ts';
import { expectKnownFormat } from './format-version.ts';
import type { Area } from './record.ts';
import { overBadSectors, scanOpen } from './scan.ts';
import { emptySegment, parseSegmentName, readBlock, type Segment, segmentName } from './segment.ts';
import {
  decodeSegmentHeader,
  type Identity,
  SEGMENT_HEADER_BYTES,
  type Seal,
  type SegmentHeader,
} from './segment-header.ts';

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
  const unread = (error: unknown): Recovered => {
    if (isExhausted(error)) throw error;
    const segment = emptySegment(area, sequence, nowMs);
    segment.state = open ? 'recovered' : 'sealed';
    segment.lastReceivedAt = nowMs;
    remember(segment, remembered);
    segment.isUnread = true;
    if (isDamage(error)) return { segment, damage: [unreadable(error)], lastIds: [], stillborn: false };
    return { segment, damage: [], lastIds: [], stillborn: false, unreadable: error };
  };
  let file: File;
  try {
    file = overBadSectors(await fs.open(join(dir, name), 'read'));
  } catch (error) {
    return unread(error);
  }
  try {
    // Data that was written but not synced before a kill is in the system's memory only. Sync it before anybody relies on it:
    // power may fail next.
    const isDurable =
      !open ||
      (await file.sync().then(
        () => true,
        () => false,
      ));
    const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
    const size = await file.size();
    await file.read(bytes, 0);
    expectKnownFormat(bytes, join(dir, name));
    const header = decodeSegmentHeader(bytes);
    const ours = header?.area === area && header.sequence === sequence ? header : undefined;
    if (ours?.seal && size === SEGMENT_HEADER_BYTES + ours.seal.bodyBytes) {
      const segment = sealedSegment(ours, ours.seal, size);
      if (open) await rename(fs, dir, segment, isDurable);
      acknowledge(segment, remembered);
      return { segment, damage: [], lastIds: [], stillborn: false };
    }
    const found = await recoverByBlocks({ file, size, open, area, sequence, header, remembered, nowMs });
    return isDurable ? found : { ...found, lastIds: [] };
  } catch (error) {
    return unread(error);
  } finally {
    await file.close().catch(() => {});
  }
}

function sealedSegment(identity: Identity, seal: Seal, size: number): Segment {
  const { firstReceivedAt, lastReceivedAt, records, items, rawBytes, sha256 } = seal;
  return {
    ...emptySegment(identity.area, identity.sequence, identity.createdAt),
    state: 'sealed',
    firstReceivedAt,
    lastReceivedAt,
    records,
    items,
    rawBytes,
    sha256,
    end: size,
  };
}

/** It was sealed, and the crash came before the rename. */
async function rename(fs: FileSystem, dir: string, segment: Segment, isDurable: boolean): Promise<void> {
  try {
    if (!isDurable) throw new Error('the seal may not be on the disk');
    const names = [true, false].map((open) => join(dir, segmentName(segment.sequence, open)));
    await fs.rename(names[0]!, names[1]!);
  } catch {
    segment.state = 'recovered'; // on a disk that takes no writes it is sealed again when it does
    segment.sha256 = undefined;
    return;
  }
  await fs.syncDir(dir).catch(() => {}); // either name is valid after a crash
}

async function recoverByBlocks(found: {
  file: File;
  size: number;
  open: boolean;
  area: Area;
  sequence: number;
  header: SegmentHeader | undefined;
  remembered: RememberedSegment | undefined;
  nowMs: number;
}): Promise<Recovered> {
  const { file, size, open, area, sequence, header, remembered, nowMs } = found;
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
  if (!header) damage.push('its header is damaged');
  else if (!ours) damage.push(`its header says that it is segment ${header.sequence} of ${header.area}`);
  else if (!open && !header.seal) damage.push('the seal in its header is damaged');
  else if (!open) damage.push('its length is not what its header says');
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
    try {
      const file = await fs.open(join(root, area, segmentName(sequence, open)), 'read');
      try {
        const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
        await file.read(bytes, 0);
        const found = decodeSegmentHeader(bytes);
        if (found?.area === area && found.sequence === sequence && found.createdAt === createdAt) return true;
      } finally {
        await file.close();
      }
    } catch {
      // Missing or unreadable: then the other copy may be the only one.
    }
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
  let file: File;
  try {
    file = overBadSectors(await fs.open(join(dir, segmentName(segment.sequence, false)), 'read'));
  } catch (error) {
    return unlessExhausted(error);
  }
  try {
    return await idsOf(file, (await scanOpen(file, false)).tail, segment.end);
  } catch (error) {
    return unlessExhausted(error);
  } finally {
    await file.close().catch(() => {});
  }
}

/** Damage of a file is found when it is read. */
function unlessExhausted(error: unknown): string[] {
  if (isExhausted(error)) throw error;
  return [];
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
  return `it can't be read: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`;
}
