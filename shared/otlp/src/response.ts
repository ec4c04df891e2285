import protobuf from 'protobufjs/light.js';
import { LENGTH_DELIMITED, readAnswer, VARINT } from './answer.ts';
import type { BodyFormat, Signal } from './signal.ts';
import { SIGNALS } from './signal.ts';

/**
 * Answers of OTLP/HTTP servers. The responses of all signals have the same shape on the wire: `{ partial_success = 1 { rejected
 * = 1, error_message = 2 } }`; only the JSON name of the count differs.
 */
const root = protobuf.Root.fromJSON({
  nested: {
    ExportResponse: { fields: { partialSuccess: { id: 1, type: 'PartialSuccess' } } },
    PartialSuccess: {
      fields: { rejected: { id: 1, type: 'int64' }, errorMessage: { id: 2, type: 'string' } },
    },
    Status: { fields: { code: { id: 1, type: 'int32' }, message: { id: 2, type: 'string' } } },
  },
});
const ExportResponse = root.lookupType('ExportResponse');
const Status = root.lookupType('Status');

export interface PartialSuccess {
  rejected: number;
  message: string;
}

const EMPTY_PROTOBUF = Buffer.alloc(0);
const EMPTY_JSON = Buffer.from('{}');

/** A success. Without `partial` the field is unset, as full success requires. */
export function exportResponse(signal: Signal, format: BodyFormat, partial?: PartialSuccess): Buffer {
  if (!partial) return format === 'json' ? EMPTY_JSON : EMPTY_PROTOBUF;
  const { rejected, message } = partial;
  if (format === 'json') {
    const { rejectedField } = SIGNALS[signal];
    return Buffer.from(
      JSON.stringify({ partialSuccess: { [rejectedField]: String(rejected), errorMessage: message } }),
    );
  }
  return Buffer.from(ExportResponse.encode({ partialSuccess: { rejected, errorMessage: message } }).finish());
}

/** A google.rpc.Status, the body of every error. */
export function statusBody(format: BodyFormat, code: number, message: string): Buffer {
  if (format === 'json') return Buffer.from(JSON.stringify({ code, message }));
  return Buffer.from(Status.encode({ code, message }).finish());
}

/** The partial success of an answer; undefined if there is none or it is unreadable. */
export function readExportResponse(
  signal: Signal,
  body: Uint8Array,
  contentType: string,
): PartialSuccess | undefined {
  if (body.byteLength === 0) return undefined;
  const read: { rejected?: unknown; message?: unknown } = {};
  const isRead = readAnswer(
    body,
    contentType,
    (json) => (name) =>
      name === 'partialSuccess' &&
      json.members((inner) => {
        if (inner === SIGNALS[signal].rejectedField) read.rejected = json.scalar();
        else if (inner === 'errorMessage') read.message = json.scalar();
        else return false;
        return true;
      }),
    (fields) => (field, wireType) =>
      field === 1 &&
      wireType === LENGTH_DELIMITED &&
      fields.message((inner, type) => {
        if (inner === 1 && type === VARINT) read.rejected = fields.int64();
        else if (inner === 2 && type === LENGTH_DELIMITED) read.message = fields.text();
        else return false;
        return true;
      }),
  );
  if (!isRead) return undefined;
  // An impossibly large number is limited; callers limit it to the number of items.
  const rejected = Math.min(numberOf(read.rejected), Number.MAX_SAFE_INTEGER);
  const message = typeof read.message === 'string' ? read.message : '';
  if (!Number.isSafeInteger(rejected) || rejected < 0) return undefined;
  return rejected === 0 && message === '' ? undefined : { rejected, message };
}

/** The Status of an error answer; undefined if it has none. A plain text body counts as its message. */
export function readStatus(
  body: Uint8Array,
  contentType: string,
): { code: number; message: string } | undefined {
  if (body.byteLength === 0) return undefined;
  const read: { code?: unknown; message?: unknown } = {};
  const isRead = readAnswer(
    body,
    contentType,
    (json) => (name) => {
      if (name === 'code') read.code = json.scalar();
      else if (name === 'message') read.message = json.scalar();
      else return false;
      return true;
    },
    (fields) => (field, wireType) => {
      if (field === 1 && wireType === VARINT) read.code = fields.int64();
      else if (field === 2 && wireType === LENGTH_DELIMITED) read.message = fields.text();
      else return false;
      return true;
    },
  );
  if (isRead && (read.code !== undefined || read.message !== undefined)) {
    return {
      code: numberOf(read.code) || 0,
      message: typeof read.message === 'string' ? read.message : '',
    };
  }
  if (!/^text\/|json/i.test(contentType)) return undefined;
  return { code: 0, message: Buffer.from(body.subarray(0, 1000)).toString('utf8') };
}

/** JSON may have anything here, and `Number` throws for some objects. */
function numberOf(value: unknown): number {
  if (value === undefined) return 0;
  return typeof value === 'number' || typeof value === 'string' ? Number(value) : Number.NaN;
}
