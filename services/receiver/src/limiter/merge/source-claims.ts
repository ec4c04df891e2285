/*
 * The sources that a request moves, as the script reads them: a MessagePack array of field, expected version and value, in turn.
 * Written in one piece of memory: three small buffers for each of 1,000 sources took as long as merging them.
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 */
const ARRAY_32 = 0xdd;
const TEXT_8 = 0xd9;
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

/** Writes an array of texts into memory that is used again and again. */
export class TextWriter {
  #bytes = Buffer.allocUnsafeSlow(16_384);
  #view = new DataView(this.#bytes.buffer);
  #at = HEAD;
  #texts = 0;

  begin(): void {
    this.#at = HEAD;
    this.#texts = 0;
  }

  /** Begins a text of so many bytes, which the caller writes next. */
  text(length: number): void {
    const needed = this.#at + length + 3;
    if (needed > this.#bytes.length) this.#grow(needed);
    this.#texts++;
    if (length < 256) {
      this.#bytes[this.#at] = TEXT_8;
      this.#bytes[this.#at + 1] = length;
      this.#at += 2;
    } else {
      this.#bytes[this.#at] = TEXT_16;
      this.#view.setUint16(this.#at + 1, length);
      this.#at += 3;
    }
  }

  byte(byte: number): void {
    this.#bytes[this.#at++] = byte;
  }

  /** Little-endian, like all numbers of the ledger. */
  words(words: Int32Array, from: number, count: number): void {
    for (let i = 0; i < count; i++, this.#at += 4) this.#view.setInt32(this.#at, words[from + i]!, true);
  }

  doubles(doubles: Float64Array, from: number, count: number): void {
    for (let i = 0; i < count; i++, this.#at += 8) this.#view.setFloat64(this.#at, doubles[from + i]!, true);
  }

  /** The array; empty when it has no texts. */
  end(): Buffer {
    if (this.#texts === 0) return Buffer.alloc(0);
    this.#bytes[0] = ARRAY_32;
    this.#view.setUint32(1, this.#texts);
    const packed = Buffer.from(this.#bytes.subarray(0, this.#at));
    // One big request must not hold on to its memory.
    if (this.#bytes.length > 4_194_304) this.#resize(16_384, 0);
    return packed;
  }

  #grow(needed: number): void {
    this.#resize(Math.max(needed, this.#bytes.length * 2), this.#at);
  }

  #resize(length: number, kept: number): void {
    const bytes = Buffer.allocUnsafeSlow(length);
    this.#bytes.copy(bytes, 0, 0, kept);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }
}

/** The claims of such an array. */
export function sourceClaims(packed: Buffer): SourceClaim[] {
  const texts: Buffer[] = [];
  for (let at = HEAD; at < packed.length; ) {
    const isShort = packed[at] === TEXT_8;
    const length = isShort ? packed[at + 1]! : packed.readUInt16BE(at + 1);
    const from = at + (isShort ? 2 : 3);
    texts.push(packed.subarray(from, from + length));
    at = from + length;
  }
  const claims: SourceClaim[] = [];
  for (let i = 0; i < texts.length; i += 3)
    claims.push({ field: texts[i]!, expected: texts[i + 1]!, value: texts[i + 2]! });
  return claims;
}
