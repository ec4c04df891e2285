import { createZstdDecompress } from 'node:zlib';
import { compress, decompress } from '@mongodb-js/zstd';
import { crc32c } from './crc32c.ts';
import { decodeRecord, encodeRecord, type Record } from './record.ts';

/** "NRDB". */
const MAGIC = 0x4244524e;
export const BLOCK_HEADER_BYTES = 56;
const CRC_AT = BLOCK_HEADER_BYTES - 4;
const UINT32_MAX = 2 ** 32 - 1;
/** Also the default of the package, whose 1.2.2 does not pass the level on. */
const ZSTD_LEVEL = 3;
/** No writer makes larger ones, but for a single larger record; a reader takes no header's word for more. */
const BLOCK_RAW_MAX_BYTES = 256 * 1024 * 1024;

export interface BlockHeader {
  /** Bytes of the compressed records behind the header. */
  storedBytes: number;
  rawBytes: number;
  records: number;
  items: number;
  /** Number of its first record in the segment. */
  firstRecord: number;
  /** Items in the segment before it: with these a lost block header does not hide how much it stood for. */
  itemsBefore: number;
  /** CRC-32C of the compressed records. */
  storedCrc: number;
  /** Earliest and latest of its records, Unix ms. */
  firstReceivedAt: number;
  lastReceivedAt: number;
}

/** A block whose place is not known yet. */
export interface PackedBlock {
  header: Omit<BlockHeader, 'firstRecord' | 'itemsBefore'>;
  stored: Buffer;
}

/** Packs records into one block. zstd works off the main thread. */
export async function packBlock(records: readonly Record[]): Promise<PackedBlock> {
  const encoded = records.map(encodeRecord);
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
      storedCrc: crc32c(stored),
      firstReceivedAt: times.reduce((a, b) => Math.min(a, b)),
      lastReceivedAt: times.reduce((a, b) => Math.max(a, b)),
    },
    stored,
  };
}

/** One odd number must not keep the records beside it from the disk. */
function whole(value: number): number {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER ? Math.trunc(value) : 0;
}

/**
 * What stands before the blocks of a group: a block without records. All before it was on the disk, and acknowledged, when
 * it was written. So a place that can't be read is damage when there is a mark behind it, and otherwise part of a group
 * whose pages the disk was still writing, in whatever order.
 */
export function encodeMark(
  before: Pick<BlockHeader, 'firstRecord' | 'itemsBefore'>,
  group: readonly PackedBlock[],
): Buffer {
  const headers = group.map(({ header }) => header);
  return encodeBlockHeader({
    ...before,
    storedBytes: 0,
    rawBytes: 0,
    records: 0,
    items: 0,
    storedCrc: 0,
    firstReceivedAt: headers.map((header) => header.firstReceivedAt).reduce((a, b) => Math.min(a, b)),
    lastReceivedAt: headers.map((header) => header.lastReceivedAt).reduce((a, b) => Math.max(a, b)),
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

/** Reads a block header; undefined when it is none, or damaged. */
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

/** Start-up reads many of these; a BigInt each is what it would spend its time on. */
function readUInt64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
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
    const decoded = decodeRecord(raw, at);
    if (!decoded) break;
    entry.record = decoded.record;
    at = decoded.end;
  }
  return entries;
}

/** What zstd can make of a damaged frame: it has parts of 128 KiB at most, and those before the damage come out whole. */
function salvage(stored: Buffer, rawBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve) => {
    const stream = createZstdDecompress();
    // What is behind the damage is lost; the checksum of each record judges what came before it.
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
