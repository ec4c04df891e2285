import { type ContentEncoding, decodeContent, type Signal, walk } from '@nrdot/otlp';
import { type JobData, jobDataOf, type Origin, timeOfBatch } from '../batch.ts';

/** Without profiles, which are opaque: any bytes could be one. */
const SIGNALS: readonly Signal[] = ['traces', 'metrics', 'logs'];
const FIRST_BYTES: readonly (readonly [ContentEncoding, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['deflate', [0x78]],
];

/**
 * Job data for a payload whose job is gone: signal and items are read from the payload; its class is lost, so it becomes
 * normal.
 * @param key of the payload; replayed batches have keys with another first letter, unless they were handed over
 * @returns undefined if the payload is readable as no signal, or as several
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
  const receivedAt = timeOfBatch(key) ?? nowMs;
  return jobDataOf({ id: key, signal, class: 'normal', origin, encoding, items, receivedAt, payload });
}
