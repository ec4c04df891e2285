import { setImmediate as turn } from 'node:timers/promises';
import { crc32c } from './crc32c.ts';

/** Copied, or checked, in one turn of the event loop: some milliseconds. A batch may have 64 MiB. */
const TURN_BYTES = 4 * 1024 * 1024;

/** Calls `work` for one range after the other, with pauses between them in which other work runs. */
async function inTurns(start: number, end: number, work: (from: number, to: number) => void): Promise<void> {
  for (let from = start; from < end; ) {
    const to = Math.min(end, from + TURN_BYTES);
    work(from, to);
    from = to;
    if (from < end) await turn();
  }
}

export async function crcInTurns(bytes: Uint8Array, start = 0, end = bytes.byteLength): Promise<number> {
  let crc = 0;
  await inTurns(start, end, (from, to) => {
    crc = crc32c(bytes, from, to, crc);
  });
  return crc;
}

export async function concatInTurns(parts: readonly Uint8Array[]): Promise<Buffer> {
  const bytes = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
  if (bytes <= TURN_BYTES) return Buffer.concat(parts, bytes);
  const whole = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  let copied = 0;
  for (const part of parts) {
    if ((copied += part.byteLength) > TURN_BYTES) {
      copied = part.byteLength;
      await turn();
    }
    await inTurns(0, part.byteLength, (from, to) => whole.set(part.subarray(from, to), at + from));
    at += part.byteLength;
  }
  return whole;
}

export async function hashInTurns(
  hash: { update(bytes: Uint8Array): unknown },
  bytes: Uint8Array,
): Promise<void> {
  await inTurns(0, bytes.byteLength, (from, to) => void hash.update(bytes.subarray(from, to)));
}
