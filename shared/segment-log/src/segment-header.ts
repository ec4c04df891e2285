import { crc32c } from './crc32c.ts';
import { AREAS, type Area } from './record.ts';

const MAGIC = Buffer.from('NRDSEG\r\n', 'latin1');
export const FORMAT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 512;
const COMPRESSION_ZSTD = 1;
const CRC_AT = SEGMENT_HEADER_BYTES - 4;
export const SHA256_BYTES = 32;

export interface SegmentHeader {
  area: Area;
  sequence: number;
  /** Unix ms. */
  createdAt: number;
  /** Set when the segment is sealed; all below it is 0 before. */
  sealedAt: number;
  firstReceivedAt: number;
  lastReceivedAt: number;
  records: number;
  items: number;
  /** Records before compression. */
  rawBytes: number;
  /** Blocks, headers included: what follows this header. */
  bodyBytes: number;
  /** Of the body. */
  sha256: Buffer;
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(FORMAT_VERSION, 8);
  bytes.writeUInt8(AREAS.indexOf(header.area), 10);
  bytes.writeUInt8(COMPRESSION_ZSTD, 11);
  bytes.writeBigUInt64LE(BigInt(header.sequence), 16);
  bytes.writeBigUInt64LE(BigInt(header.createdAt), 24);
  bytes.writeBigUInt64LE(BigInt(header.sealedAt), 32);
  bytes.writeBigUInt64LE(BigInt(header.firstReceivedAt), 40);
  bytes.writeBigUInt64LE(BigInt(header.lastReceivedAt), 48);
  bytes.writeBigUInt64LE(BigInt(header.records), 56);
  bytes.writeBigUInt64LE(BigInt(header.items), 64);
  bytes.writeBigUInt64LE(BigInt(header.rawBytes), 72);
  bytes.writeBigUInt64LE(BigInt(header.bodyBytes), 80);
  header.sha256.copy(bytes, 88, 0, SHA256_BYTES);
  bytes.writeUInt32LE(crc32c(bytes, 0, CRC_AT), CRC_AT);
  return bytes;
}

/** @returns undefined when it is no header of ours, or damaged */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return undefined;
  if (crc32c(bytes, 0, CRC_AT) !== bytes.readUInt32LE(CRC_AT)) return undefined;
  const area = AREAS[bytes.readUInt8(10)];
  if (bytes.readUInt16LE(8) !== FORMAT_VERSION || area === undefined) return undefined;
  const u64 = (at: number) => Number(bytes.readBigUInt64LE(at));
  return {
    area,
    sequence: u64(16),
    createdAt: u64(24),
    sealedAt: u64(32),
    firstReceivedAt: u64(40),
    lastReceivedAt: u64(48),
    records: u64(56),
    items: u64(64),
    rawBytes: u64(72),
    bodyBytes: u64(80),
    sha256: Buffer.from(bytes.subarray(88, 88 + SHA256_BYTES)),
  };
}
