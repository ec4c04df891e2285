import { type ContentEncoding, decodeContent, type Signal, walk } from '@nrdot/otlp';
import { type JobData, type Origin, timeOfBatch } from '../batch.ts';

/** Profiles are opaque: whatever has bytes is one. */
const SIGNALS: readonly Signal[] = ['traces', 'metrics', 'logs'];
const FIRST_BYTES: readonly (readonly [ContentEncoding, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['deflate', [0x78]],
];

/**
 * What a payload is whose job is gone: its bytes say which signal and how many items; its class nobody knows any more, so it is normal.
 * @param key names it; batches that came from the dlq's disk have a key of another first letter, and none of them was handed over
 * @returns undefined when it can be read as none of the signals, or as more than one
 */
export async function jobDataOfLone(
  key: string,
  payload: Buffer,
  maxBytes: number,
  nowMs: number,
): Promise<JobData | undefined> {
  const encoding =
    FIRST_BYTES.find(([, bytes]) => bytes.every((byte, i) => payload[i] === byte))?.[0] ?? 'identity';
  let plain: Buffer;
  try {
    plain = await decodeContent(payload, encoding, { maxBytes });
  } catch {
    return undefined;
  }
  const found = SIGNALS.flatMap((signal) => {
    try {
      const { items } = walk(signal, plain);
      return items > 0 ? [{ signal, items }] : [];
    } catch {
      return [];
    }
  });
  if (found.length !== 1) return undefined;
  const [{ signal, items }] = found as [(typeof found)[number]];
  const origin: Origin = /^[rx]/.test(key) && !key.includes('-') ? 'replay' : 'live';
  const bytes = payload.byteLength;
  const receivedAt = timeOfBatch(key) ?? nowMs;
  return {
    signal,
    class: 'normal',
    origin,
    encoding,
    items,
    bytes,
    batches: [{ key, items, bytes, receivedAt }],
  };
}
