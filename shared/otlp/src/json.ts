import { isUtf8 } from 'node:buffer';
import { DecimalInteger } from './decimal.ts';
import { GRPC, OtlpError } from './error.ts';
import { JsonReader } from './json-reader.ts';
import { type Field, jsonName, MESSAGES } from './schema.ts';
import { SIGNALS, type Signal } from './signal.ts';
import { DEFAULT_MAX_DEPTH, type WalkOptions } from './walk.ts';
import { WireWriter } from './wire-writer.ts';

/**
 * Converts OTLP's JSON form to protobuf in one pass over the bytes, driven by the schema. Ids are hex, 64-bit integers are
 * strings or bare numbers and never become a JavaScript number, enums are integers or names, unknown fields are ignored, `null`
 * is absent. (OTLP specification, "JSON Protobuf Encoding"; protobuf's JSON mapping.)
 */

interface JsonField extends Field {
  tag: number;
  packed: boolean;
  /** Bit of the field within its message, to find duplicates. */
  bit: number;
  /** Bits of the other members of its oneof. */
  rivals: number;
}

const LENGTH_DELIMITED = 2;
const WIRE_TYPES: Readonly<Record<string, number>> = {
  string: 2,
  bytes: 2,
  id: 2,
  fixed64: 1,
  sfixed64: 1,
  double: 1,
  fixed32: 5,
};

/** Fields by both of their names, for each message. Maps, so that a key such as `__proto__` is not special. */
const FIELDS: readonly ReadonlyMap<string, JsonField>[] = MESSAGES.map((message) => {
  const byName = new Map<string, JsonField>();
  for (const [bit, field] of message.fields.entries()) {
    const isMessage = field.child >= 0;
    const packed = !isMessage && field.repeated && field.type !== 'string';
    const wireType = isMessage || packed ? LENGTH_DELIMITED : (WIRE_TYPES[field.type] ?? 0);
    const known: JsonField = {
      ...field,
      tag: field.number * 8 + wireType,
      packed,
      bit: 1 << bit,
      rivals: message.fields.reduce(
        (bits, { oneof }, i) =>
          oneof !== undefined && oneof === field.oneof && i !== bit ? bits | (1 << i) : bits,
        0,
      ),
    };
    byName.set(field.name, known);
    byName.set(jsonName(field.name), known);
  }
  return byName;
});

const TWO32 = 2 ** 32;
/** Maximum length of an integer that is written with a point or an exponent. */
const INTEGER_MAX_CHARS = 100;
/** So much of a bad number is shown. */
const SHOWN_CHARS = 40;

export interface JsonOptions extends WalkOptions {
  /**
   * Passes on what `inspect` finds in single items: strings that are not valid UTF-8, and invalid ids, which become ids of a
   * wrong length. Items with other values of a wrong type are left out.
   */
  lenient?: boolean;
  /** Maximum size of the result; more is refused with 413. */
  maxBodyBytes?: number | undefined;
}

export interface FromJson {
  body: Buffer;
  /** Number of items left out. */
  rejected: number;
  /** Position of the first bad value and what was expected there; empty if there was none. */
  message: string;
}

/** @throws OtlpError 400 with the JSON path and what was expected there */
export function jsonToProtobuf(signal: Signal, body: Buffer, options: JsonOptions = {}): Buffer {
  return readJson(signal, body, options).body;
}

/** `jsonToProtobuf` that also reports what `lenient` has left out. */
export function readJson(signal: Signal, body: Buffer, options: JsonOptions): FromJson {
  const { request, path } = SIGNALS[signal];
  if (request === undefined) {
    const message = `JSON is not supported at ${path}; expected application/x-protobuf`;
    throw new OtlpError(415, 'content_type', message, GRPC.UNIMPLEMENTED);
  }
  return new Converter(body, options).convert(request);
}

class Converter {
  readonly #in: JsonReader;
  readonly #out: WireWriter;
  readonly #path: (string | number)[] = [];
  #depthLeft: number;
  /** Halves of the 64-bit integer read last, unsigned. */
  #low = 0;
  #high = 0;
  readonly #decimal = new DecimalInteger();

  readonly #lenient: boolean;
  /** Whether the current item, or message that contains items, is invalid. */
  #isBad = false;
  #firstBad = '';
  #items = 0;
  #rejected = 0;

  constructor(body: Buffer, { maxDepth = DEFAULT_MAX_DEPTH, lenient = false, maxBodyBytes }: JsonOptions) {
    this.#lenient = lenient;
    this.#in = new JsonReader(body, () => this.#where(), lenient);
    this.#out = new WireWriter(body.byteLength, maxBodyBytes);
    this.#depthLeft = maxDepth;
  }

  convert(message: number): FromJson {
    this.#message(message);
    this.#in.finish();
    return { body: this.#out.finish(), rejected: this.#rejected, message: this.#firstBad };
  }

  /**
   * Handles a value of a wrong type: invalidates its item, or all items below the message that has it.
   * @param message made only for the first of many
   */
  #bad(message: () => string): void {
    if (!this.#lenient) this.#in.fail(message());
    this.#firstBad ||= `${this.#where()}: ${message()}`;
    this.#isBad = true;
  }

  #where(): string {
    return this.#path
      .map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`))
      .join('');
  }

  #message(message: number): void {
    const input = this.#in;
    if (this.#depthLeft-- === 0) input.fail('messages are nested too deeply');
    if (!input.take('{')) input.fail('expected an object');
    const fields = FIELDS[message]!;
    let seen = 0;
    if (!input.take('}')) {
      do {
        if (!input.string()) input.fail('expected a key in quotes');
        const key = input.escaped ? input.text() : input.bytes.toString('latin1', input.start, input.end);
        const field = fields.get(key);
        input.expect(':');
        if (field === undefined) {
          input.skip();
          continue;
        }
        this.#path.push(key);
        if (input.word('null')) {
          this.#path.pop();
          continue;
        }
        if (seen & field.bit) input.fail('the field is given twice');
        if (seen & field.rivals) this.#bad(() => `expected one field of the oneof "${field.oneof}"`);
        seen |= field.bit;
        if (field.repeated) this.#list(field);
        else this.#single(field);
        this.#path.pop();
      } while (input.take(','));
      input.expect('}');
    }
    this.#depthLeft++;
  }

  #list(field: JsonField): void {
    const input = this.#in;
    const out = this.#out;
    input.expect('[');
    if (input.take(']')) return;
    let opened = 0;
    if (field.packed) {
      out.varint(field.tag);
      opened = out.open();
    }
    let index = 0;
    do {
      this.#path.push(index++);
      if (field.packed) this.#scalar(field);
      else this.#element(field);
      this.#path.pop();
    } while (input.take(','));
    input.expect(']');
    if (field.packed) out.close(opened);
  }

  #single(field: JsonField): void {
    if (field.child >= 0) {
      this.#element(field);
      return;
    }
    const before = this.#out.length;
    this.#out.varint(field.tag);
    const isDefault = this.#scalar(field);
    // A default value is left out, unless the field has presence.
    if (isDefault && !field.presence) this.#out.truncate(before);
  }

  #element(field: JsonField): void {
    if (field.isBranch) this.#branch(field);
    else this.#whole(field);
  }

  #branch(field: JsonField): void {
    const isBad = this.#isBad;
    const before = { length: this.#out.length, rejected: this.#rejected, items: this.#items };
    this.#isBad = false;
    this.#whole(field);
    if (MESSAGES[field.child]!.item) this.#items++;
    if (this.#isBad) {
      this.#out.truncate(before.length);
      this.#rejected = before.rejected + this.#items - before.items;
    }
    this.#isBad = isBad;
  }

  #whole(field: JsonField): void {
    this.#out.varint(field.tag);
    if (field.child < 0) {
      this.#scalar(field);
      return;
    }
    const opened = this.#out.open();
    this.#message(field.child);
    this.#out.close(opened);
  }

  /** @returns whether the value is the type's default */
  #scalar(field: JsonField): boolean {
    const input = this.#in;
    const out = this.#out;
    switch (field.type) {
      case 'string': {
        if (!input.string()) input.fail('expected a string');
        if (input.escaped && (input.isUtf8 || isUtf8(input.bytes.subarray(input.start, input.end)))) {
          const text = input.text();
          if (text.isWellFormed()) out.text(text);
          else this.#halfPairs(text);
          return text === '';
        }
        out.bytes(input.bytes, input.start, input.end);
        return input.start === input.end;
      }
      case 'id':
        return this.#hex(field.idBytes ?? 0);
      case 'bytes':
        return this.#base64();
      case 'bool': {
        const value = input.word('true');
        if (!value && !input.word('false')) input.fail('expected true or false');
        out.byte(value ? 1 : 0);
        return !value;
      }
      case 'enum':
        return this.#enum(field);
      case 'double': {
        const value = this.#double();
        out.double(value);
        return Object.is(value, 0);
      }
      case 'uint32':
      case 'fixed32': {
        this.#integer(field.type, 0, 2 ** 32 - 1);
        if (field.type === 'fixed32') out.fixed32(this.#low);
        else out.varint(this.#low);
        break;
      }
      case 'sint32': {
        this.#integer(field.type, -(2 ** 31), 2 ** 31 - 1);
        const value = this.#low | 0;
        out.varint(((value << 1) ^ (value >> 31)) >>> 0);
        break;
      }
      case 'int64':
      case 'uint64':
        this.#integer64(field.type === 'int64');
        out.varint64(this.#low, this.#high);
        break;
      case 'fixed64':
      case 'sfixed64':
        this.#integer64(field.type === 'sfixed64');
        out.fixed64(this.#low, this.#high);
        break;
    }
    return this.#low === 0 && this.#high === 0;
  }

  /** Replaces halves of surrogate pairs, which are no characters, by a byte that is invalid UTF-8 and handled as such. */
  #halfPairs(text: string): void {
    if (!this.#lenient) this.#in.fail('a string has half of a surrogate pair');
    const bytes = utf8WithHalves(text);
    this.#out.bytes(bytes, 0, bytes.byteLength);
  }

  #enum(field: JsonField): boolean {
    const input = this.#in;
    if (input.string()) {
      const value = Object.hasOwn(field.values ?? {}, input.text())
        ? field.values?.[input.text()]
        : undefined;
      if (value === undefined) this.#bad(() => "expected an integer, or one of the enum's names");
      this.#out.varint(value ?? 0);
      return value === 0;
    }
    this.#integer('enum', -(2 ** 31), 2 ** 31 - 1);
    this.#out.varint64(this.#low, this.#high); // negative ones are sign-extended to 64 bits
    return this.#low === 0;
  }

  #integer(type: string, min: number, max: number): void {
    this.#integer64(min < 0);
    const value = (this.#high | 0) * TWO32 + this.#low;
    if (value >= min && value <= max) return;
    this.#bad(() => `expected ${type === 'enum' ? 'an' : 'a'} ${type}, from ${min} to ${max}`);
    this.#low = 0;
    this.#high = 0;
  }

  /** Reads a 64-bit integer, bare or quoted, into its two halves. */
  #integer64(signed: boolean): void {
    const input = this.#in;
    if (!input.number() && !input.string()) input.fail('expected an integer');
    const { bytes, end } = input;
    let at = input.start;
    const negative = bytes[at] === 0x2d;
    if (negative) at++;
    if (at === end) {
      this.#unusualInteger(signed);
      return;
    }
    let low = 0;
    let high = 0;
    for (; at < end; at++) {
      const digit = bytes[at]! - 0x30;
      if (digit < 0 || digit > 9) {
        this.#unusualInteger(signed);
        return;
      }
      low = low * 10 + digit;
      const carry = low >= TWO32 ? Math.floor(low / TWO32) : 0;
      low -= carry * TWO32;
      high = high * 10 + carry;
      if (high >= TWO32) {
        this.#unusualInteger(signed); // an exponent may make it fit
        return;
      }
    }
    this.#sign(low, high, negative, signed);
  }

  #sign(low: number, high: number, negative: boolean, signed: boolean): void {
    const isTooLarge = high > 2 ** 31 || (high === 2 ** 31 && (low > 0 || !negative));
    if (signed ? isTooLarge : negative && (low !== 0 || high !== 0)) this.#outOfRange(signed);
    else if (negative) {
      // Two's complement.
      this.#low = (~low + 1) >>> 0;
      this.#high = (~high + (low === 0 ? 1 : 0)) >>> 0;
    } else {
      this.#low = low >>> 0;
      this.#high = high >>> 0;
    }
  }

  /** `1.0` and `1e3` are integers too in protobuf's JSON mapping. */
  #unusualInteger(signed: boolean): void {
    const { bytes, start, end } = this.#in.unescaped();
    const decimal = this.#decimal;
    const found = end - start > INTEGER_MAX_CHARS ? 'none' : decimal.read(bytes, start, end);
    if (found === 'integer') this.#sign(decimal.low, decimal.high, decimal.isNegative, signed);
    else if (found === 'too_large') this.#outOfRange(signed);
    else {
      const shown = () => bytes.toString('latin1', start, Math.min(end, start + SHOWN_CHARS));
      this.#badInteger(() => `"${shown()}" is not an integer`);
    }
  }

  #outOfRange(signed: boolean): void {
    this.#badInteger(
      () => `the integer does not fit; expected ${signed ? 'a signed' : 'an unsigned'} one of 64 bits`,
    );
  }

  #badInteger(message: () => string): void {
    this.#bad(message);
    this.#low = 0;
    this.#high = 0;
  }

  #double(): number {
    const input = this.#in;
    if (input.number()) return this.#finite(input.bytes.toString('latin1', input.start, input.end));
    if (input.string()) {
      const text = input.text();
      if (text === 'NaN') return Number.NaN;
      if (text === 'Infinity') return Number.POSITIVE_INFINITY;
      if (text === '-Infinity') return Number.NEGATIVE_INFINITY;
      if (/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return this.#finite(text);
      this.#bad(() => `${JSON.stringify(text.slice(0, SHOWN_CHARS))} is not a number`);
      return 0;
    }
    return input.fail('expected a number, "NaN", "Infinity" or "-Infinity"');
  }

  #finite(text: string): number {
    const value = Number(text);
    if (!Number.isFinite(value))
      this.#bad(() => 'the number does not fit; expected one that a double can hold');
    return value;
  }

  #hex(idBytes: number): boolean {
    const input = this.#in;
    if (!input.string()) input.fail('expected an id in hex');
    const { bytes, start, end } = input.unescaped();
    if (start === end) {
      this.#out.varint(0);
      return true;
    }
    if (this.#lenient && !isHex(bytes, start, end, idBytes)) {
      this.#out.varint(1);
      this.#out.byte(0);
      return false;
    }
    if (end - start !== idBytes * 2) {
      input.fail(`an id of ${end - start} hex digits; expected ${idBytes * 2}, or none`);
    }
    this.#out.varint(idBytes);
    for (let at = start; at < end; at += 2) {
      const value = nibble(bytes[at]!) * 16 + nibble(bytes[at + 1]!);
      if (!(value >= 0)) input.fail('an id has a character that is not a hex digit');
      this.#out.byte(value);
    }
    return false;
  }

  #base64(): boolean {
    const input = this.#in;
    if (!input.string()) input.fail('expected bytes in base64');
    const text = input.text();
    if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text) || text.replace(/=+$/, '').length % 4 === 1) {
      this.#bad(() => 'expected bytes in base64');
      this.#out.varint(0);
      return true;
    }
    const bytes = Buffer.from(text, 'base64');
    this.#out.bytes(bytes, 0, bytes.byteLength);
    return bytes.byteLength === 0;
  }
}

/** UTF-8 with 0xff for each half of a surrogate pair. A large string may consist of nothing else. */
function utf8WithHalves(text: string): Buffer {
  const bytes = Buffer.allocUnsafe(text.length * 3);
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.codePointAt(i)!;
    if (code < 0x80) bytes[length++] = code;
    else if (code >= 0xd800 && code <= 0xdfff) bytes[length++] = 0xff;
    else {
      const more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
      bytes[length++] = ((0xff80 >> more) & 0xff) | (code >> (6 * more));
      for (let left = more - 1; left >= 0; left--) bytes[length++] = 0x80 | ((code >> (6 * left)) & 0x3f);
      if (more === 3) i++; // a complete pair
    }
  }
  return bytes.subarray(0, length);
}

function isHex(bytes: Uint8Array, start: number, end: number, idBytes: number): boolean {
  if (end - start !== idBytes * 2) return false;
  for (let at = start; at < end; at++) if (!(nibble(bytes[at]!) >= 0)) return false;
  return true;
}

function nibble(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : Number.NaN;
}
