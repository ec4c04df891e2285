/** Reads segments from FORMAT.md alone, with nothing of the product's code: what a stranger would write. */
import { createHash } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';

export interface IndependentRecord {
  envelope: { id: string; items: number; class: string; receivedAt: number };
  payload: Buffer;
}

export function readSegment(file: Buffer): { sealed: boolean; records: IndependentRecord[]; items: number } {
  if (file.toString('latin1', 0, 8) !== 'NRDSEG\r\n') throw new Error('no segment');
  if (file.readUInt16LE(8) !== 1) throw new Error('unknown version');
  if (slowCrc32c(file.subarray(0, 32)) !== file.readUInt32LE(32)) throw new Error('damaged header');
  const sealed = slowCrc32c(file.subarray(40, 508)) === file.readUInt32LE(508);
  const body = file.subarray(512);
  if (sealed) {
    if (BigInt(body.byteLength) !== file.readBigUInt64LE(88)) throw new Error('wrong length');
    if (!createHash('sha256').update(body).digest().equals(file.subarray(96, 128)))
      throw new Error('wrong hash');
  }
  const records: IndependentRecord[] = [];
  for (let at = 0; at < body.byteLength; ) {
    if (body.toString('latin1', at, at + 4) !== 'NRDB') throw new Error('no block');
    if (slowCrc32c(body.subarray(at, at + 52)) !== body.readUInt32LE(at + 52))
      throw new Error('damaged block header');
    const stored = body.subarray(at + 56, at + 56 + body.readUInt32LE(at + 4));
    if (slowCrc32c(stored) !== body.readUInt32LE(at + 28)) throw new Error('damaged block');
    const first = Number(body.readBigUInt64LE(at + 32));
    const last = Number(body.readBigUInt64LE(at + 40));
    const raw = stored.byteLength > 0 ? zstdDecompressSync(stored) : Buffer.alloc(0);
    if (raw.byteLength !== body.readUInt32LE(at + 8)) throw new Error('wrong raw length');
    if (body.readUInt32LE(at + 24) !== records.length) throw new Error('wrong record number');
    if (body.readUInt32LE(at + 48) !== records.reduce((sum, { envelope }) => sum + envelope.items, 0))
      throw new Error('wrong number of items before it');
    for (let r = 0; r < raw.byteLength; ) {
      const end = r + 4 + raw.readUInt32LE(r);
      if (slowCrc32c(raw.subarray(r + 8, end)) !== raw.readUInt32LE(r + 4)) throw new Error('damaged record');
      const payloadAt = r + 12 + raw.readUInt32LE(r + 8);
      const envelope = JSON.parse(raw.toString('utf8', r + 12, payloadAt)) as IndependentRecord['envelope'];
      if (envelope.receivedAt < first || envelope.receivedAt > last) throw new Error('wrong received times');
      records.push({ envelope, payload: raw.subarray(payloadAt, end) });
      r = end;
    }
    at += 56 + stored.byteLength;
  }
  const items = records.reduce((sum, { envelope }) => sum + envelope.items, 0);
  if (
    sealed &&
    (Number(file.readBigUInt64LE(64)) !== records.length || Number(file.readBigUInt64LE(72)) !== items)
  ) {
    throw new Error('wrong counts');
  }
  return { sealed, records, items };
}

/** Bit by bit, from the definition. */
function slowCrc32c(bytes: Buffer): number {
  let c = 0xffffffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  }
  return (c ^ 0xffffffff) >>> 0;
}
