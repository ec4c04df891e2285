import protobuf from 'protobufjs/light.js';
import { JsonReader } from './json-reader.ts';

/** Most values of an answer that are looked at: real ones have a few, and an upstream may send millions. */
const VALUES_MAX = 10_000;
/** Longest text that is returned. */
const TEXT_MAX_BYTES = 8_192;
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
export const VARINT = 0;
export const LENGTH_DELIMITED = 2;

/** Consumes the value of a member, if it is one that is wanted. @returns whether it was */
type TakeMember = (name: string) => boolean;
/** Consumes a field, if it is one that is wanted. @returns whether it was */
type TakeField = (field: number, wireType: number) => boolean;

/**
 * Reads an answer value by value, without building what nobody asks for.
 * @returns whether it is of its content type; one with too many values is read as far as `VALUES_MAX`
 */
export function readAnswer(
  body: Uint8Array,
  contentType: string,
  fromJson: (json: AnswerJson) => TakeMember,
  fromProtobuf: (fields: AnswerFields) => TakeField,
): boolean {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (/json/i.test(contentType)) {
    const json = new AnswerJson(bytes);
    return json.read(fromJson(json));
  }
  if (!/protobuf/i.test(contentType)) return false;
  const fields = new AnswerFields(bytes);
  return fields.read(fromProtobuf(fields));
}

/** An answer in JSON. */
class AnswerJson {
  readonly #in: JsonReader;

  constructor(bytes: Buffer) {
    this.#in = new JsonReader(bytes, () => 'the answer', true);
    this.#in.skipsLeft = VALUES_MAX;
    this.#in.checksSkipped = false;
  }

  read(take: TakeMember): boolean {
    try {
      if (!this.members(take)) return false;
      this.#in.finish();
    } catch {
      return this.#in.skipsLeft < 0;
    }
    return true;
  }

  /** Reads the members of an object. @returns whether one is next */
  members(take: TakeMember): boolean {
    const json = this.#in;
    if (!json.take('{')) return false;
    if (json.take('}')) return true;
    do {
      if (!json.string()) json.fail('expected a key in quotes');
      const name = this.#text();
      json.expect(':');
      if (--json.skipsLeft < 0) json.fail('too many values');
      if (!take(name)) json.skip();
    } while (json.take(','));
    json.expect('}');
    return true;
  }

  /** A string or number; NaN for anything else, undefined for null. */
  scalar(): string | number | undefined {
    const json = this.#in;
    if (json.string()) return this.#text();
    if (json.number()) return Number(json.bytes.toString('latin1', json.start, json.end));
    if (json.word('null')) return undefined;
    json.skip();
    return Number.NaN;
  }

  /** The last string, or its beginning. */
  #text(): string {
    const json = this.#in;
    const { bytes, start } = json;
    if (json.end - start <= TEXT_MAX_BYTES) return json.text();
    let end = start;
    while (end < start + TEXT_MAX_BYTES)
      end += bytes[end] !== BACKSLASH ? 1 : bytes[end + 1] === LETTER_U ? 6 : 2; // not within an escape
    const text = bytes.toString('utf8', start, Math.min(end, json.end));
    return json.escaped ? (JSON.parse(`"${text}"`) as string) : text;
  }
}

/** An answer in protobuf. */
class AnswerFields {
  readonly #bytes: Buffer;
  readonly #in: protobuf.Reader;
  #end: number;
  #left = VALUES_MAX;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#in = protobuf.Reader.create(bytes);
    this.#end = bytes.byteLength;
  }

  read(take: TakeField): boolean {
    try {
      this.#fields(take);
    } catch {
      return this.#left < 0;
    }
    return true;
  }

  /** Reads the fields of the message that is next. */
  message(take: TakeField): true {
    const outer = this.#end;
    this.#end = this.#in.uint32() + this.#in.pos;
    if (this.#end > outer) throw new RangeError('a message ends behind its end');
    this.#fields(take);
    this.#end = outer;
    return true;
  }

  int64(): number {
    return Number(String(this.#in.int64()));
  }

  /** A string, or its beginning. */
  text(): string {
    const length = this.#in.uint32();
    const from = this.#in.pos;
    this.#in.skip(length);
    return this.#bytes.toString('utf8', from, from + Math.min(length, TEXT_MAX_BYTES));
  }

  #fields(take: TakeField): void {
    while (this.#in.pos < this.#end) {
      if (--this.#left < 0) throw new RangeError('too many fields');
      const tag = this.#in.uint32();
      if (!take(tag >>> 3, tag & 7)) this.#skip(tag & 7);
    }
  }

  /** Skips a field in one step; an answer has no groups. */
  #skip(wireType: number): void {
    if (wireType === VARINT) this.#in.skip();
    else if (wireType === LENGTH_DELIMITED) this.#in.skip(this.#in.uint32());
    else if (wireType === 1) this.#in.skip(8);
    else if (wireType === 5) this.#in.skip(4);
    else throw new RangeError('a field of no known kind');
  }
}
