import { FieldCursor, varint32, WireWriter } from '@nrdot/otlp';

/**
 * Reads from wire bytes what rules test. The bytes are valid protobuf. Repeated fields are treated as protobuf defines it: the
 * last scalar wins, messages are merged.
 */

const KEY = 1;
const VALUE = 2;
const attributeCursor = new FieldCursor();
const partCursor = new FieldCursor();
const fieldCursor = new FieldCursor();

/**
 * The attributes of a Resource as text, only those in `wanted`. Strings unchanged, integers and booleans as in JSON; values of
 * other types are not compared.
 */
export function readAttributes(
  body: Buffer,
  start: number,
  end: number,
  wanted: ReadonlySet<string>,
): Map<string, string> {
  const found = new Map<string, string>();
  attributeCursor.reset(body, start, end);
  while (attributeCursor.find(1)) {
    const { start: from, end: to } = attributeCursor;
    const key = readString(body, from, to, KEY);
    if (!wanted.has(key)) continue;
    let value: string | undefined;
    partCursor.reset(body, from, to);
    while (partCursor.next()) {
      if (partCursor.number === VALUE) value = readValue(body, partCursor.start, partCursor.end, value);
    }
    if (value !== undefined) found.set(key, value);
  }
  return found;
}

/** @param before value set by an earlier piece of the same message */
function readValue(body: Buffer, start: number, end: number, before: string | undefined): string | undefined {
  let number = 0;
  let from = 0;
  let to = 0;
  fieldCursor.reset(body, start, end);
  while (fieldCursor.next()) {
    if (fieldCursor.number > 7) continue;
    number = fieldCursor.number;
    from = fieldCursor.start;
    to = fieldCursor.end;
  }
  if (number === 0) return before;
  if (number === 1) return body.toString('utf8', from, to);
  if (number === 2) return String(varint32(body, from, to) !== 0);
  return number === 3 ? String(readInt64(body, from, to)) : undefined;
}

function readInt64(body: Buffer, start: number, end: number): bigint {
  let value = 0n;
  for (let at = start, shift = 0n; at < end; at++, shift += 7n) value |= BigInt(body[at]! & 0x7f) << shift;
  return BigInt.asIntN(64, value);
}

/** A string field as text; empty if absent. */
export function readString(body: Buffer, start: number, end: number, number: number): string {
  let from = 0;
  let to = 0;
  fieldCursor.reset(body, start, end);
  while (fieldCursor.find(number)) {
    from = fieldCursor.start;
    to = fieldCursor.end;
  }
  return body.toString('utf8', from, to); // of the last one alone: there may be very many
}

/** A small integer field; 0 if absent. */
export function readEnum(body: Buffer, start: number, end: number, number: number): number {
  let value = 0;
  fieldCursor.reset(body, start, end);
  while (fieldCursor.next()) {
    if (fieldCursor.number === number) value = varint32(body, fieldCursor.start, fieldCursor.end);
  }
  return value;
}

/** Range of a message's content. */
export interface Message {
  body: Buffer;
  start: number;
  end: number;
}

/**
 * Finds the content of a message field; undefined if absent. Several pieces are joined, which is how protobuf merges them;
 * nobody writes that, so it may cost a copy, but there may be half a million pieces in 1 MiB.
 */
export function findMessage(body: Buffer, start: number, end: number, number: number): Message | undefined {
  let first = -1;
  let last = 0;
  let pieces = 0;
  fieldCursor.reset(body, start, end);
  while (fieldCursor.find(number)) {
    if (pieces++ === 0) first = fieldCursor.start;
    last = fieldCursor.end;
  }
  if (pieces === 0) return undefined;
  if (pieces === 1) return { body, start: first, end: last };
  const whole = new WireWriter(last - first);
  fieldCursor.reset(body, start, end);
  while (fieldCursor.find(number)) whole.raw(body, fieldCursor.start, fieldCursor.end);
  return { body: whole.finish(), start: 0, end: whole.length };
}
