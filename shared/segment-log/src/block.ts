import { compress, decompress } from '@mongodb-js/zstd';
import { crc32c } from './crc32c.ts';
import { decodeRecord, type Record } from './record.ts';

/** "NRDB". */
const MAGIC = 0x4244524e;
export const BLOCK_HEADER_BYTES = 40;
export const ZSTD_LEVEL = 3;
/** No writer makes larger ones, but for a single larger record; a reader takes no header's word for more. */
export const BLOCK_RAW_MAX_BYTES = 256 * 1024 * 1024;

export interface BlockHeader {
  /** Bytes of the compressed records behind the header. */
  storedBytes: number;
  rawBytes: number;
  records: number;
  items: number;
  /** Number of its first record in the segment. */
  firstRecord: number;
  /** CRC-32C of the compressed records. */
  storedCrc: number;
}

/** Packs encoded records into one block. zstd works off the main thread. */
export async function encodeBlock(
  records: readonly Buffer[],
  items: number,
  firstRecord: number,
): Promise<Buffer> {
  const raw = records.length === 1 ? records[0]! : Buffer.concat(records);
  const stored = await compress(raw, ZSTD_LEVEL);
  const header = Buffer.alloc(BLOCK_HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(stored.byteLength, 4);
  header.writeUInt32LE(raw.byteLength, 8);
  header.writeUInt32LE(records.length, 12);
  header.writeBigUInt64LE(BigInt(items), 16);
  header.writeUInt32LE(firstRecord, 24);
  header.writeUInt32LE(crc32c(stored), 28);
  header.writeUInt32LE(0, 32);
  header.writeUInt32LE(crc32c(header, 0, 36), 36);
  return Buffer.concat([header, stored]);
}

/** Reads a block header; undefined when it is none, or damaged. */
export function decodeBlockHeader(bytes: Buffer, at = 0): BlockHeader | undefined {
  if (at + BLOCK_HEADER_BYTES > bytes.byteLength || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  if (crc32c(bytes, at, at + 36) !== bytes.readUInt32LE(at + 36)) return undefined;
  const header = {
    storedBytes: bytes.readUInt32LE(at + 4),
    rawBytes: bytes.readUInt32LE(at + 8),
    records: bytes.readUInt32LE(at + 12),
    items: Number(bytes.readBigUInt64LE(at + 16)),
    firstRecord: bytes.readUInt32LE(at + 24),
    storedCrc: bytes.readUInt32LE(at + 28),
  };
  return header.rawBytes <= BLOCK_RAW_MAX_BYTES ? header : undefined;
}

/** A record of a block, or its place when it is damaged. */
export interface BlockEntry {
  /** Number in the segment. */
  index: number;
  record: Record | undefined;
}

/**
 * Unpacks a block. A damaged one gives what can still be read of it.
 * @returns one entry for each record the header promises
 */
export async function decodeBlock(header: BlockHeader, stored: Buffer): Promise<BlockEntry[]> {
  const entries: BlockEntry[] = Array.from({ length: header.records }, (_, i) => ({
    index: header.firstRecord + i,
    record: undefined,
  }));
  let raw: Buffer;
  try {
    raw = await decompress(stored);
  } catch {
    return entries; // zstd says so itself when what is left is no frame
  }
  let at = 0;
  for (const entry of entries) {
    const decoded = decodeRecord(raw, at);
    if (!decoded) break;
    entry.record = decoded.record;
    at = decoded.end;
  }
  return entries;
}
