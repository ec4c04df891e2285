import { setImmediate as turn } from 'node:timers/promises';

/** What is copied at once: some ms, pages that have to be mapped first included. */
const TURN_BYTES = 4 * 1024 * 1024;

/**
 * The bytes of all parts, in memory of their own. Of much, some at a time: between them others have their turn. What is copied
 * first is copied before this returns, so a single part of up to 4 MiB may be borrowed.
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
