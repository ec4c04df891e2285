import { setImmediate as turn } from 'node:timers/promises';

/** Copied in one go: a few ms, including page faults. */
const TURN_BYTES = 4 * 1024 * 1024;

/**
 * Concatenates all parts into new memory, with pauses between slices so that other work runs. The first slice is copied before
 * this returns, so a single part of up to 4 MiB may be a scratch buffer.
 */
export async function joinInTurns(parts: readonly Uint8Array[]): Promise<Buffer<ArrayBuffer>> {
  const joined = Buffer.allocUnsafeSlow(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  let left = TURN_BYTES;
  for (const part of parts) {
    for (let from = 0; from < part.byteLength; ) {
      if (left === 0) {
        await turn();
        left = TURN_BYTES;
      }
      const piece = part.subarray(from, from + left);
      joined.set(piece, at);
      at += piece.byteLength;
      from += piece.byteLength;
      left -= piece.byteLength;
    }
  }
  return joined;
}
