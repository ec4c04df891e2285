import { dirname, join } from 'node:path';
import { Acked } from './acked.ts';
import type { AreaOptions } from './area.ts';
import { CHECKPOINT, readCheckpoint } from './checkpoint.ts';
import type { WriteOffs } from './entry.ts';
import type { FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';
import { isInPlace, lastIdsOfSealed, recoverSegment } from './recovery.ts';
import type { RunningClock } from './running-clock.ts';
import { parseSegmentName, segmentName } from './segment.ts';
import type { Identity } from './segment-header.ts';

/**
 * No log gets there. A file with a higher number is somebody's; if new segments were numbered from there on, the numbers would
 * soon not fit into their names, nor be exact, and the next start would not find them.
 */
const SEQUENCE_MAX = 1e15;

/**
 * Recovers an area from its directory: headers of sealed segments, block headers of open ones.
 * @returns ids of the records written last, and the write-offs as of the checkpoint on disk
 */
export async function recoverArea(
  { fs, quarantine, now }: Pick<AreaOptions, 'fs' | 'quarantine' | 'now'>,
  inventory: Inventory,
  clock: RunningClock,
): Promise<{ lastIds: string[]; writtenOff: WriteOffs }> {
  const { area, dir, segments } = inventory;
  /** Moves a file that is of no use to quarantine, for people to inspect. On a read-only disk it stays where it is. */
  const setAside = async (name: string, reason: string) => {
    inventory.lost(join(dir, name), reason, 0, 0);
    const report = { area, reasons: [reason], at: new Date(now()).toISOString() };
    await quarantine.take(dir, name, `${area}-${name}-${now()}`, report).catch(() => {});
  };
  const checkpoint = await readCheckpoint(fs, dir);
  const known = checkpoint === 'damaged' ? undefined : checkpoint;
  if (checkpoint === 'damaged')
    await setAside(CHECKPOINT, 'the checkpoint is damaged; records may be replayed twice');
  const remembered = new Map(known?.segments.map((entry) => [entry.sequence, entry]));
  const writtenOff = known?.writtenOff ?? {};
  Object.assign(inventory.writtenOff, writtenOff);
  clock.resume(known?.ranMs ?? 0);
  inventory.nextSequence = known?.nextSequence ?? 1;
  const lastIds: string[] = [];
  for (const { name, sequence } of await segmentFiles(fs, dir)) {
    if (sequence > SEQUENCE_MAX) {
      await setAside(name, 'no segment has this number');
      continue;
    }
    inventory.nextSequence = Math.max(inventory.nextSequence, sequence + 1);
    if (segments.at(-1)?.sequence === sequence) {
      await setAside(name, 'there are two files of this number');
      continue;
    }
    const before = remembered.get(sequence);
    const found = await recoverSegment(fs, dir, area, name, before, now());
    const copied = found.foreign && (await originalOf(fs, dirname(dir), found.foreign));
    if (copied) {
      await setAside(name, copied);
      continue; // what the checkpoint has under this number is missing
    }
    found.segment.writtenAtMs = before?.writtenAtMs ?? clock.ms;
    remembered.delete(sequence);
    if (found.stillborn) {
      await fs.unlink(join(dir, name)).catch(() => {});
      continue;
    }
    segments.push(found.segment);
    lastIds.push(...found.lastIds);
    for (const reason of found.damage) inventory.damage(found.segment, reason);
    if (found.unreadable !== undefined) inventory.unreadable(found.segment, found.unreadable);
  }
  // The last records may be in the segment sealed last, if the kill came right after.
  const sealed = segments.findLast(({ state, isUnread }) => state === 'sealed' && !isUnread);
  if (sealed) lastIds.push(...(await lastIdsOfSealed(fs, dir, sealed)));
  for (const { sequence, records, items, ranges, ackedItems } of remembered.values()) {
    inventory.isChanged = true;
    const missing = records - new Acked(ranges).count;
    if (missing <= 0) continue; // it was acknowledged, and the crash came before the checkpoint was updated
    const path = join(dir, segmentName(sequence, false));
    inventory.lost(path, 'the file is missing', missing, items - ackedItems);
  }
  return { lastIds, writtenOff };
}

async function segmentFiles(fs: FileSystem, dir: string) {
  const names = (await fs.list(dir)).flatMap((name) => {
    const parsed = parseSegmentName(name);
    return parsed ? [{ name, ...parsed }] : [];
  });
  return names.sort((a, b) => a.sequence - b.sequence || Number(a.open) - Number(b.open));
}

/**
 * Finds the original of a file that somebody put here. Its records are read from where they belong, or were acknowledged; a
 * segment that is missing there and not fully acknowledged is read from wherever it is.
 * @returns the original; undefined if this may be the only copy
 */
async function originalOf(fs: FileSystem, root: string, identity: Identity): Promise<string | undefined> {
  const { area, sequence } = identity;
  const name = `segment ${sequence} of ${area}`;
  if (await isInPlace(fs, root, identity)) return `it is a copy of ${name}, which is in its place`;
  const known = await readCheckpoint(fs, join(root, area));
  if (!known || known === 'damaged') return undefined;
  const isDone = sequence < known.nextSequence && !known.segments.some((each) => each.sequence === sequence);
  return isDone ? `it is a copy of ${name}, which is acknowledged` : undefined;
}
