/*
 * The sources that a request moves, as the script reads them: a MessagePack array of field, expected version and value, in turn.
 * Written in one piece of memory: three small buffers for each of 1,000 sources took as long as merging them.
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 */
const ARRAY_32 = 0xdd;
/** The length, up to 31, is in its low bits. */
const TEXT_SHORT = 0xa0;
const SHORT_MAX = 31;
const TEXT_16 = 0xda;
const HEAD = 5;

/** A source as a request moved it. */
export interface SourceClaim {
  field: Buffer;
  /** Start and time that the ledger has to have; empty: none; `F`: none, though its own stream is known. */
  expected: Buffer;
  /** What the ledger is to have; empty: nothing any more. */
  value: Buffer;
}

/** What `length` bytes as a text take at most. */
export const textBytes = (length: number) => length + 3;

/** Writes an array of texts. */
export class TextWriter {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #at = HEAD;
  #texts = 0;

  /** @param maxBytes what the texts take at most; see `textBytes` */
  constructor(maxBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(HEAD + maxBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Begins a text of so many bytes, which the caller writes next. */
  text(length: number): void {
    const view = this.#view;
    const at = this.#at;
    this.#texts++;
    if (length <= SHORT_MAX) {
      view.setUint8(at, TEXT_SHORT | length);
      this.#at = at + 1;
    } else {
      view.setUint8(at, TEXT_16);
      view.setUint16(at + 1, length);
      this.#at = at + 3;
    }
  }

  byte(byte: number): void {
    this.#view.setUint8(this.#at++, byte);
  }

  /** Little-endian, like all numbers of the ledger. */
  words(words: Int32Array, from: number, count: number): void {
    const view = this.#view;
    const at = this.#at;
    for (let i = 0; i < count; i++) view.setInt32(at + 4 * i, words[from + i]!, true);
    this.#at = at + 4 * count;
  }

  doubles(doubles: Float64Array, from: number, count: number): void {
    const view = this.#view;
    const at = this.#at;
    for (let i = 0; i < count; i++) view.setFloat64(at + 8 * i, doubles[from + i]!, true);
    this.#at = at + 8 * count;
  }

  /** The array; empty when it has no texts. */
  end(): Buffer {
    if (this.#texts === 0) return Buffer.alloc(0);
    this.#bytes[0] = ARRAY_32;
    this.#view.setUint32(1, this.#texts);
    return this.#bytes.subarray(0, this.#at);
  }
}

/** The claims of such an array. */
export function sourceClaims(packed: Buffer): SourceClaim[] {
  const texts: Buffer[] = [];
  for (let at = HEAD; at < packed.length; ) {
    const head = packed[at]!;
    const isShort = head !== TEXT_16;
    const length = isShort ? head & SHORT_MAX : packed.readUInt16BE(at + 1);
    const from = at + (isShort ? 1 : 3);
    texts.push(packed.subarray(from, from + length));
    at = from + length;
  }
  const claims: SourceClaim[] = [];
  for (let i = 0; i < texts.length; i += 3)
    claims.push({ field: texts[i]!, expected: texts[i + 1]!, value: texts[i + 2]! });
  return claims;
}
