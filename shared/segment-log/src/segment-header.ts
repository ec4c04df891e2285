import { crc32c } from './crc32c.ts';
import { AREAS, type Area } from './record.ts';

const MAGIC = Buffer.from('NRDSEG\r\n', 'latin1');
export const FORMAT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 512;
const COMPRESSION_ZSTD = 1;
const WRITER_AT = 12;
const WRITER_BYTES = 3;
const FLAGS_AT = 15;
const HAS_MARKS = 1;
const IDENTITY_CRC_AT = 32;
/** Start of the part that is zero until the segment is sealed. */
export const SEAL_AT = 40;
const SEAL_CRC_AT = SEGMENT_HEADER_BYTES - 4;
/** The seal's numbers in their order, 8 bytes each. */
const SEAL_NUMBERS = [
  ...(['sealedAt', 'firstReceivedAt', 'lastReceivedAt'] as const),
  ...(['records', 'items', 'rawBytes', 'bodyBytes'] as const),
] as const;
const SHA256_AT = SEAL_AT + 8 * SEAL_NUMBERS.length;
const SHA256_BYTES = 32;

/** Identifies a segment: written when the file is created, and never changed. */
export interface Identity {
  area: Area;
  sequence: number;
  /** Unix ms. */
  createdAt: number;
  /** Whether each group of blocks begins with a mark; not in old segments. */
  hasMarks: boolean;
  /** Version of the program, as 1.2.3; undefined in segments without it. */
  writtenBy: string | undefined;
}

/** Summary of the body: written once, when nothing is appended any more. */
export interface Seal {
  sealedAt: number;
  firstReceivedAt: number;
  lastReceivedAt: number;
  records: number;
  items: number;
  /** Size of the records before compression. */
  rawBytes: number;
  /** Size of the blocks with their headers: all that follows this header. */
  bodyBytes: number;
  /** Of the body. */
  sha256: Buffer;
}

export interface SegmentHeader extends Identity {
  /** Undefined before the segment is sealed, and if this part is damaged or torn. */
  seal: Seal | undefined;
}

/** The complete header of an open segment. */
export function encodeIdentity({ area, sequence, createdAt, hasMarks, writtenBy = '' }: Identity): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(FORMAT_VERSION, 8);
  bytes.writeUInt8(AREAS.indexOf(area), 10);
  bytes.writeUInt8(COMPRESSION_ZSTD, 11);
  for (const [i, part] of writtenBy.split('.').slice(0, WRITER_BYTES).entries())
    bytes.writeUInt8(Math.min(Number.parseInt(part, 10) || 0, 255), WRITER_AT + i);
  bytes.writeUInt8(hasMarks ? HAS_MARKS : 0, FLAGS_AT);
  bytes.writeBigUInt64LE(BigInt(sequence), 16);
  bytes.writeBigUInt64LE(BigInt(createdAt), 24);
  bytes.writeUInt32LE(crc32c(bytes, 0, IDENTITY_CRC_AT), IDENTITY_CRC_AT);
  return bytes;
}

/** What is written at `SEAL_AT`. */
export function encodeSeal(seal: Seal): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  for (const [i, name] of SEAL_NUMBERS.entries()) bytes.writeBigUInt64LE(BigInt(seal[name]), SEAL_AT + 8 * i);
  seal.sha256.copy(bytes, SHA256_AT, 0, SHA256_BYTES);
  bytes.writeUInt32LE(crc32c(bytes, SEAL_AT, SEAL_CRC_AT), SEAL_CRC_AT);
  return bytes.subarray(SEAL_AT);
}

/** Magic, format version, writer and their CRC stay in place in every future format. */
function isIdentityWhole(bytes: Buffer): boolean {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return false;
  return crc32c(bytes, 0, IDENTITY_CRC_AT) === bytes.readUInt32LE(IDENTITY_CRC_AT);
}

/** Format and writer of a header from a later version; undefined for any other, damaged ones included. */
export function newerFormat(bytes: Buffer): { format: number; writtenBy: string | undefined } | undefined {
  if (!isIdentityWhole(bytes)) return undefined;
  const format = bytes.readUInt16LE(8);
  return format > FORMAT_VERSION ? { format, writtenBy: writerOf(bytes) } : undefined;
}

function writerOf(bytes: Buffer): string | undefined {
  const parts = [...bytes.subarray(WRITER_AT, WRITER_AT + WRITER_BYTES)];
  return parts.some((part) => part > 0) ? parts.join('.') : undefined;
}

/** @returns undefined if it is no segment header, or its identity is damaged */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (!isIdentityWhole(bytes)) return undefined;
  const area = AREAS[bytes.readUInt8(10)];
  if (bytes.readUInt16LE(8) !== FORMAT_VERSION || area === undefined) return undefined;
  const u64 = (at: number) => Number(bytes.readBigUInt64LE(at));
  const identity = {
    area,
    sequence: u64(16),
    createdAt: u64(24),
    hasMarks: (bytes.readUInt8(FLAGS_AT) & HAS_MARKS) > 0,
    writtenBy: writerOf(bytes),
  };
  const sealed = crc32c(bytes, SEAL_AT, SEAL_CRC_AT) === bytes.readUInt32LE(SEAL_CRC_AT);
  if (!sealed) return { ...identity, seal: undefined };
  const numbers = SEAL_NUMBERS.map((name, i) => [name, u64(SEAL_AT + 8 * i)]);
  const sha256 = Buffer.from(bytes.subarray(SHA256_AT, SHA256_AT + SHA256_BYTES));
  return { ...identity, seal: { ...Object.fromEntries(numbers), sha256 } as Seal };
}

/** What is wrong with a segment's header, for people; undefined if nothing is. */
export function wrongHeader(
  header: SegmentHeader | undefined,
  { area, sequence }: Pick<Identity, 'area' | 'sequence'>,
  open: boolean,
): string | undefined {
  if (!header) return 'its header is damaged';
  if (header.area !== area || header.sequence !== sequence)
    return `its header says that it is segment ${header.sequence} of ${header.area}`;
  return open || header.seal ? undefined : 'the seal in its header is damaged';
}
