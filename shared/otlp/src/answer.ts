import protobuf from 'protobufjs/light.js';
import { asBuffer } from './join.ts';
import { JsonReader } from './json-reader.ts';

/** Most values of an answer that are looked at: real ones have a few, and an upstream may send millions. */
const VALUES_MAX = 10_000;
/** Longest text that is returned. */
const TEXT_MAX_BYTES = 8_192;
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
const VARINT = 0;
const LENGTH_DELIMITED = 2;

/** The message `{ number = 1, text = 2 }` that every answer has: a `Status`, or a partial success. */
export interface Said {
  number?: unknown;
  text?: unknown;
}

/** The JSON names of its members, and of the member, number 1, that has it. */
export interface SaidNames {
  number: string;
  text: string;
  within?: string;
}

/**
 * Reads an answer value by value, without building what nobody asks for.
 * @returns undefined if it is not of its content type; one with too many values is read as far as `VALUES_MAX`
 */
export function readAnswer(body: Uint8Array, contentType: string, names: SaidNames): Said | undefined {
  const said: Said = {};
  if (/json/i.test(contentType)) return new AnswerJson(asBuffer(body)).read(said, names) ? said : undefined;
  if (!/protobuf/i.test(contentType)) return undefined;
  return new AnswerFields(asBuffer(body)).read(said, names.within !== undefined) ? said : undefined;
}

class AnswerJson {
  readonly #in: JsonReader;

  constructor(bytes: Buffer) {
    this.#in = new JsonReader(bytes, () => 'the answer', true);
    this.#in.skipsLeft = VALUES_MAX;
    this.#in.checksSkipped = false;
  }

  read(said: Said, { number, text, within }: SaidNames): boolean {
    const take = (name: string) => {
      if (name === number) said.number = this.#scalar();
      else if (name === text) said.text = this.#scalar();
      else return false;
      return true;
    };
    try {
      const isObject = this.#members(within ? (name) => name === within && this.#members(take) : take);
      if (!isObject) return false;
      this.#in.finish();
    } catch {
      return this.#in.skipsLeft < 0;
    }
    return true;
  }

  /**
   * Reads the members of an object.
   * @param take consumes the value of a member, and returns true, if it is wanted
   * @returns whether an object is next
   */
  #members(take: (name: string) => boolean): boolean {
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
  #scalar(): string | number | undefined {
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

class AnswerFields {
  readonly #bytes: Buffer;
  readonly #in: protobuf.Reader;
  #left = VALUES_MAX;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#in = protobuf.Reader.create(bytes);
  }

  read(said: Said, isWithin: boolean): boolean {
    try {
      this.#message(said, this.#bytes.byteLength, isWithin);
    } catch {
      return this.#left < 0;
    }
    return true;
  }

  #message(said: Said, end: number, isWithin: boolean): void {
    const reader = this.#in;
    while (reader.pos < end) {
      if (--this.#left < 0) throw new RangeError('too many fields');
      const tag = reader.uint32();
      const wireType = tag & 7;
      const number = tag >>> 3;
      if (isWithin && number === 1 && wireType === LENGTH_DELIMITED) {
        const innerEnd = reader.uint32() + reader.pos;
        if (innerEnd > end) throw new RangeError('a message ends behind its end');
        this.#message(said, innerEnd, false);
      } else if (!isWithin && number === 1 && wireType === VARINT)
        said.number = Number(String(reader.int64()));
      else if (!isWithin && number === 2 && wireType === LENGTH_DELIMITED) said.text = this.#text();
      else this.#skip(wireType);
    }
  }

  /** A string, or its beginning. */
  #text(): string {
    const length = this.#in.uint32();
    const from = this.#in.pos;
    this.#in.skip(length);
    return this.#bytes.toString('utf8', from, from + Math.min(length, TEXT_MAX_BYTES));
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
