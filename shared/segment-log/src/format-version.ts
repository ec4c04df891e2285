import { join } from 'node:path';
import { codeOf, isExhausted, SegmentLogError } from './errors.ts';
import type { FileSystem } from './file-system.ts';
import { AREAS } from './record.ts';
import { parseSegmentName } from './segment.ts';
import { FORMAT_VERSION, newerFormat, SEGMENT_HEADER_BYTES } from './segment-header.ts';

/**
 * Checks the format of every segment before anything in the directory is changed, including checkpoints: a later version's may
 * differ too, and treating them as damaged would lose them.
 * @throws SegmentLogError `newer_format`
 */
export async function expectKnownFormats(fs: FileSystem, root: string): Promise<void> {
  for (const area of AREAS) {
    for (const name of await fs.list(join(root, area))) {
      if (parseSegmentName(name)) await expectKnownFormatOf(fs, join(root, area, name));
    }
  }
}

async function expectKnownFormatOf(fs: FileSystem, path: string): Promise<void> {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  try {
    const file = await fs.open(path, 'read');
    try {
      await file.read(header, 0);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isExhausted(error) || codeOf(error) === undefined) throw error;
    return; // unreadable: reported by recovery
  }
  expectKnownFormat(header, path);
}

/** @throws SegmentLogError `newer_format` */
export function expectKnownFormat(header: Buffer, path: string): void {
  const newer = newerFormat(header);
  if (!newer) return;
  const { format, writtenBy } = newer;
  throw new SegmentLogError(
    'newer_format',
    `${path} is of format ${format}, written by NRDOT+ ${writtenBy ?? 'of an unknown version'}; this version reads format ${FORMAT_VERSION} and no newer`,
  );
}
