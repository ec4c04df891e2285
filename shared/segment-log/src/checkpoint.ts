import { join } from 'node:path';
import type { Ranges } from './acked.ts';
import { crc32c } from './crc32c.ts';
import type { WriteOffs } from './entry.ts';
import { isDamage } from './errors.ts';
import { type FileSystem, replaceFile, withFile } from './file-system.ts';

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
const MAX_BYTES = 64 * 1024 * 1024;

export async function writeCheckpoint(fs: FileSystem, dir: string, checkpoint: Checkpoint): Promise<void> {
  const json = JSON.stringify(checkpoint);
  await replaceFile(fs, dir, CHECKPOINT, `${checksumOf(json)} ${json}\n`);
}

/** @returns undefined if there is none; `damaged` if its checksum or content is wrong */
export async function readCheckpoint(
  fs: FileSystem,
  dir: string,
): Promise<Checkpoint | 'damaged' | undefined> {
  if (!(await fs.list(dir)).includes(CHECKPOINT)) return undefined;
  return withFile(fs, join(dir, CHECKPOINT), 'read', async (file) => {
    try {
      const size = await file.size();
      if (size > MAX_BYTES) return 'damaged';
      const bytes = Buffer.alloc(size);
      await file.read(bytes, 0);
      const text = bytes.toString('utf8');
      const json = text.slice(9).trimEnd();
      return text.slice(0, 8) === checksumOf(json) ? (JSON.parse(json) as Checkpoint) : 'damaged';
    } catch (error) {
      if (isDamage(error) || error instanceof SyntaxError) return 'damaged';
      throw error;
    }
  });
}

function checksumOf(json: string): string {
  return crc32c(Buffer.from(json)).toString(16).padStart(8, '0');
}
