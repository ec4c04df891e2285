import { dirname, join } from 'node:path';
import { Acked } from './acked.ts';
import { CHECKPOINT, type Checkpoint, readCheckpoint } from './checkpoint.ts';
import type { WriteOffs } from './entry.ts';
import type { FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';
import type { Quarantine } from './quarantine.ts';
import { isInPlace, lastIdsOfSealed, recoverSegment } from './recovery.ts';
import type { RunningClock } from './running-clock.ts';
import { parseSegmentName, segmentName } from './segment.ts';
import type { Identity } from './segment-header.ts';

/**
 * No log gets there. A file with a higher number is somebody's; if new segments were numbered from there on, the numbers would
 * soon not fit into their names, nor be exact, and the next start would not find them.
 */
const SEQUENCE_MAX = 1e15;

export interface AreaRecoveryDeps {
  fs: FileSystem;
  inventory: Inventory;
  quarantine: Quarantine;
  clock: RunningClock;
  now(): number;
}

export interface RecoveredArea {
  /** Above the numbers of all segments so far. */
  nextSequence: number;
  /** Ids of the records written last. */
  lastIds: string[];
  /** As of the checkpoint on disk. */
  writtenOff: WriteOffs;
}

/** Recovers an area from its directory: headers of sealed segments, block headers of open ones. */
export async function recoverArea(deps: AreaRecoveryDeps): Promise<RecoveredArea> {
  const { fs, inventory, now } = deps;
  const { area, dir, segments } = inventory;
  const known = await trustedCheckpoint(deps);
  const remembered = new Map(known?.segments.map((entry) => [entry.sequence, entry]));
  const writtenOff = known?.writtenOff ?? {};
  Object.assign(inventory.writtenOff, writtenOff);
  deps.clock.resume(known?.ranMs ?? 0);
  let nextSequence = known?.nextSequence ?? 1;
  const lastIds: string[] = [];
  for (const { name, sequence } of await segmentFiles(fs, dir)) {
    if (sequence > SEQUENCE_MAX) {
      const reason = 'no segment has this number';
      inventory.lost(join(dir, name), reason, 0, 0);
      await setAside(deps, name, reason);
      continue;
    }
    nextSequence = Math.max(nextSequence, sequence + 1);
    if (segments.at(-1)?.sequence === sequence) {
      const reason = 'there are two files of this number';
      inventory.lost(join(dir, name), reason, 0, 0);
      await setAside(deps, name, reason);
      continue;
    }
    const before = remembered.get(sequence);
    const found = await recoverSegment(fs, dir, area, name, before, now());
    const copied = found.foreign && (await originalOf(fs, dirname(dir), found.foreign));
    if (copied) {
      inventory.lost(join(dir, name), copied, 0, 0);
      await setAside(deps, name, copied);
      continue; // what the checkpoint has under this number is missing
    }
    found.segment.writtenAtMs = before?.writtenAtMs ?? deps.clock.ms;
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
    inventory.lost(
      join(dir, segmentName(sequence, false)),
      'the file is missing',
      missing,
      items - ackedItems,
    );
  }
  return { nextSequence, lastIds, writtenOff };
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

async function trustedCheckpoint(deps: AreaRecoveryDeps): Promise<Checkpoint | undefined> {
  const { fs, inventory } = deps;
  const checkpoint = await readCheckpoint(fs, inventory.dir);
  if (checkpoint !== 'damaged') return checkpoint;
  const reason = 'the checkpoint is damaged; records may be replayed twice';
  inventory.lost(join(inventory.dir, CHECKPOINT), reason, 0, 0);
  await setAside(deps, CHECKPOINT, reason);
  return undefined;
}

/** Moves a file that is of no use to quarantine, for people to inspect. On a read-only disk it stays where it is. */
async function setAside({ inventory, quarantine, now }: AreaRecoveryDeps, name: string, reason: string) {
  const { area, dir } = inventory;
  const at = new Date(now()).toISOString();
  await quarantine
    .take(dir, name, `${area}-${name}-${now()}`, { area, reasons: [reason], at })
    .catch(() => {});
}
