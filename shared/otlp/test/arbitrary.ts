import {
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  toBinary,
} from '@bufbuild/protobuf';
import fc from 'fast-check';
import { type Field, jsonName, MESSAGES, SIGNALS, type Signal } from '../src/index.ts';
import { referenceRequest } from './reference.ts';

export type WalkedSignal = Exclude<Signal, 'profiles'>;
export const WALKED: readonly WalkedSignal[] = ['traces', 'metrics', 'logs'];

const NESTING = 9;

/** A request in protobuf's JSON form (bytes in base64), with every kind of field present or absent. */
function requestJson(signal: WalkedSignal): fc.Arbitrary<JsonObject> {
  return messageJson(SIGNALS[signal].request!, NESTING);
}

/** A request as the reference parser holds it, and its bytes. */
export function request(
  signal: WalkedSignal,
): fc.Arbitrary<{ json: JsonObject; message: Message; bytes: Buffer }> {
  const schema: DescMessage = referenceRequest(signal);
  return requestJson(signal).map((json) => {
    const message = fromJson(schema, json);
    return { json, message, bytes: Buffer.from(toBinary(schema, message)) };
  });
}

const cache = new Map<string, fc.Arbitrary<JsonObject>>();

function messageJson(message: number, depth: number): fc.Arbitrary<JsonObject> {
  const key = `${message}:${depth}`;
  const known = cache.get(key);
  if (known) return known;
  const { fields } = MESSAGES[message]!;
  const plain: Record<string, fc.Arbitrary<JsonValue>> = {};
  const oneofs = new Map<string, fc.Arbitrary<JsonObject>[]>();
  for (const field of fields) {
    if (depth === 0 && field.child >= 0) continue;
    const value = fieldJson(field, depth);
    if (field.oneof === undefined) plain[jsonName(field.name)] = value;
    else {
      const members = oneofs.get(field.oneof) ?? [];
      members.push(value.map((v) => ({ [jsonName(field.name)]: v })));
      oneofs.set(field.oneof, members);
    }
  }
  const parts: fc.Arbitrary<JsonObject>[] = [
    fc.record(plain, { requiredKeys: [] }) as fc.Arbitrary<JsonObject>,
  ];
  for (const members of oneofs.values()) parts.push(fc.oneof(fc.constant({}), ...members));
  const made = fc.tuple(...parts).map((objects) => Object.assign({}, ...objects) as JsonObject);
  cache.set(key, made);
  return made;
}

function fieldJson(field: Field, depth: number): fc.Arbitrary<JsonValue> {
  const single = field.child < 0 ? scalarJson(field) : messageJson(field.child, depth - 1);
  return field.repeated ? fc.array(single, { maxLength: 3 }) : single;
}

const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 8 }).filter((s) => s.isWellFormed()),
  fc.constantFrom('', 'service.name', 'k8s.pod.uid', '"\\/\b\f\n\r\t', '\u0000', 'é', '😀'),
);

function scalarJson(field: Field): fc.Arbitrary<JsonValue> {
  switch (field.type) {
    case 'string':
      return text;
    case 'id':
      return base64(fc.uint8Array({ minLength: field.idBytes!, maxLength: field.idBytes! }));
    case 'bytes':
      return base64(fc.uint8Array({ maxLength: 20 }));
    case 'bool':
      return fc.boolean();
    case 'enum':
      return fc.oneof(fc.integer({ min: 0, max: 24 }), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
    case 'uint32':
    case 'fixed32':
      return fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
    case 'sint32':
      return fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    case 'int64':
    case 'sfixed64':
      return fc
        .oneof(
          fc.bigInt(-300n, 300n),
          fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
          fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n),
        )
        .map(String);
    case 'uint64':
    case 'fixed64':
      return fc
        .oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, 2n ** 64n - 1n), fc.constant(2n ** 64n - 1n))
        .map(String);
    default:
      return fc
        .double()
        .map((d) => (Number.isFinite(d) ? d : Number.isNaN(d) ? 'NaN' : d > 0 ? 'Infinity' : '-Infinity'));
  }
}

function base64(bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<string> {
  return bytes.map((b) => Buffer.from(b).toString('base64'));
}

/** OTLP's own JSON: ids in hex, everything else as protobuf has it. */
export function toOtlpJson(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(toOtlpJson);
  // JSON.stringify writes 0 for -0; a string keeps the sign (seed -1271710753).
  if (Object.is(value, -0)) return '-0';
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [
      key,
      /^(trace|span|parentSpan)Id$/.test(key) && typeof child === 'string'
        ? Buffer.from(child, 'base64').toString('hex')
        : toOtlpJson(child as JsonValue),
    ]),
  );
}

/** Number of items, by the reference's own view. */
export function countItems(signal: WalkedSignal, message: unknown): number {
  const of = (value: unknown, key: string): unknown[] => {
    const child = (value as Record<string, unknown>)[key];
    return Array.isArray(child) ? child : [];
  };
  if (signal === 'traces') {
    return of(message, 'resourceSpans')
      .flatMap((r) => of(r, 'scopeSpans'))
      .flatMap((s) => of(s, 'spans')).length;
  }
  if (signal === 'logs') {
    return of(message, 'resourceLogs')
      .flatMap((r) => of(r, 'scopeLogs'))
      .flatMap((s) => of(s, 'logRecords')).length;
  }
  return of(message, 'resourceMetrics')
    .flatMap((r) => of(r, 'scopeMetrics'))
    .flatMap((s) => of(s, 'metrics'))
    .flatMap((m) => {
      const { data } = m as { data?: { value?: unknown } };
      return data?.value === undefined ? [] : of(data.value, 'dataPoints');
    }).length;
}

export interface Mutation {
  kind: 'flip' | 'cut' | 'insert' | 'delete' | 'double' | 'random';
  at: number;
  length: number;
  bytes: Uint8Array;
}

export const mutation: fc.Arbitrary<Mutation> = fc.record({
  kind: fc.constantFrom('flip', 'cut', 'insert', 'delete', 'double', 'random'),
  at: fc.nat({ max: 1_000_000 }),
  length: fc.integer({ min: 1, max: 16 }),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }),
});

/** Damages bytes as a fault on the way, or somebody with intent, would. */
export function mutate(bytes: Buffer, { kind, at, length, bytes: given }: Mutation): Buffer {
  const place = bytes.byteLength === 0 ? 0 : at % bytes.byteLength;
  const before = bytes.subarray(0, place);
  const after = bytes.subarray(place);
  switch (kind) {
    case 'flip': {
      const copy = Buffer.from(bytes);
      if (copy.byteLength > 0) copy[place] = copy[place]! ^ given[0]!;
      return copy;
    }
    case 'cut':
      return before;
    case 'insert':
      return Buffer.concat([before, given, after]);
    case 'delete':
      return Buffer.concat([before, after.subarray(length)]);
    case 'double':
      return Buffer.concat([before, after.subarray(0, length * 8), after]);
    case 'random':
      return Buffer.from(given);
  }
}
