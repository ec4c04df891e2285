import { isUtf8 } from 'node:buffer';
import { OtlpError } from './error.ts';
import { exponentialContradicts, histogramContradicts } from './histogram-counts.ts';
import { pathTo } from './path.ts';
import { type Field, MESSAGES, messageIndex } from './schema.ts';
import { SIGNALS, type Signal } from './signal.ts';

/**
 * The wire walk: validates a serialized request and counts its items, in place and without creating objects. What it accepts, a
 * protobuf parser can read. `TABLE[message × 32 + field number]` has the kind of a field in the low four bits, whether it is
 * counted in the fifth, the child message above. All of OTLP's field numbers are below 32; others are unknown and skipped.
 */

const VARINT = 1;
const FIXED64 = 2;
const STRING = 3;
const BYTES = 4;
const MESSAGE = 5;
const FIXED32 = 6;
const REPEATED_VARINT = 7;
const REPEATED_FIXED64 = 8;
/** Ids of 8 and of 16 bytes, or empty. */
const SPAN_ID = 9;
const TRACE_ID = 10;
/** Combined with MESSAGE: the child is counted as an item. */
const ITEM = 16;

const FIELDS = 32;
const TABLE = new Uint16Array(MESSAGES.length * FIELDS);
for (const [index, message] of MESSAGES.entries()) {
  for (const field of message.fields) TABLE[index * FIELDS + field.number] = codeOf(field);
}

const HISTOGRAM_POINT = messageIndex('HistogramDataPoint');
const EXPONENTIAL_POINT = messageIndex('ExponentialHistogramDataPoint');

function codeOf({ type, child, repeated, idBytes }: Field): number {
  if (child >= 0) return MESSAGE | (MESSAGES[child]!.item ? ITEM : 0) | (child << 5);
  switch (type) {
    case 'string':
      return STRING;
    case 'bytes':
      return BYTES;
    case 'id':
      return idBytes === 16 ? TRACE_ID : SPAN_ID;
    case 'fixed32':
      return FIXED32;
    case 'fixed64':
    case 'sfixed64':
    case 'double':
      return repeated ? REPEATED_FIXED64 : FIXED64;
    default:
      return repeated ? REPEATED_VARINT : VARINT;
  }
}

export interface WalkOptions {
  /** Maximum nesting of messages. Default 64. */
  maxDepth?: number;
}

export interface Walked {
  /** Spans, log records or data points; requests for profiles. */
  items: number;
}

/** Flaws of single items in a request that is otherwise well-formed. */
const FLAW = {
  /** A string that is not valid UTF-8. */
  utf8: 1,
  /** A trace or span id of a wrong length. */
  id: 2,
  /** A histogram whose buckets contradict its count or bounds. */
  counts: 4,
} as const;

export interface Inspected extends Walked {
  /** Bits of FLAW; 0 for a valid request. */
  flaws: number;
}

export const DEFAULT_MAX_DEPTH = 64;

// State of the current walk. It is synchronous and never nested, so module variables suffice; fields of an object would cost a
// load each.
let bytes: Uint8Array = new Uint8Array(0);
let items = 0;
let depthLeft = 0;
let faultAt = 0;
/** Whether flaws are recorded rather than rejected. */
let inspecting = false;
let flaws = 0;

/**
 * Validates a request like `walk`, but reports flaws of single items, which `repair` can handle. Costs as much as `walk`.
 * @throws OtlpError 400 with what is wrong and where
 */
export function inspect(signal: Signal, body: Uint8Array, options: WalkOptions = {}): Inspected {
  inspecting = true;
  flaws = 0;
  try {
    return { ...walk(signal, body, options), flaws };
  } finally {
    inspecting = false;
  }
}

/** Validates a request and counts its items. @throws OtlpError 400 with what is wrong and where */
export function walk(signal: Signal, body: Uint8Array, options: WalkOptions = {}): Walked {
  const { request } = SIGNALS[signal];
  if (request === undefined) return { items: body.byteLength > 0 ? 1 : 0 };
  bytes = body;
  items = 0;
  depthLeft = options.maxDepth ?? DEFAULT_MAX_DEPTH;
  try {
    walkMessage(0, body.byteLength, request);
  } catch (error) {
    if (error instanceof WireFault) throw explain(error, request, body);
    throw error;
  } finally {
    bytes = EMPTY;
  }
  return { items };
}

const EMPTY = new Uint8Array(0);

class WireFault extends Error {}

function fault(message: string, at: number): never {
  faultAt = at;
  throw new WireFault(message);
}

function walkMessage(start: number, end: number, message: number): void {
  if (depthLeft-- === 0) fault('messages are nested too deeply', start);
  const b = bytes;
  const row = message * FIELDS;
  let pos = start;
  while (pos < end) {
    const tagAt = pos;
    let tag = b[pos++]!;
    if (tag >= 0x80) {
      tag = longTag(tagAt, end);
      pos = next;
    }
    const number = tag >>> 3;
    const wireType = tag & 7;
    const code = number < FIELDS ? TABLE[row + number]! : 0;
    switch (code & 15) {
      case MESSAGE: {
        if (wireType !== 2) wrongType(tagAt);
        let length = pos < end ? b[pos++]! : truncated(tagAt);
        if (length >= 0x80) {
          length = longLength(pos - 1, end);
          pos = next;
        }
        if (length > end - pos) truncated(tagAt);
        const child = code >>> 5;
        walkMessage(pos, pos + length, child);
        if (code & ITEM) {
          items++;
          if (inspecting && (child === HISTOGRAM_POINT || child === EXPONENTIAL_POINT))
            checkCounts(pos, pos + length, child);
        }
        pos += length;
        break;
      }
      case STRING: {
        if (wireType !== 2) wrongType(tagAt);
        let length = pos < end ? b[pos++]! : truncated(tagAt);
        if (length >= 0x80) {
          length = longLength(pos - 1, end);
          pos = next;
        }
        if (length > end - pos) truncated(tagAt);
        const stop = pos + length;
        let any = 0;
        for (let i = pos; i < stop; i++) any |= b[i]!;
        if (any >= 0x80 && !(inspecting && flaws & FLAW.utf8) && !isUtf8(b.subarray(pos, stop))) {
          if (!inspecting) fault('a string is not valid UTF-8', tagAt);
          flaws |= FLAW.utf8;
        }
        pos = stop;
        break;
      }
      case FIXED64:
        if (wireType !== 1) wrongType(tagAt);
        pos += 8;
        if (pos > end) truncated(tagAt);
        break;
      case VARINT:
        if (wireType !== 0) wrongType(tagAt);
        pos = skipVarint(pos, end);
        break;
      case SPAN_ID:
      case TRACE_ID:
      case BYTES: {
        if (wireType !== 2) wrongType(tagAt);
        let length = pos < end ? b[pos++]! : truncated(tagAt);
        if (length >= 0x80) {
          length = longLength(pos - 1, end);
          pos = next;
        }
        if (length > end - pos) truncated(tagAt);
        const kind = code & 15;
        if (kind !== BYTES && length !== 0 && length !== (kind === TRACE_ID ? 16 : 8)) flaws |= FLAW.id;
        pos += length;
        break;
      }
      case FIXED32:
        if (wireType !== 5) wrongType(tagAt);
        pos += 4;
        if (pos > end) truncated(tagAt);
        break;
      case REPEATED_FIXED64:
        pos = repeatedFixed64(pos, end, wireType, tagAt);
        break;
      case REPEATED_VARINT:
        pos = repeatedVarint(pos, end, wireType, tagAt);
        break;
      default:
        if (number === 0) fault('field number 0', tagAt);
        pos = skipUnknown(pos, end, wireType, tagAt);
    }
  }
  depthLeft++;
}

function checkCounts(start: number, end: number, message: number): void {
  const contradict =
    message === HISTOGRAM_POINT
      ? histogramContradicts(bytes, start, end)
      : exponentialContradicts(bytes, start, end);
  if (contradict) flaws |= FLAW.counts;
}

const LENGTH_MAX_BYTES = 5;

/** End of the varint read last by `longTag` or `longLength`. */
let next = 0;

function longTag(at: number, end: number): number {
  let value = 0;
  let shift = 0;
  for (let pos = at; pos < end && pos < at + 5; pos++) {
    const byte = bytes[pos]!;
    if (shift === 28 && byte > 0x0f) fault('a field number is out of range', at);
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) {
      next = pos + 1;
      return value >>> 0;
    }
    shift += 7;
  }
  return truncated(at); // a fifth byte with a continuation bit was out of range
}

/** Five bytes at most: parsers in C++, and those based on them, read no more. */
function longLength(at: number, end: number): number {
  let value = 0;
  let factor = 1;
  for (let pos = at; pos < end && pos < at + LENGTH_MAX_BYTES; pos++) {
    const byte = bytes[pos]!;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) {
      next = pos + 1;
      return value; // a value that is too large is reported as a truncation, since it exceeds any body
    }
    factor *= 128;
  }
  return end - at < LENGTH_MAX_BYTES
    ? truncated(at)
    : fault(`a length is longer than ${LENGTH_MAX_BYTES} bytes`, at);
}

/** Go parsers read at most 64 bits: ten bytes, with one bit in the last. */
function skipVarint(pos: number, end: number): number {
  const b = bytes;
  const last = pos + 9;
  for (let i = pos; i < end; i++) {
    if (i === last && b[i]! > 1)
      return fault(b[i]! < 0x80 ? 'a varint has more than 64 bits' : 'a varint is longer than 10 bytes', pos);
    if (b[i]! < 0x80) return i + 1;
  }
  return truncated(pos);
}

function repeatedFixed64(pos: number, end: number, wireType: number, tagAt: number): number {
  if (wireType === 1) return pos + 8 > end ? truncated(tagAt) : pos + 8;
  if (wireType !== 2) return wrongType(tagAt);
  const length = longLength(pos, end);
  if (length > end - next) return truncated(tagAt);
  if (length % 8 !== 0) return fault('a packed field is not a whole number of 8-byte values', tagAt);
  return next + length;
}

function repeatedVarint(pos: number, end: number, wireType: number, tagAt: number): number {
  if (wireType === 0) return skipVarint(pos, end);
  if (wireType !== 2) return wrongType(tagAt);
  const length = longLength(pos, end);
  if (length > end - next) return truncated(tagAt);
  const stop = next + length;
  let at = next;
  while (at < stop) at = skipVarint(at, stop);
  return at;
}

function skipUnknown(pos: number, end: number, wireType: number, tagAt: number): number {
  switch (wireType) {
    case 0:
      return skipVarint(pos, end);
    case 1:
      return pos + 8 > end ? truncated(tagAt) : pos + 8;
    case 2: {
      const length = longLength(pos, end);
      return length > end - next ? truncated(tagAt) : next + length;
    }
    case 5:
      return pos + 4 > end ? truncated(tagAt) : pos + 4;
    default:
      return fault(
        wireType === 3 || wireType === 4
          ? 'groups are not part of OTLP'
          : `wire type ${wireType} does not exist`,
        tagAt,
      );
  }
}

function truncated(at: number): never {
  return fault('the bytes end in the middle of a field', at);
}

function wrongType(at: number): never {
  return fault('the field has a wire type that its definition does not allow', at);
}

/** Finds the path to the error. Only on failure, so it may be slow. */
function explain(error: WireFault, message: number, body: Uint8Array): OtlpError {
  const path = pathTo(faultAt, message, body);
  const where = `byte ${faultAt} of ${body.byteLength}`;
  return new OtlpError(400, 'malformed', `${path}: ${error.message} (${where})`);
}
