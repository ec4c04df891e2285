import protobuf from 'protobufjs/light.js';
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
  const read = readAs(
    body,
    contentType,
    (json) => {
      const partial = (json as { partialSuccess?: Record<string, unknown> }).partialSuccess;
      if (typeof partial !== 'object' || partial === null) return undefined;
      return { rejected: partial[SIGNALS[signal].rejectedField], message: partial.errorMessage };
    },
    (bytes) => {
      const { partialSuccess } = ExportResponse.toObject(ExportResponse.decode(bytes), { longs: String }) as {
        partialSuccess?: { rejected?: unknown; errorMessage?: unknown };
      };
      return partialSuccess && { rejected: partialSuccess.rejected, message: partialSuccess.errorMessage };
    },
  );
  if (!read) return undefined;
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
  const read = readAs(
    body,
    contentType,
    (json) => json as { code?: unknown; message?: unknown },
    (bytes) => Status.toObject(Status.decode(bytes)) as { code?: unknown; message?: unknown },
  );
  if (read && (read.code !== undefined || read.message !== undefined)) {
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
  if (value === undefined || value === null) return 0;
  return typeof value === 'number' || typeof value === 'string' ? Number(value) : Number.NaN;
}

function readAs<T>(
  body: Uint8Array,
  contentType: string,
  fromJson: (json: object) => T,
  fromProtobuf: (bytes: Uint8Array) => T,
): T | undefined {
  try {
    if (/json/i.test(contentType)) {
      const json: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
      return typeof json === 'object' && json !== null ? fromJson(json) : undefined;
    }
    return /protobuf/i.test(contentType) ? fromProtobuf(body) : undefined;
  } catch {
    return undefined;
  }
}
