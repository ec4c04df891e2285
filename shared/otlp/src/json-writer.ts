import { FieldCursor } from './fields.ts';
import { type Field, isScalar, jsonName, MESSAGES, messageIndex } from './schema.ts';
import { SIGNALS, type Signal } from './signal.ts';
import { type WalkOptions, walk } from './walk.ts';

/** Fields by number, for each message. */
const FIELDS: readonly ReadonlyMap<number, Field>[] = MESSAGES.map(
  ({ fields }) => new Map(fields.map((field) => [field.number, field])),
);
const LENGTH_DELIMITED = 2;
/** Scalars that are length-delimited; repeated ones of other types are packed. */
const WITH_LENGTH = new Set(['string', 'bytes', 'id']);
const EIGHT_BYTES = new Set(['fixed64', 'sfixed64', 'double']);

/**
 * Converts a serialized request to OTLP's JSON form on one line: ids in hex, 64-bit integers as strings, enums as integers
 * (OTLP specification, "JSON Protobuf Encoding"). It builds strings and is not for the hot path.
 * @param body may be several concatenated requests, which protobuf treats as one; unknown fields are left out
 * @returns undefined for a signal without a JSON form here
 * @throws OtlpError 400 if it is not a request of this signal
 */
export function protobufToJson(
  signal: Signal,
  body: Uint8Array,
  options: WalkOptions = {},
): string | undefined {
  const { request } = SIGNALS[signal];
  if (request === undefined) return undefined;
  walk(signal, body, options);
  return messageText(messageIndex(request), bufferOf(body));
}

function messageText(message: number, bytes: Buffer): string {
  const contents = contentsOf(message, bytes);
  const members = MESSAGES[message]!.fields.flatMap((field) => {
    const found = contents.get(field);
    return found ? [`"${jsonName(field.name)}":${fieldText(field, found)}`] : [];
  });
  return `{${members.join(',')}}`;
}

/** The contents of each field, by protobuf's rules for repeated occurrences. */
function contentsOf(message: number, bytes: Buffer): Map<Field, Buffer[]> {
  const contents = new Map<Field, Buffer[]>();
  const cursor = new FieldCursor().reset(bytes, 0, bytes.byteLength);
  while (cursor.next()) {
    const field = FIELDS[message]!.get(cursor.number);
    if (!field) continue;
    const content = bytes.subarray(cursor.start, cursor.end);
    const before = contents.get(field);
    if (field.repeated) {
      const packed = cursor.wireType === LENGTH_DELIMITED && isScalar(field.type);
      const elements = packed && !WITH_LENGTH.has(field.type) ? unpack(field, content) : [content];
      if (before) for (const element of elements) before.push(element);
      else contents.set(field, elements);
    } else if (before && !isScalar(field.type)) before.push(content);
    else {
      // The last member of a oneof wins.
      if (field.oneof !== undefined && !before)
        for (const other of contents.keys()) if (other.oneof === field.oneof) contents.delete(other);
      contents.set(field, [content]);
    }
  }
  return contents;
}

function unpack(field: Field, content: Buffer): Buffer[] {
  const elements: Buffer[] = [];
  for (let start = 0; start < content.byteLength; ) {
    let end = start;
    if (EIGHT_BYTES.has(field.type)) end += 8;
    else while (content[end++]! >= 0x80);
    elements.push(content.subarray(start, end));
    start = end;
  }
  return elements;
}

function fieldText(field: Field, contents: readonly Buffer[]): string {
  if (field.repeated) return `[${contents.map((content) => valueText(field, content)).join(',')}]`;
  // The pieces of a message are merged.
  return valueText(field, contents.length === 1 ? contents[0]! : Buffer.concat(contents));
}

function valueText({ type }: Field, content: Buffer): string {
  if (!isScalar(type)) return messageText(messageIndex(type), content);
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
    case 'double':
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

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
