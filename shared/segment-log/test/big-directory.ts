import { closeSync, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { encodeBlockHeader, packBlock } from '../src/block.ts';
import { AREAS, type Area } from '../src/record.ts';
import { segmentName } from '../src/segment.ts';
import { encodeIdentity, encodeSeal, SEAL_AT, SEGMENT_HEADER_BYTES } from '../src/segment-header.ts';
import { noise, record } from './fixture.ts';

/**
 * Lays down what 15 GiB of batches leave behind: sealed segments with valid headers and holes for bodies, and in each
 * area one that a crash left open, with real blocks of a single record each: the smaller it is, the more there is to read.
 */
export async function layDownBigDirectory(
  dir: string,
  size: { sealed: number; segmentBytes: number; openBytes: number; payloadBytes: number },
  /** For a program that checks sums and drops what is old: when all that was received, and the sum of a body of holes. */
  { receivedAt = 2_000, sha256 = Buffer.alloc(32, 1) }: { receivedAt?: number; sha256?: Buffer } = {},
): Promise<{ records: number }> {
  let records = 0;
  for (const area of AREAS) {
    mkdirSync(join(dir, area), { recursive: true });
    const perArea = Math.ceil(size.sealed / AREAS.length);
    for (let sequence = 1; sequence <= perArea; sequence++) {
      const file = openSync(join(dir, area, segmentName(sequence, false)), 'w');
      writeSync(
        file,
        encodeIdentity({
          area,
          sequence,
          createdAt: receivedAt - 1_000,
          hasMarks: false,
          writtenBy: undefined,
        }),
      );
      const seal = encodeSeal({
        sealedAt: receivedAt,
        firstReceivedAt: receivedAt - 1_000,
        lastReceivedAt: receivedAt,
        records: 5_000,
        items: 500_000,
        rawBytes: size.segmentBytes * 4,
        bodyBytes: size.segmentBytes - SEGMENT_HEADER_BYTES,
        sha256,
      });
      writeSync(file, seal, 0, seal.byteLength, SEAL_AT);
      ftruncateSync(file, size.segmentBytes);
      closeSync(file);
      records += 5_000;
    }
    records += await openSegment(dir, area, perArea + 1, size);
  }
  return { records };
}

async function openSegment(
  dir: string,
  area: Area,
  sequence: number,
  { openBytes, payloadBytes }: { openBytes: number; payloadBytes: number },
): Promise<number> {
  const file = openSync(join(dir, area, segmentName(sequence, true)), 'w');
  writeSync(
    file,
    encodeIdentity({ area, sequence, createdAt: 1_000, hasMarks: false, writtenBy: undefined }),
  );
  const one = record('x', 1, 0, area);
  one.payload = noise(payloadBytes, 1);
  const { header, stored } = await packBlock([one]);
  let n = 0;
  let chunk: Buffer[] = [];
  let chunkBytes = 0;
  for (let left = openBytes - SEGMENT_HEADER_BYTES; left > 0; ) {
    const block = [encodeBlockHeader({ ...header, firstRecord: n, itemsBefore: n++ * header.items }), stored];
    chunk.push(...block);
    chunkBytes += block[0]!.byteLength + stored.byteLength;
    left -= block[0]!.byteLength + stored.byteLength;
    if (chunkBytes < 1024 * 1024 && left > 0) continue;
    writeSync(file, Buffer.concat(chunk));
    chunk = [];
    chunkBytes = 0;
  }
  closeSync(file);
  return n;
}
