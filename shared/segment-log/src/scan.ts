import { BLOCK_HEADER_BYTES, type BlockHeader, decodeBlockHeader, isMark } from './block.ts';
import type { File } from './file-system.ts';
import { crcInTurns } from './in-turns.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';

/** A block with its position in a file. */
export interface FoundBlock {
  /** Position of its header. */
  at: number;
  end: number;
  header: BlockHeader;
}

const SEARCH_CHUNK_BYTES = 256 * 1024;
/**
 * Window for reading from header to header: a read costs as much as 64 KiB of reading, so a few large reads are better than
 * many small ones.
 */
const WINDOW_MIN_BYTES = 64 * 1024;
const WINDOW_MAX_BYTES = 1024 * 1024;
/** Blocks of about two groups: what was being written when a crash came. */
const TAIL_BLOCKS = 64;
const MAGIC_BYTES = Buffer.from('NRDB', 'latin1');

/** The block whose header begins at `at`, if it is complete. Its content is not checked. */
export async function blockAt(file: File, at: number, size: number): Promise<FoundBlock | undefined> {
  const bytes = Buffer.allocUnsafe(BLOCK_HEADER_BYTES);
  if ((await file.read(bytes, at)) < BLOCK_HEADER_BYTES) return undefined;
  return complete(decodeBlockHeader(bytes), at, size);
}

function complete(header: BlockHeader | undefined, at: number, size: number): FoundBlock | undefined {
  if (!header) return undefined;
  const end = at + BLOCK_HEADER_BYTES + header.storedBytes;
  return end <= size ? { at, end, header } : undefined;
}

/** The next complete block header at or after `at`, to continue behind damage. */
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

/** The compressed content of a block, and whether its checksum is right. */
export async function readStored(file: File, { at, header }: FoundBlock) {
  const stored = Buffer.allocUnsafe(header.storedBytes);
  const read = await file.read(stored, at + BLOCK_HEADER_BYTES);
  const intact = read === stored.byteLength && (await crcInTurns(stored)) === header.storedCrc;
  return { stored, intact };
}

type Scanned = ReturnType<typeof nothing>;

/** What is found in an empty segment. */
function nothing() {
  return {
    ...{ blocks: 0, records: 0, items: 0, rawBytes: 0 },
    /** 0 if there is no block. */
    ...{ firstReceivedAt: 0, lastReceivedAt: 0 },
    /** End of the last complete block: what follows is a torn write. */
    end: SEGMENT_HEADER_BYTES,
    /** Number of unreadable ranges between complete blocks. */
    gaps: 0,
    /** Positions of the last blocks. */
    tail: [] as number[],
  };
}

/**
 * Reads the block headers of an open segment, and the content of the last group. A crash may have left any part of that group;
 * it is kept up to the first incomplete block. Unreadable data before it was acknowledged, so it is damage and left for the
 * salvage.
 * @param hasMarks false for an old segment, in which each block is its own group
 */
export async function scanOpen(file: File, hasMarks: boolean): Promise<Scanned> {
  const size = await file.size();
  const found = nothing();
  const window = new Window(file, size);
  /** Blocks that may not have been acknowledged, and how many there were before each gap. */
  let group: FoundBlock[] = [];
  let gaps: number[] = [];
  for (let at = SEGMENT_HEADER_BYTES; ; ) {
    if (!window.covers(at)) await window.move(at);
    const next = window.block(at) ?? (await nextBlock(file, at, size));
    if (!next) break;
    if (next.at > at) gaps.push(group.length);
    const isBegin = hasMarks
      ? isMark(next.header)
      : gaps.length === 0 || (await readStored(file, next)).intact;
    if (isBegin) {
      for (const block of group) add(found, block);
      found.gaps += gaps.length;
      group = [];
      gaps = [];
    }
    if (isMark(next.header)) countUpTo(found, next);
    else group.push(next);
    at = next.end;
  }
  for (const block of group.slice(0, gaps[0])) {
    if (!(await readStored(file, block)).intact) break;
    add(found, block);
  }
  return found;
}

/** Computes the content of a gap from what follows it. */
function countUpTo(found: Scanned, { header }: FoundBlock): void {
  found.records = Math.max(found.records, header.firstRecord);
  found.items = Math.max(found.items, header.itemsBefore);
}

function add(found: Scanned, block: FoundBlock): void {
  const { at, end, header } = block;
  found.firstReceivedAt =
    found.blocks === 0 ? header.firstReceivedAt : Math.min(found.firstReceivedAt, header.firstReceivedAt);
  found.lastReceivedAt = Math.max(found.lastReceivedAt, header.lastReceivedAt);
  found.blocks++;
  countUpTo(found, block);
  found.records += header.records;
  found.items += header.items;
  found.rawBytes += header.rawBytes;
  found.end = end;
  found.tail.push(at);
  if (found.tail.length > TAIL_BLOCKS) found.tail.shift();
}

/** A part of a file in memory, moved forward. */
class Window {
  readonly #file: File;
  readonly #size: number;
  #bytes = Buffer.alloc(0);
  #start = 0;
  #nextBytes = WINDOW_MIN_BYTES;

  constructor(file: File, size: number) {
    this.#file = file;
    this.#size = size;
  }

  /** Whether a block header at `at` is in memory, or the file ends before it. */
  covers(at: number): boolean {
    const inside = at >= this.#start && at + BLOCK_HEADER_BYTES <= this.#start + this.#bytes.byteLength;
    return inside || at + BLOCK_HEADER_BYTES > this.#size;
  }

  async move(at: number): Promise<void> {
    // Double the window whenever the next block is near, and reset it after a large block.
    const close = at - (this.#start + this.#bytes.byteLength) <= this.#nextBytes;
    this.#nextBytes = close ? Math.min(WINDOW_MAX_BYTES, this.#nextBytes * 2) : WINDOW_MIN_BYTES;
    if (this.#bytes.buffer.byteLength < this.#nextBytes) this.#bytes = Buffer.alloc(this.#nextBytes);
    const into = Buffer.from(this.#bytes.buffer, 0, this.#nextBytes);
    this.#bytes = into.subarray(0, await this.#file.read(into, at));
    this.#start = at;
  }

  block(at: number): FoundBlock | undefined {
    if (at + BLOCK_HEADER_BYTES > this.#size) return undefined;
    return complete(decodeBlockHeader(this.#bytes, at - this.#start), at, this.#size);
  }
}
