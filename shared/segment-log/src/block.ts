import { createZstdDecompress } from 'node:zlib';
import { compress, decompress } from '@mongodb-js/zstd';
import { crc32c } from './crc32c.ts';
import { crcInTurns } from './in-turns.ts';
import { decodeRecord, encodeRecord, type Record } from './record.ts';

/** "NRDB". */
const MAGIC = 0x4244524e;
export const BLOCK_HEADER_BYTES = 56;
const CRC_AT = BLOCK_HEADER_BYTES - 4;
const UINT32_MAX = 2 ** 32 - 1;
/** Also the package's default, whose version 1.2.2 ignores the level. */
const ZSTD_LEVEL = 3;
/** Writers make no larger blocks, except for a single larger record; readers trust no header that says more. */
const BLOCK_RAW_MAX_BYTES = 256 * 1024 * 1024;

export interface BlockHeader {
  /** Bytes of the compressed records after the header. */
  storedBytes: number;
  rawBytes: number;
  records: number;
  items: number;
  /** Number of its first record in the segment. */
  firstRecord: number;
  /** Items before it in the segment, so that the items of a lost block are known. */
  itemsBefore: number;
  /** CRC-32C of the compressed records. */
  storedCrc: number;
  /** Earliest and latest time of receipt, Unix ms. */
  firstReceivedAt: number;
  lastReceivedAt: number;
}

/** A block without its position in a segment. */
export interface PackedBlock {
  header: Omit<BlockHeader, 'firstRecord' | 'itemsBefore'>;
  stored: Buffer;
}

/** Packs records into one block. zstd runs off the main thread. */
export async function packBlock(records: readonly Record[]): Promise<PackedBlock> {
  const encoded = await Promise.all(records.map(encodeRecord));
  const raw = encoded.length === 1 ? encoded[0]! : Buffer.concat(encoded);
  const times = records.map(({ envelope }) => whole(envelope.receivedAt));
  const items = records.reduce((sum, { envelope }) => sum + whole(envelope.items), 0);
  const stored = await compress(raw, ZSTD_LEVEL);
  return {
    header: {
      storedBytes: stored.byteLength,
      rawBytes: raw.byteLength,
      records: records.length,
      items,
      storedCrc: await crcInTurns(stored),
      firstReceivedAt: times.reduce((a, b) => Math.min(a, b)),
      lastReceivedAt: times.reduce((a, b) => Math.max(a, b)),
    },
    stored,
  };
}

/** An odd number in one record must not keep the others from the disk. */
function whole(value: number): number {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER ? Math.trunc(value) : 0;
}

/**
 * A mark that precedes the blocks of a group: a block without records. When it was written, everything before it was on disk
 * and acknowledged. So unreadable data before a mark is damage; after the last one it may be part of a group that was being
 * written, in any order of pages.
 */
export function encodeMark(
  before: Pick<BlockHeader, 'firstRecord' | 'itemsBefore'>,
  group: readonly PackedBlock[],
): Buffer {
  return encodeBlockHeader({
    ...before,
    ...{ storedBytes: 0, rawBytes: 0, records: 0, items: 0, storedCrc: 0 },
    firstReceivedAt: Math.min(...group.map(({ header }) => header.firstReceivedAt)),
    lastReceivedAt: Math.max(...group.map(({ header }) => header.lastReceivedAt)),
  });
}

export function isMark(header: BlockHeader): boolean {
  return header.records === 0;
}

export function encodeBlockHeader(header: BlockHeader): Buffer {
  const bytes = Buffer.alloc(BLOCK_HEADER_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(header.storedBytes, 4);
  bytes.writeUInt32LE(header.rawBytes, 8);
  bytes.writeUInt32LE(header.records, 12);
  bytes.writeBigUInt64LE(BigInt(header.items), 16);
  bytes.writeUInt32LE(header.firstRecord, 24);
  bytes.writeUInt32LE(header.storedCrc, 28);
  bytes.writeBigUInt64LE(BigInt(header.firstReceivedAt), 32);
  bytes.writeBigUInt64LE(BigInt(header.lastReceivedAt), 40);
  bytes.writeUInt32LE(Math.min(header.itemsBefore, UINT32_MAX), 48);
  bytes.writeUInt32LE(crc32c(bytes, 0, CRC_AT), CRC_AT);
  return bytes;
}

/** Reads a block header; undefined if there is none or it is damaged. */
export function decodeBlockHeader(bytes: Buffer, at = 0): BlockHeader | undefined {
  if (at + BLOCK_HEADER_BYTES > bytes.byteLength || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  if (crc32c(bytes, at, at + CRC_AT) !== bytes.readUInt32LE(at + CRC_AT)) return undefined;
  const header = {
    storedBytes: bytes.readUInt32LE(at + 4),
    rawBytes: bytes.readUInt32LE(at + 8),
    records: bytes.readUInt32LE(at + 12),
    items: readUInt64(bytes, at + 16),
    firstRecord: bytes.readUInt32LE(at + 24),
    storedCrc: bytes.readUInt32LE(at + 28),
    firstReceivedAt: readUInt64(bytes, at + 32),
    lastReceivedAt: readUInt64(bytes, at + 40),
    itemsBefore: bytes.readUInt32LE(at + 48),
  };
  return header.rawBytes <= BLOCK_RAW_MAX_BYTES ? header : undefined;
}

/** Avoids BigInts, which would dominate the time of start-up. */
function readUInt64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
}

/** A record of a block, or its position if it is damaged. */
export interface BlockEntry {
  /** Number in the segment. */
  index: number;
  record: Record | undefined;
}

/**
 * Unpacks a block; of a damaged one, whatever is still readable.
 * @returns one entry for each record by the header
 */
export async function decodeBlock(header: BlockHeader, stored: Buffer, intact = true): Promise<BlockEntry[]> {
  if (isMark(header)) return [];
  const entries: BlockEntry[] = Array.from({ length: header.records }, (_, i) => ({
    index: header.firstRecord + i,
    record: undefined,
  }));
  const raw = intact
    ? await decompress(stored).catch(() => salvage(stored, header.rawBytes))
    : await salvage(stored, header.rawBytes);
  let at = 0;
  for (const entry of entries) {
    const decoded = await decodeRecord(raw, at);
    if (!decoded) break;
    entry.record = decoded.record;
    at = decoded.end;
  }
  return entries;
}

/**
 * Decodes a damaged frame as far as zstd can: it consists of parts of up to 128 KiB, and those before the damage are intact.
 */
function salvage(stored: Buffer, rawBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve) => {
    const stream = createZstdDecompress();
    // What follows the damage is lost; the checksums of the records decide about what precedes it.
    const done = () => {
      resolve(Buffer.concat(chunks));
      stream.destroy();
    };
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.byteLength;
      if (bytes > rawBytes) done();
    });
    stream.on('error', done).on('end', done).end(stored);
  });
}
