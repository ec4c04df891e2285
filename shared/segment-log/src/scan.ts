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
/** Small beside a full block, so that little of it is read in vain; large beside the block of a single small record. */
const READ_AHEAD_BYTES = 16 * 1024;
const MAGIC_BYTES = Buffer.from('NRDB', 'latin1');
const PAGE_BYTES = 4096;

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
    const filled = chunk.subarray(0, read);
    for (let i = filled.indexOf(MAGIC_BYTES); i >= 0; i = filled.indexOf(MAGIC_BYTES, i + 1)) {
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
  /** 0 when there is no block. */
  firstReceivedAt: number;
  lastReceivedAt: number;
  /** Where the last whole block ends: what follows is a torn write. */
  end: number;
  /** Places between whole blocks that can't be read. */
  gaps: number;
}

/**
 * Reads the headers of an open segment from block to block, and the content of the last one. What a crash tore is at
 * the end; something unreadable with a whole block behind it is damage and stays for the salvage.
 */
export async function scanOpen(opened: File): Promise<Scanned> {
  const file = readAhead(opened);
  const size = await file.size();
  const found: Scanned = {
    blocks: 0,
    records: 0,
    items: 0,
    rawBytes: 0,
    firstReceivedAt: 0,
    lastReceivedAt: 0,
    end: SEGMENT_HEADER_BYTES,
    gaps: 0,
  };
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
    const { header } = block;
    found.firstReceivedAt =
      found.blocks === 0 ? header.firstReceivedAt : Math.min(found.firstReceivedAt, header.firstReceivedAt);
    found.lastReceivedAt = Math.max(found.lastReceivedAt, header.lastReceivedAt);
    found.blocks++;
    found.records = Math.max(found.records, header.firstRecord + header.records);
    found.items += header.items;
    found.rawBytes += header.rawBytes;
    found.end = block.end;
    at = block.end;
  }
  return found;
}

/** Takes in what lies behind a header with it: many small blocks are one read. */
function readAhead(file: File): File {
  const window = Buffer.allocUnsafe(READ_AHEAD_BYTES);
  let start = 0;
  let filled = 0;
  return {
    ...unchanged(file),
    async read(into, at) {
      if (into.byteLength > READ_AHEAD_BYTES) return file.read(into, at);
      if (at < start || at + into.byteLength > start + filled) {
        start = at;
        filled = await file.read(window, at);
      }
      const from = at - start;
      return window.copy(into, 0, from, Math.min(filled, from + into.byteLength));
    },
  };
}

/**
 * Reads zeros where the disk can't read: a bad sector costs the blocks it is in, as any other damage does, and reading
 * goes on behind it.
 */
export function overBadSectors(file: File): File {
  return {
    ...unchanged(file),
    async read(into, at) {
      try {
        return await file.read(into, at);
      } catch (error) {
        if (!isBadSector(error)) throw error;
      }
      const bytes = Math.max(0, Math.min(into.byteLength, (await file.size()) - at));
      for (let from = 0; from < bytes; ) {
        const to = Math.min(bytes, from + PAGE_BYTES - ((at + from) % PAGE_BYTES));
        const page = into.subarray(from, to);
        try {
          await file.read(page, at + from);
        } catch (error) {
          if (!isBadSector(error)) throw error;
          page.fill(0);
        }
        from = to;
      }
      return bytes;
    },
  };
}

function isBadSector(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EIO';
}

function unchanged(file: File): Omit<File, 'read'> {
  return {
    write: (bytes, at) => file.write(bytes, at),
    truncate: (length) => file.truncate(length),
    sync: () => file.sync(),
    size: () => file.size(),
    close: () => file.close(),
  };
}
