import type { StoredRecord } from '@nrdot/segment-log';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { JsonLines } from './export.ts';

/** Bytes of each batch that was written on this thread. */
const here: number[] = [];
vi.mock(import('@nrdot/otlp'), async (original) => {
  const otlp = await original();
  const jsonParts: typeof otlp.jsonParts = (signal, payload) => {
    here.push(payload.byteLength);
    return otlp.jsonParts(signal, payload);
  };
  return { ...otlp, jsonParts };
});

let lines: JsonLines;
beforeEach(() => {
  lines = new JsonLines();
});
afterEach(async () => {
  here.length = 0;
  await lines.stop();
});

/** Log records without content: one resource, one scope. */
function logs(records: number): Buffer {
  const scope = Buffer.alloc(2 * records, Buffer.from([0x12, 0]));
  return field(1, field(2, scope));
}

function field(number: number, content: Buffer): Buffer {
  const bytes = Buffer.alloc(6, 0x80);
  bytes[0] = number * 8 + 2;
  for (let i = 0; i < 5; i++) bytes[1 + i]! |= Math.floor(content.byteLength / 2 ** (7 * i)) & 0x7f;
  bytes[5]! &= 0x7f;
  return Buffer.concat([bytes, content]);
}

async function written(
  payload: Buffer,
  signal = 'logs',
): Promise<{ line: string; problem: string | undefined }> {
  const parts = lines.parts({ envelope: { signal }, payload } as unknown as StoredRecord);
  const chunks: Uint8Array[] = [];
  while (true) {
    const { value, done } = await parts.next();
    if (done) return { line: Buffer.concat(chunks).toString(), problem: value };
    chunks.push(Buffer.from(value!));
  }
}

const lineOf = (records: number) =>
  `{"resourceLogs":[{"scopeLogs":[{"logRecords":[${Array(records).fill('{}').join(',')}]}]}]}`;

it('writes large batches off the event loop, as it writes small ones on it', async () => {
  expect(await written(logs(10))).toEqual({ line: lineOf(10), problem: undefined });
  expect(here).toEqual([logs(10).byteLength]);
  for (const records of [100_000, 300_000])
    expect(await written(logs(records))).toEqual({ line: lineOf(records), problem: undefined });
  expect(here).toHaveLength(1);
});

it('writes nothing of a large batch that it cannot read, and goes on', async () => {
  const { line, problem } = await written(Buffer.concat([logs(100_000), Buffer.from([0x0a])]));
  expect([line, problem]).toEqual(['', expect.stringContaining('the bytes end in the middle of a field')]);
  expect((await written(logs(100_000), 'profiles')).problem).toBe('profiles have no JSON form here');
  expect((await written(logs(100_000))).line).toBe(lineOf(100_000));
});
