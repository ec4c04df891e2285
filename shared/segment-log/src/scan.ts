import { BLOCK_HEADER_BYTES, type BlockHeader, decodeBlockHeader } from './block.ts';
import { crc32c } from './crc32c.ts';
import type { File } from './file-system.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';

/** A block as it lies in a file. */
export interface FoundBlock {
  /** Of its header. */
  at: number;
  end: number;
  header: BlockHeader;
}

const SEARCH_CHUNK_BYTES = 256 * 1024;
const MAGIC_BYTES = Buffer.from('NRDB', 'latin1');

/** The block whose header begins at `at`, if there is a whole one. Its content is not looked at. */
export async function blockAt(file: File, at: number, size: number): Promise<FoundBlock | undefined> {
  const bytes = Buffer.allocUnsafe(BLOCK_HEADER_BYTES);
  if ((await file.read(bytes, at)) < BLOCK_HEADER_BYTES) return undefined;
  const header = decodeBlockHeader(bytes);
  if (!header) return undefined;
  const end = at + BLOCK_HEADER_BYTES + header.storedBytes;
  return end <= size ? { at, end, header } : undefined;
}

/** The next whole block header at or after `at`: how reading goes on behind damage. */
export async function nextBlock(file: File, at: number, size: number): Promise<FoundBlock | undefined> {
  const chunk = Buffer.allocUnsafe(SEARCH_CHUNK_BYTES);
  for (let from = at; from < size; ) {
    const read = await file.read(chunk, from);
    if (read < MAGIC_BYTES.byteLength) return undefined;
    for (let i = chunk.indexOf(MAGIC_BYTES); i >= 0 && i < read; i = chunk.indexOf(MAGIC_BYTES, i + 1)) {
      const found = await blockAt(file, from + i, size);
      if (found) return found;
    }
    from += read - (MAGIC_BYTES.byteLength - 1);
    if (read < chunk.byteLength) return undefined;
  }
  return undefined;
}

/** The compressed content of a block, and whether it is what was written. */
export async function readStored(
  file: File,
  block: FoundBlock,
): Promise<{ stored: Buffer; intact: boolean }> {
  const stored = Buffer.allocUnsafe(block.header.storedBytes);
  const read = await file.read(stored, block.at + BLOCK_HEADER_BYTES);
  return { stored, intact: read === stored.byteLength && crc32c(stored) === block.header.storedCrc };
}

export interface Scanned {
  blocks: number;
  records: number;
  items: number;
  rawBytes: number;
  /** Where the last whole block ends: what follows is a torn write. */
  end: number;
  /** Places between whole blocks that can't be read. */
  gaps: number;
}

/**
 * Reads the headers of an open segment from block to block, and the content of the last one. What a crash tore is at
 * the end; something unreadable with a whole block behind it is damage and stays for the salvage.
 */
export async function scanOpen(file: File): Promise<Scanned> {
  const size = await file.size();
  const found: Scanned = { blocks: 0, records: 0, items: 0, rawBytes: 0, end: SEGMENT_HEADER_BYTES, gaps: 0 };
  let at = SEGMENT_HEADER_BYTES;
  while (at < size) {
    let block = await blockAt(file, at, size);
    if (!block) {
      block = await nextBlock(file, at + 1, size);
      if (!block) break;
      if (!(await readStored(file, block)).intact) break;
      found.gaps++;
    }
    // Only the last write can be torn, and only its block has no whole one behind it.
    if (!(await blockAt(file, block.end, size)) && !(await readStored(file, block)).intact) {
      if (!(await nextBlock(file, block.end, size))) break;
      found.gaps++;
    }
    found.blocks++;
    found.records = Math.max(found.records, block.header.firstRecord + block.header.records);
    found.items += block.header.items;
    found.rawBytes += block.header.rawBytes;
    found.end = block.end;
    at = block.end;
  }
  return found;
}
