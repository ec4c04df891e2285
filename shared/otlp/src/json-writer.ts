import { FieldCursor } from './fields.ts';
import { asBuffer } from './join.ts';
import { type Field, jsonName, MESSAGES } from './schema.ts';
import { SIGNALS, type Signal } from './signal.ts';
import { walk } from './walk.ts';

const LENGTH_DELIMITED = 2;
/** Scalars that are length-delimited; repeated ones of other types are packed. */
const WITH_LENGTH = new Set(['string', 'bytes', 'id']);
const EIGHT_BYTES = new Set(['fixed64', 'sfixed64', 'double']);

/** A part of the text is about so long. */
const PART_CHARS = 64 * 1024;

/**
 * Converts a serialized request to OTLP's JSON form on one line: ids in hex, 64-bit integers as strings, enums as integers
 * (OTLP specification, "JSON Protobuf Encoding"). It builds strings and is not for the hot path.
 * @param body may be several concatenated requests, which protobuf treats as one; unknown fields are left out
 * @returns undefined for a signal without a JSON form here
 * @throws OtlpError 400 if it is not a request of this signal
 */
export function protobufToJson(signal: Signal, body: Uint8Array): string | undefined {
  const parts = jsonParts(signal, body);
  return parts && [...parts].join('');
}

/**
 * The text of `protobufToJson` in parts: a request of 60 MiB may be tens of millions of messages, so nothing is kept of those
 * that were written.
 */
export function jsonParts(signal: Signal, body: Uint8Array): Iterable<string> | undefined {
  const { request } = SIGNALS[signal];
  if (request === undefined) return undefined;
  walk(signal, body);
  return allParts(request, asBuffer(body));
}

function* allParts(message: number, bytes: Buffer): Generator<string> {
  const text = new Text();
  yield* messageParts(message, bytes, text);
  yield text.take();
}

/** Text that waits to be part of the result. */
class Text {
  #texts: string[] = [];
  #chars = 0;

  add(text: string): void {
    this.#texts.push(text);
    this.#chars += text.length;
  }

  get isFull(): boolean {
    return this.#chars >= PART_CHARS;
  }

  take(): string {
    const part = this.#texts.join('');
    this.#texts = [];
    this.#chars = 0;
    return part;
  }
}

function* messageParts(message: number, bytes: Buffer, text: Text): Generator<string> {
  text.add('{');
  let separator = '';
  for (const field of fieldsIn(message, bytes)) {
    text.add(`${separator}"${jsonName(field.name)}":`);
    separator = ',';
    if (field.repeated) yield* listParts(field, bytes, text);
    else yield* valueParts(field, contentOf(message, field, bytes), text);
  }
  text.add('}');
}

/** The fields that a message has, in the order of the schema. The last member of a oneof wins. */
function fieldsIn(message: number, bytes: Buffer): Field[] {
  const found = new Set<Field>();
  const cursor = new FieldCursor(bytes);
  while (cursor.next()) {
    const field = MESSAGES[message]!.byNumber.get(cursor.number);
    if (!field || found.has(field)) continue;
    for (const other of found) if (areRivals(field, other)) found.delete(other);
    found.add(field);
  }
  return MESSAGES[message]!.fields.filter((field) => found.has(field));
}

function areRivals(a: Field, b: Field): boolean {
  return a !== b && a.oneof !== undefined && a.oneof === b.oneof;
}

/** Of a field that is not repeated: the last one; of a message the pieces merged, from the last other member of its oneof on. */
function contentOf(message: number, field: Field, bytes: Buffer): Buffer {
  const cursor = new FieldCursor(bytes);
  let from = 0;
  let length = 0;
  let last = { start: 0, end: 0 };
  while (cursor.next()) {
    const { start, end } = cursor;
    const found = MESSAGES[message]!.byNumber.get(cursor.number);
    if (found === field) {
      last = { start, end };
      length += end - start;
    } else if (found && areRivals(found, field)) {
      from = end;
      length = 0;
    }
  }
  if (field.child < 0 || length === last.end - last.start) return bytes.subarray(last.start, last.end);
  const merged = Buffer.allocUnsafe(length);
  let at = 0;
  cursor.reset(bytes, from, bytes.byteLength);
  while (cursor.find(field.number)) at += bytes.copy(merged, at, cursor.start, cursor.end);
  return merged;
}

function* listParts(field: Field, bytes: Buffer, text: Text): Generator<string> {
  const isPackable = field.child < 0 && !WITH_LENGTH.has(field.type);
  const cursor = new FieldCursor(bytes);
  text.add('[');
  let separator = '';
  while (cursor.find(field.number)) {
    const isPacked = isPackable && cursor.wireType === LENGTH_DELIMITED;
    for (let start = cursor.start; isPacked ? start < cursor.end : start >= 0; ) {
      const end = isPacked ? elementEnd(field, bytes, start) : cursor.end;
      text.add(separator);
      separator = ',';
      yield* valueParts(field, bytes.subarray(start, end), text);
      start = isPacked ? end : -1;
    }
  }
  text.add(']');
}

function elementEnd({ type }: Field, bytes: Buffer, start: number): number {
  if (EIGHT_BYTES.has(type)) return start + 8;
  let end = start;
  while (bytes[end++]! >= 0x80);
  return end;
}

function* valueParts(field: Field, content: Buffer, text: Text): Generator<string> {
  if (field.child < 0) text.add(valueText(field, content));
  else if (content.byteLength === 0) text.add('{}');
  else yield* messageParts(field.child, content, text);
  if (text.isFull) yield text.take();
}

function valueText({ type }: Field, content: Buffer): string {
  switch (type) {
    case 'string':
      return JSON.stringify(content.toString('utf8'));
    case 'bytes':
      return `"${content.toString('base64')}"`;
    case 'id':
      return `"${content.toString('hex')}"`;
    case 'bool':
      return String(varint(content) !== 0n);
    case 'enum':
      return String(BigInt.asIntN(32, varint(content)));
    case 'uint32':
      return String(BigInt.asUintN(32, varint(content)));
    case 'sint32': {
      const folded = Number(BigInt.asUintN(32, varint(content)));
      return String((folded >>> 1) ^ -(folded & 1));
    }
    case 'int64':
      return `"${BigInt.asIntN(64, varint(content))}"`;
    case 'uint64':
      return `"${BigInt.asUintN(64, varint(content))}"`;
    case 'fixed32':
      return String(content.readUInt32LE());
    case 'fixed64':
      return `"${content.readBigUInt64LE()}"`;
    case 'sfixed64':
      return `"${content.readBigInt64LE()}"`;
    default:
      return doubleText(content.readDoubleLE());
  }
}

function doubleText(value: number): string {
  if (!Number.isFinite(value)) return `"${value}"`;
  return Object.is(value, -0) ? '-0' : String(value);
}

function varint(content: Buffer): bigint {
  let value = 0n;
  for (const [i, byte] of content.entries()) value |= BigInt(byte & 0x7f) << BigInt(7 * i);
  return value;
}
