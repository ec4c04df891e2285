import { concatInTurns, crcInTurns } from './in-turns.ts';

/** Batches are stored by class, and those that the upstream rejected for good separately. */
export const AREAS = ['critical', 'high', 'normal', 'rejected'] as const;
export type Area = (typeof AREAS)[number];

/** Metadata of a batch. Stored as JSON, so that it is readable without this program. */
export interface Envelope {
  /** Batch id. */
  id: string;
  signal: string;
  class: string;
  items: number;
  /** Encoding in which the payload came; it is stored decompressed. */
  encoding: string;
  /** Unix ms. */
  receivedAt: number;
  /** Why it was spilled. */
  reason: string;
  /** Last HTTP status of the upstream, if it answered. */
  status?: number;
  /** The upstream's message. */
  message?: string;
  attempts?: number;
}

export interface Record {
  envelope: Envelope;
  payload: Uint8Array;
}

/** What `signal` may be. */
export const RECORD_SIGNALS: readonly string[] = ['traces', 'metrics', 'logs', 'profiles'];
/** More than any batch has; small enough that the accounting stays exact with as many batches as there may be. */
export const ITEMS_MAX = 1_000_000_000;
/** Latest time that a Date represents, Unix ms. */
const TIME_MAX_MS = 8.64e15;
/** What can be part of a key in Redis, of JSON that its scripts read, and a word of the outcomes that they write: ASCII. */
const ID = /^[!-~]+$/;

/** length (4) + CRC-32C (4) + length of the envelope (4). */
const RECORD_HEADER_BYTES = 12;

/** Encodes a record, before compression. */
export async function encodeRecord({ envelope, payload }: Record): Promise<Buffer> {
  const json = Buffer.from(JSON.stringify(envelope));
  const record = await concatInTurns([Buffer.alloc(RECORD_HEADER_BYTES), json, payload]);
  record.writeUInt32LE(record.byteLength - 4, 0);
  record.writeUInt32LE(json.byteLength, 8);
  record.writeUInt32LE(await crcInTurns(record, 8), 4);
  return record;
}

/**
 * Reads the record at `at`.
 * @returns the record unless it is damaged, which includes an odd envelope, and its end; undefined if the end is unknown, so that
 *   nothing after it can be read
 */
export async function decodeRecord(
  block: Buffer,
  at: number,
): Promise<{ record: Record | undefined; end: number } | undefined> {
  if (at + RECORD_HEADER_BYTES > block.byteLength) return undefined;
  const end = at + 4 + block.readUInt32LE(at);
  if (end > block.byteLength || end < at + RECORD_HEADER_BYTES) return undefined;
  const damaged = { record: undefined, end };
  if ((await crcInTurns(block, at + 8, end)) !== block.readUInt32LE(at + 4)) return damaged;
  const payloadAt = at + RECORD_HEADER_BYTES + block.readUInt32LE(at + 8);
  if (payloadAt > end) return damaged;
  try {
    const envelope: unknown = JSON.parse(block.toString('utf8', at + RECORD_HEADER_BYTES, payloadAt));
    return isEnvelope(envelope)
      ? { record: { envelope, payload: block.subarray(payloadAt, end) }, end }
      : damaged;
  } catch {
    return damaged;
  }
}

/** Right checksums do not make it one, and one odd value would stop the replay of all other records. */
function isEnvelope(json: unknown): json is Envelope {
  if (typeof json !== 'object' || json === null) return false;
  const {
    id,
    signal,
    class: ofClass,
    items,
    encoding,
    receivedAt,
    reason,
    status,
    message,
    attempts,
  } = json as { [K in keyof Envelope]: unknown };
  return (
    typeof id === 'string' &&
    ID.test(id) &&
    RECORD_SIGNALS.includes(signal as string) &&
    typeof ofClass === 'string' &&
    isBetween(0, items, ITEMS_MAX) &&
    Number.isInteger(items) &&
    typeof encoding === 'string' &&
    isBetween(0, receivedAt, TIME_MAX_MS) &&
    typeof reason === 'string' &&
    (status === undefined || typeof status === 'number') &&
    (message === undefined || typeof message === 'string') &&
    (attempts === undefined || typeof attempts === 'number')
  );
}

function isBetween(min: number, value: unknown, max: number): boolean {
  return typeof value === 'number' && value >= min && value <= max;
}
