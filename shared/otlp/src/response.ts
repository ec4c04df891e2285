import { readAnswer } from './answer.ts';
import { type BodyFormat, SIGNALS, type Signal } from './signal.ts';
import { WireWriter } from './wire-writer.ts';

/**
 * Answers of OTLP/HTTP servers. The responses of all signals have the same shape on the wire: `{ partial_success = 1 { rejected
 * = 1, error_message = 2 } }`; only the JSON name of the count differs.
 */
export interface PartialSuccess {
  rejected: number;
  message: string;
}

const EMPTY_PROTOBUF = Buffer.alloc(0);
const EMPTY_JSON = Buffer.from('{}');

/** A success. Without `partial` the field is unset, as full success requires. */
export function exportResponse(signal: Signal, format: BodyFormat, partial?: PartialSuccess): Buffer {
  if (!partial) return format === 'json' ? EMPTY_JSON : EMPTY_PROTOBUF;
  const { rejected, message: errorMessage } = partial;
  if (format === 'json') {
    const count = { [SIGNALS[signal].rejectedField]: String(rejected) };
    return Buffer.from(JSON.stringify({ partialSuccess: { ...count, errorMessage } }));
  }
  const out = new WireWriter(0);
  out.varint(0x0a);
  const opened = out.open();
  writeSaid(out, rejected, errorMessage);
  out.close(opened);
  return out.finish();
}

/** A google.rpc.Status, the body of every error. */
export function statusBody(format: BodyFormat, code: number, message: string): Buffer {
  if (format === 'json') return Buffer.from(JSON.stringify({ code, message }));
  const out = new WireWriter(0);
  writeSaid(out, code, message);
  return out.finish();
}

function writeSaid(out: WireWriter, number: number, text: string): void {
  if (number !== 0) {
    out.varint(0x08);
    out.varint(number);
  }
  if (text === '') return;
  out.varint(0x12);
  out.text(text);
}

/** The partial success of an answer; undefined if there is none or it is unreadable. */
export function readExportResponse(
  signal: Signal,
  body: Uint8Array,
  contentType: string,
): PartialSuccess | undefined {
  if (body.byteLength === 0) return undefined;
  const names = { within: 'partialSuccess', number: SIGNALS[signal].rejectedField, text: 'errorMessage' };
  const said = readAnswer(body, contentType, names);
  if (!said) return undefined;
  // An impossibly large number is limited; callers limit it to the number of items.
  const rejected = Math.min(numberOf(said.number), Number.MAX_SAFE_INTEGER);
  const message = typeof said.text === 'string' ? said.text : '';
  if (!Number.isSafeInteger(rejected) || rejected < 0) return undefined;
  return rejected === 0 && message === '' ? undefined : { rejected, message };
}

/** The Status of an error answer; undefined if it has none. A plain text body counts as its message. */
export function readStatus(
  body: Uint8Array,
  contentType: string,
): { code: number; message: string } | undefined {
  if (body.byteLength === 0) return undefined;
  const said = readAnswer(body, contentType, { number: 'code', text: 'message' });
  if (said && (said.number !== undefined || said.text !== undefined))
    return { code: numberOf(said.number) || 0, message: typeof said.text === 'string' ? said.text : '' };
  if (!/^text\/|json/i.test(contentType)) return undefined;
  return { code: 0, message: Buffer.from(body.subarray(0, 1000)).toString('utf8') };
}

/** JSON may have anything here, and `Number` throws for some objects. */
function numberOf(value: unknown): number {
  if (value === undefined) return 0;
  return typeof value === 'number' || typeof value === 'string' ? Number(value) : Number.NaN;
}
