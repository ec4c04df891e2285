import { isUtf8 } from 'node:buffer';
import { OtlpError } from './error.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SKIP_MAX_DEPTH = 128;
/** More than fit into memory. */
const SKIPS_MAX = 2 ** 30;

/**
 * Reads JSON (RFC 8259) from bytes, token by token. Numbers stay text, because they may be 64-bit integers, and a string
 * without escapes is not copied.
 */
export class JsonReader {
  readonly bytes: Buffer;
  at = 0;
  /** Range of the last string or number, without quotes. */
  start = 0;
  end = 0;
  /** Whether that string has escapes, so that its bytes are not its text. */
  escaped = false;
  /** Number of values that may still be skipped; negative once there was one more. */
  skipsLeft = SKIPS_MAX;
  /** Whether the escapes of skipped strings are checked. */
  checksSkipped = true;
  readonly #path: () => string;

  /** Whether the whole input is valid UTF-8. */
  readonly isUtf8: boolean;

  /** @param path current position, for errors. @param lenient accepts strings that are not valid UTF-8 */
  constructor(bytes: Buffer, path: () => string, lenient = false) {
    this.isUtf8 = isUtf8(bytes);
    if (!this.isUtf8 && !lenient) throw new OtlpError(400, 'malformed', 'the body is not valid UTF-8');
    this.bytes = bytes;
    this.#path = path;
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) this.at = 3; // a byte order mark
  }

  fail(message: string): never {
    const where = this.#path() || 'the request';
    throw new OtlpError(
      400,
      'malformed',
      `${where}: ${message} (byte ${this.at} of ${this.bytes.byteLength})`,
    );
  }

  /** The next byte that is not white space; -1 at the end. */
  peek(): number {
    const { bytes } = this;
    let at = this.at;
    while (at < bytes.length) {
      const byte = bytes[at]!;
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break;
      at++;
    }
    this.at = at;
    return at < bytes.length ? bytes[at]! : -1;
  }

  /** Consumes this character if it is next. */
  take(character: string): boolean {
    if (this.peek() !== character.charCodeAt(0)) return false;
    this.at++;
    return true;
  }

  expect(character: string): void {
    if (!this.take(character)) this.fail(`expected "${character}"`);
  }

  /** Reads a string if one is next. @returns whether there was one */
  string(): boolean {
    if (this.peek() !== QUOTE) return false;
    const { bytes } = this;
    let at = this.at + 1;
    this.start = at;
    this.escaped = false;
    while (true) {
      if (at >= bytes.length) this.fail('a string is not terminated');
      const byte = bytes[at]!;
      if (byte === QUOTE) break;
      if (byte === BACKSLASH) {
        this.escaped = true;
        at++;
      } else if (byte < 0x20) {
        this.at = at;
        this.fail('an unescaped control character in a string');
      }
      at++;
    }
    this.end = at;
    this.at = at + 1;
    return true;
  }

  /** Where the bytes of the last string or number are, without its escape sequences. */
  unescaped(): { bytes: Buffer; start: number; end: number } {
    if (!this.escaped) return this;
    const bytes = Buffer.from(this.text());
    return { bytes, start: 0, end: bytes.byteLength };
  }

  /** The text of the last string. */
  text(): string {
    if (!this.escaped) return this.bytes.toString('utf8', this.start, this.end);
    try {
      return JSON.parse(this.bytes.toString('utf8', this.start - 1, this.end + 1)) as string;
    } catch {
      return this.fail('a string has an invalid escape sequence');
    }
  }

  /** Reads a number as text if one is next. @returns whether there was one */
  number(): boolean {
    const first = this.peek();
    if (first !== 0x2d && !isDigit(first)) return false;
    const { bytes } = this;
    let at = this.at;
    this.start = at;
    if (bytes[at] === 0x2d) at++;
    if (bytes[at] === 0x30) at++;
    else at = this.#digits(at);
    if (bytes[at] === 0x2e) at = this.#digits(at + 1);
    if (bytes[at] === 0x65 || bytes[at] === 0x45) {
      at++;
      if (bytes[at] === 0x2b || bytes[at] === 0x2d) at++;
      at = this.#digits(at);
    }
    this.end = at;
    this.at = at;
    if (isDigit(bytes[at] ?? -1)) this.fail('a number begins with 0');
    return true;
  }

  /** Reads this word if it is next. @returns whether it was */
  word(word: 'null' | 'true' | 'false'): boolean {
    if (this.peek() !== word.charCodeAt(0)) return false;
    const { bytes, at } = this;
    for (let i = 1; i < word.length; i++) if (bytes[at + i] !== word.charCodeAt(i)) return false;
    this.at = at + word.length;
    return true;
  }

  /** Skips any value. */
  skip(depth = 0): void {
    if (depth > SKIP_MAX_DEPTH) this.fail('values are nested too deeply');
    if (--this.skipsLeft < 0) this.fail('too many values');
    if (this.string()) {
      if (this.escaped && this.checksSkipped) this.text();
      return;
    }
    if (this.number() || this.word('null') || this.word('true') || this.word('false')) return;
    if (this.take('{')) {
      if (this.take('}')) return;
      do {
        if (!this.string()) this.fail('expected a key in quotes');
        this.expect(':');
        this.skip(depth + 1);
      } while (this.take(','));
      this.expect('}');
      return;
    }
    if (this.take('[')) {
      if (this.take(']')) return;
      do this.skip(depth + 1);
      while (this.take(','));
      this.expect(']');
      return;
    }
    this.fail('expected a value');
  }

  /** Checks that only white space follows. */
  finish(): void {
    if (this.peek() !== -1) this.fail('unexpected data after the end of the body');
  }

  #digits(at: number): number {
    let end = at;
    while (isDigit(this.bytes[end] ?? -1)) end++;
    if (end === at) {
      this.at = at;
      this.fail('a number is incomplete');
    }
    return end;
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
