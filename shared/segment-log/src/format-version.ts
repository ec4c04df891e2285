import { join } from 'node:path';
import { codeOf, isExhausted, SegmentLogError } from './errors.ts';
import { type File, type FileSystem, withFile } from './file-system.ts';
import { AREAS } from './record.ts';
import { parseSegmentName } from './segment.ts';
import {
  decodeSegmentHeader,
  FORMAT_VERSION,
  newerFormat,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './segment-header.ts';

/**
 * Checks the format of every segment before anything in the directory is changed, including checkpoints: a later version's may
 * differ too, and treating them as damaged would lose them.
 * @throws SegmentLogError `newer_format`
 */
export async function expectKnownFormats(fs: FileSystem, root: string): Promise<void> {
  for (const area of AREAS) {
    for (const name of await fs.list(join(root, area))) {
      if (!parseSegmentName(name)) continue;
      const path = join(root, area, name);
      await withFile(fs, path, 'read', (file) => readHeader(file, path)).catch((error: unknown) => {
        const isOfFile = !(error instanceof SegmentLogError) && codeOf(error) !== undefined;
        if (!isOfFile || isExhausted(error)) throw error; // otherwise recovery reports it
      });
    }
  }
}

/**
 * @returns undefined if it is no segment header, or its identity is damaged
 * @throws SegmentLogError `newer_format`
 */
export async function readHeader(file: File, path: string): Promise<SegmentHeader | undefined> {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  await file.read(bytes, 0);
  const newer = newerFormat(bytes);
  if (!newer) return decodeSegmentHeader(bytes);
  const { format, writtenBy } = newer;
  throw new SegmentLogError(
    'newer_format',
    `${path} is of format ${format}, written by NRDOT+ ${writtenBy ?? 'of an unknown version'}; this version reads format ${FORMAT_VERSION} and no newer`,
  );
}
