/**
 * Writes OTLP messages, given as plain objects in OTLP/JSON's field names, as protobuf or as JSON. It remembers where
 * each item begins and ends and where its slots are: places of fixed width that a generator overwrites for every item
 * it sends. Encoding is done once per template, so it is written to be plain and not to be fast.
 */

import type { TestSignal } from './identity.ts';
import { type Field, type MessageType, messageType, REQUEST_TYPE } from './schema.ts';

/** What may change from item to item. The number is the place in an item's row of offsets. */
export const SLOT = {
  traceId: 0,
  spanId: 1,
  parentSpanId: 2,
  startTime: 3,
  sendTime: 4,
  value: 5,
  host: 6,
  uid: 7,
  status: 8,
  readableId: 9,
  exemplarTime: 10,
} as const;
export type SlotName = keyof typeof SLOT;
export const SLOT_COUNT = 11;

/** Characters of a slot within a string, the same in both formats. */
const TEXT_SLOT_WIDTH: Partial<Record<SlotName, number>> = { host: 4, uid: 8, readableId: 17 };
/** Characters kept for a number in JSON; shorter ones are followed by spaces, which JSON allows. */
export const JSON_NUMBER_WIDTH = 20;
/** Digits of a time in JSON. Nineteen until the year 2286. */
export const JSON_TIME_WIDTH = 19;
const JSON_STATUS_WIDTH = 3;

export class Slot {
  readonly name: SlotName;
  /** Text in front of a slot within a string. */
  readonly prefix: string;

  constructor(name: SlotName, prefix = '') {
    this.name = name;
    this.prefix = prefix;
  }
}

export type Value = string | number | bigint | boolean | Uint8Array | Slot | Message | readonly Value[];
export interface Message {
  [field: string]: Value | undefined;
}

export interface Encoded {
  bytes: Uint8Array;
  /** Offsets of first byte and end of each item's content, two per item, in the order they were written. */
  bounds: Int32Array;
  /** `SLOT_COUNT` offsets per item; -1 where the item has no such slot. */
  slots: Int32Array;
}

/** Encodes a whole export request as protobuf. */
export function encodeProtobuf(signal: TestSignal, request: Message): Encoded {
  return new ProtobufEncoder().encode(messageType(REQUEST_TYPE[signal]), request);
}

/** Encodes a whole export request as OTLP/JSON, fields in the same order as in protobuf. */
export function encodeJson(signal: TestSignal, request: Message): Encoded {
  return new JsonEncoder().encode(messageType(REQUEST_TYPE[signal]), request);
}

/** Gathers items and their slots while an encoder runs; slots outside an item are a mistake. */
class ItemRows {
  #bounds: number[] = [];
  #slots: number[] = [];
  #open = -1;

  begin(offset: number): void {
    this.#open = this.#slots.length;
    for (let i = 0; i < SLOT_COUNT; i += 1) this.#slots.push(-1);
    this.#bounds.push(offset, -1);
  }

  end(offset: number): void {
    this.#bounds[this.#bounds.length - 1] = offset;
    this.#open = -1;
  }

  slot(name: SlotName, offset: number): void {
    const at = this.#open + SLOT[name];
    if (this.#open < 0 || this.#slots[at] !== -1) {
      throw new TypeError(`slot ${name} must be in an item, and once only`);
    }
    this.#slots[at] = offset;
  }

  finish(bytes: Uint8Array): Encoded {
    return { bytes, bounds: Int32Array.from(this.#bounds), slots: Int32Array.from(this.#slots) };
  }
}

const utf8 = new TextEncoder();

class ProtobufEncoder {
  #sizes = new Map<Message, number>();
  #rows = new ItemRows();
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  encode(root: MessageType, request: Message): Encoded {
    this.#bytes = new Uint8Array(this.#sizeOf(root, request));
    this.#view = new DataView(this.#bytes.buffer);
    this.#write(root, request);
    return this.#rows.finish(this.#bytes);
  }

  #sizeOf(type: MessageType, message: Message): number {
    const known = this.#sizes.get(message);
    if (known !== undefined) return known;
    let size = 0;
    for (const field of type.fields) {
      for (const value of occurrences(field, message[field.name])) {
        size += varintSize(tagOf(field)) + this.#sizeOfValue(field, value);
      }
    }
    this.#sizes.set(message, size);
    return size;
  }

  #sizeOfValue(field: Field, value: Value): number {
    switch (field.kind) {
      case 'string':
        return lengthPrefixed(textSize(value));
      case 'bytes':
        return lengthPrefixed((value as Uint8Array).length);
      case 'id':
        return lengthPrefixed(idSize(value));
      case 'bool':
        return 1;
      case 'enum':
      case 'uint32':
      case 'sint32':
      case 'int64':
        return value instanceof Slot ? 2 : bigVarintSize(toVarint(field, value));
      case 'fixed32':
        return 4;
      case 'fixed64':
      case 'sfixed64':
      case 'double':
        return 8;
      case 'packedDouble':
      case 'packedFixed64':
        return lengthPrefixed((value as readonly Value[]).length * 8);
      case 'packedUint64':
        return lengthPrefixed(packedSize(value));
      case 'message':
        return lengthPrefixed(this.#sizeOf(messageType(field.message!), value as Message));
    }
  }

  #write(type: MessageType, message: Message): void {
    if (type.item) this.#rows.begin(this.#at);
    for (const field of type.fields) {
      for (const value of occurrences(field, message[field.name])) {
        this.#varint(BigInt(tagOf(field)));
        this.#value(field, value);
      }
    }
    if (type.item) this.#rows.end(this.#at);
  }

  #value(field: Field, value: Value): void {
    switch (field.kind) {
      case 'string': {
        this.#varint(BigInt(textSize(value)));
        const text = value instanceof Slot ? value.prefix : String(value);
        this.#raw(utf8.encode(text));
        if (value instanceof Slot) this.#skip(value, TEXT_SLOT_WIDTH[value.name]!);
        return;
      }
      case 'bytes':
        this.#varint(BigInt((value as Uint8Array).length));
        this.#raw(value as Uint8Array);
        return;
      case 'id':
        this.#varint(BigInt(idSize(value)));
        if (value instanceof Slot) this.#skip(value, idSize(value));
        else this.#raw(value as Uint8Array);
        return;
      case 'bool':
      case 'enum':
      case 'uint32':
      case 'sint32':
      case 'int64':
        if (value instanceof Slot) this.#skip(value, 2);
        else this.#varint(toVarint(field, value));
        return;
      case 'fixed32':
        this.#view.setUint32(this.#at, Number(value), true);
        this.#at += 4;
        return;
      case 'fixed64':
      case 'sfixed64':
      case 'double':
        if (value instanceof Slot) this.#skip(value, 8);
        else this.#eightBytes(field.kind === 'double', value);
        return;
      case 'packedDouble':
      case 'packedFixed64': {
        const values = value as readonly Value[];
        this.#varint(BigInt(values.length * 8));
        for (const v of values) this.#eightBytes(field.kind === 'packedDouble', v);
        return;
      }
      case 'packedUint64':
        this.#varint(BigInt(packedSize(value)));
        for (const v of value as readonly Value[]) this.#varint(BigInt(v as number | bigint));
        return;
      case 'message': {
        const type = messageType(field.message!);
        this.#varint(BigInt(this.#sizeOf(type, value as Message)));
        this.#write(type, value as Message);
        return;
      }
    }
  }

  #eightBytes(double: boolean, value: Value): void {
    if (double) this.#view.setFloat64(this.#at, Number(value), true);
    else
      this.#view.setBigUint64(this.#at, BigInt.asUintN(64, BigInt(value as number | bigint | string)), true);
    this.#at += 8;
  }

  #skip(slot: Slot, width: number): void {
    this.#rows.slot(slot.name, this.#at);
    this.#at += width;
  }

  #raw(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #varint(value: bigint): void {
    let rest = value;
    while (rest > 127n) {
      this.#bytes[this.#at++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.#bytes[this.#at++] = Number(rest);
  }
}

class JsonEncoder {
  #rows = new ItemRows();
  #parts: string[] = [];
  #at = 0;

  encode(root: MessageType, request: Message): Encoded {
    this.#message(root, request);
    return this.#rows.finish(utf8.encode(this.#parts.join('')));
  }

  #message(type: MessageType, message: Message): void {
    if (type.item) this.#rows.begin(this.#at);
    this.#text('{');
    let first = true;
    for (const field of type.fields) {
      const value = message[field.name];
      if (value === undefined) continue;
      this.#text(`${first ? '' : ','}"${field.name}":`);
      first = false;
      if (field.repeated === true) this.#array(value as readonly Value[], (v) => this.#value(field, v));
      else this.#value(field, value);
    }
    this.#text('}');
    if (type.item) this.#rows.end(this.#at);
  }

  #value(field: Field, value: Value): void {
    switch (field.kind) {
      case 'string':
        if (!(value instanceof Slot)) {
          this.#text(JSON.stringify(value));
          return;
        }
        this.#text(JSON.stringify(value.prefix).slice(0, -1));
        this.#slot(value, TEXT_SLOT_WIDTH[value.name]!);
        this.#text('"');
        return;
      case 'bytes':
        this.#text(`"${Buffer.from(value as Uint8Array).toString('base64')}"`);
        return;
      case 'id':
        this.#text('"');
        if (value instanceof Slot) this.#slot(value, 2 * idSize(value));
        else this.#text(Buffer.from(value as Uint8Array).toString('hex'));
        this.#text('"');
        return;
      case 'bool':
      case 'enum':
      case 'uint32':
      case 'sint32':
      case 'fixed32':
        this.#text(String(value));
        return;
      case 'int64':
      case 'fixed64':
      case 'sfixed64':
        this.#text('"');
        if (value instanceof Slot)
          this.#slot(value, field.kind === 'int64' ? JSON_STATUS_WIDTH : JSON_TIME_WIDTH);
        else this.#text(String(value));
        this.#text('"');
        return;
      case 'double':
        if (value instanceof Slot) {
          this.#slot(value, JSON_NUMBER_WIDTH);
          return;
        }
        this.#text(String(value));
        return;
      case 'packedDouble':
        this.#array(value as readonly Value[], (v) => this.#text(String(v)));
        return;
      case 'packedFixed64':
      case 'packedUint64':
        this.#array(value as readonly Value[], (v) => this.#text(`"${v}"`));
        return;
      case 'message':
        this.#message(messageType(field.message!), value as Message);
        return;
    }
  }

  #array(values: readonly Value[], one: (value: Value) => void): void {
    this.#text('[');
    values.forEach((value, index) => {
      if (index > 0) this.#text(',');
      one(value);
    });
    this.#text(']');
  }

  #slot(slot: Slot, width: number): void {
    this.#rows.slot(slot.name, this.#at);
    this.#text('0'.repeat(width));
  }

  #text(text: string): void {
    this.#parts.push(text);
    this.#at += Buffer.byteLength(text);
  }
}

function occurrences(field: Field, value: Value | undefined): readonly Value[] {
  if (value === undefined) return [];
  return field.repeated === true ? (value as readonly Value[]) : [value];
}

const WIRE_TYPE: Partial<Record<Field['kind'], number>> = {
  bool: 0,
  enum: 0,
  uint32: 0,
  sint32: 0,
  int64: 0,
  fixed32: 5,
  fixed64: 1,
  sfixed64: 1,
  double: 1,
};

function tagOf(field: Field): number {
  return field.number * 8 + (WIRE_TYPE[field.kind] ?? 2);
}

function toVarint(field: Field, value: Value): bigint {
  const n = BigInt(value as number | bigint | boolean | string);
  if (field.kind === 'sint32') return BigInt.asUintN(32, (n << 1n) ^ (n >> 31n));
  return BigInt.asUintN(64, n);
}

function bigVarintSize(value: bigint): number {
  let size = 1;
  for (let rest = value >> 7n; rest > 0n; rest >>= 7n) size += 1;
  return size;
}

function varintSize(value: number): number {
  return bigVarintSize(BigInt(value));
}

function lengthPrefixed(size: number): number {
  return varintSize(size) + size;
}

function textSize(value: Value): number {
  if (value instanceof Slot) return Buffer.byteLength(value.prefix) + TEXT_SLOT_WIDTH[value.name]!;
  return Buffer.byteLength(String(value));
}

function idSize(value: Value): number {
  if (value instanceof Slot) return value.name === 'traceId' ? 16 : 8;
  return (value as Uint8Array).length;
}

function packedSize(value: Value): number {
  return (value as readonly Value[]).reduce<number>(
    (n, v) => n + bigVarintSize(BigInt(v as number | bigint)),
    0,
  );
}
