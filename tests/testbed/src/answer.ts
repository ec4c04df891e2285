/** `Export…ServiceResponse` and `google.rpc.Status`: written by the mock upstream, read by the generator. */

import type { TestSignal } from './identity.ts';

export interface PartialSuccess {
  rejected: number;
  message: string;
}

const REJECTED_FIELD: Record<TestSignal, string> = {
  traces: 'rejectedSpans',
  metrics: 'rejectedDataPoints',
  logs: 'rejectedLogRecords',
};

/** The response of a success. Without `partial` it has no fields, as the specification wants for full success. */
export function exportAnswer(signal: TestSignal, json: boolean, partial?: PartialSuccess): Buffer {
  if (json) {
    if (partial === undefined) return Buffer.from('{}');
    const field = REJECTED_FIELD[signal];
    const partialSuccess = { [field]: String(partial.rejected), errorMessage: partial.message };
    return Buffer.from(JSON.stringify({ partialSuccess }));
  }
  if (partial === undefined) return Buffer.alloc(0);
  const message = Buffer.from(partial.message);
  const inner = Buffer.concat([
    Buffer.from([0x08, ...varint(partial.rejected), 0x12, ...varint(message.length)]),
    message,
  ]);
  return Buffer.concat([Buffer.from([0x0a, ...varint(inner.length)]), inner]);
}

export function statusAnswer(json: boolean, code: number, message: string): Buffer {
  if (json) return Buffer.from(JSON.stringify({ code, message }));
  const text = Buffer.from(message);
  return Buffer.concat([Buffer.from([0x08, ...varint(code), 0x12, ...varint(text.length)]), text]);
}

/** The partial success of a 2xx answer, or undefined when there is none or the body is not readable. */
export function readPartialSuccess(body: Buffer, contentType: string): PartialSuccess | undefined {
  if (body.length === 0) return undefined;
  if (contentType.includes('json')) {
    try {
      const partial = (JSON.parse(body.toString()) as { partialSuccess?: Record<string, unknown> } | null)
        ?.partialSuccess;
      if (typeof partial !== 'object' || partial === null) return undefined;
      const rejected = Object.values(REJECTED_FIELD).map((field) => Number(partial[field] ?? 0));
      return { rejected: Math.max(...rejected), message: String(partial.errorMessage ?? '') };
    } catch {
      return undefined;
    }
  }
  const outer = readFields(body).find((f) => f.number === 1 && f.bytes !== undefined);
  if (outer?.bytes === undefined) return undefined;
  let rejected = 0;
  let message = '';
  for (const field of readFields(outer.bytes)) {
    if (field.number === 1 && field.value !== undefined) rejected = field.value;
    if (field.number === 2 && field.bytes !== undefined) message = field.bytes.toString();
  }
  return { rejected, message };
}

interface SmallField {
  number: number;
  value?: number;
  bytes?: Buffer;
}

/** Varint and length-delimited fields of a small message; stops at what it can't read. */
function readFields(body: Buffer): SmallField[] {
  const fields: SmallField[] = [];
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let scale = 1; at < body.length; scale *= 128) {
      const byte = body[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    return Number.NaN;
  };
  while (at < body.length) {
    const tag = next();
    const value = next();
    if (Number.isNaN(value)) break;
    const number = Math.floor(tag / 8);
    if (tag % 8 === 0) fields.push({ number, value });
    else if (tag % 8 === 2 && at + value <= body.length) {
      fields.push({ number, bytes: body.subarray(at, at + value) });
      at += value;
    } else break;
  }
  return fields;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return bytes;
}
