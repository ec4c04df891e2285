import { join } from 'node:path';
import type { Ranges } from './acked.ts';
import { crc32c } from './crc32c.ts';
import type { WriteOffs } from './entry.ts';
import { isDamage } from './errors.ts';
import type { FileSystem } from './file-system.ts';

/** What an area stores beside its segments. */
export interface Checkpoint {
  /** Above the numbers of all segments so far. */
  nextSequence: number;
  /** The content of each segment, and its acknowledged records. */
  segments: RememberedSegment[];
  /** Absent in older versions, as is `ranMs`. */
  writtenOff?: WriteOffs;
  /** How long the log has been open, over all runs. */
  ranMs?: number;
}

export interface RememberedSegment {
  sequence: number;
  records: number;
  items: number;
  ranges: Ranges;
  ackedItems: number;
  /** `ranMs` when its last record was written; absent in older versions. */
  writtenAtMs?: number;
}

export const CHECKPOINT = 'checkpoint';
const NAME = CHECKPOINT;
const MAX_BYTES = 64 * 1024 * 1024;

/** Writes a new file and renames it, so that a crash leaves either the old or the new one. */
export async function writeCheckpoint(fs: FileSystem, dir: string, checkpoint: Checkpoint): Promise<void> {
  const json = JSON.stringify(checkpoint);
  const bytes = Buffer.from(`${crc32c(Buffer.from(json)).toString(16).padStart(8, '0')} ${json}\n`);
  const temporary = join(dir, `${NAME}.tmp`);
  if ((await fs.list(dir)).includes(`${NAME}.tmp`)) await fs.unlink(temporary);
  const file = await fs.open(temporary, 'create');
  try {
    await file.write(bytes, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await fs.rename(temporary, join(dir, NAME));
  await fs.syncDir(dir);
}

/** @returns undefined if there is none; `damaged` if its checksum or content is wrong */
export async function readCheckpoint(
  fs: FileSystem,
  dir: string,
): Promise<Checkpoint | 'damaged' | undefined> {
  if (!(await fs.list(dir)).includes(NAME)) return undefined;
  const file = await fs.open(join(dir, NAME), 'read');
  try {
    const size = await file.size();
    if (size > MAX_BYTES) return 'damaged';
    const bytes = Buffer.alloc(size);
    await file.read(bytes, 0);
    const text = bytes.toString('utf8');
    const json = text.slice(9).trimEnd();
    if (text.slice(0, 8) !== crc32c(Buffer.from(json)).toString(16).padStart(8, '0')) return 'damaged';
    return JSON.parse(json) as Checkpoint;
  } catch (error) {
    if (isDamage(error) || error instanceof SyntaxError) return 'damaged';
    throw error;
  } finally {
    await file.close();
  }
}
