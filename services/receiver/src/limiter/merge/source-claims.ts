import {
  BLOCK,
  CELLS,
  FORWARDED,
  GONE,
  SEEN,
  SOURCE_FLAGS,
  SOURCE_HEAD_BYTES,
  SOURCE_WORDS,
  START,
} from './source-table.ts';

/*
 * The sources that a request moves, as the script reads them: a MessagePack array of field, expected version and value, in turn.
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 */
const ARRAY_32 = 0xdd;
/** The length, up to 31, is in its low bits. */
const TEXT_SHORT = 0xa0;
const SHORT_MAX = 31;
const TEXT_16 = 0xda;
const HEAD = 5;

const FIELD_BYTES = 8;
const VERSION_BYTES = 16;
const NONE_BUT_FORWARDED = 'F'.charCodeAt(0);

/** What is claimed of one source takes so much at most. */
const claimBytes = (cells: number) => 1 + FIELD_BYTES + 1 + VERSION_BYTES + 3 + SOURCE_HEAD_BYTES + 8 * cells;

const NOTHING: Buffer<ArrayBuffer> = Buffer.alloc(0);
/** A source that was not there. */
const ABSENT = new Int32Array(SOURCE_WORDS);
ABSENT[SOURCE_FLAGS] = GONE;

/** A claim of more bytes does not leave its memory to the next one. */
const KEPT_MAX = 1_048_576;

/** A source as a request moved it. */
export interface SourceClaim {
  field: Buffer;
  /** Start and time that the ledger has to have; empty: none; `F`: none, though its own stream is known. */
  expected: Buffer;
  /** What the ledger is to have; empty: nothing any more. */
  value: Buffer;
}

/**
 * Writes claims, one array at a time. All its numbers are written in one place, with everything that is needed for it in local
 * variables: a method for each part took twice as long.
 */
export class SourceClaimWriter {
  /** Of an array that nobody reads any more. New memory for each took a fortieth of a request. */
  #spare = NOTHING;
  #bytes = NOTHING;
  #view = new DataView(NOTHING.buffer);
  #at = HEAD;
  #claims = 0;
  #hasEnded = false;

  /** @param claims so many are expected, with as many cells each */
  begin(claims: number, cells: number): void {
    const bytes = HEAD + claims * claimBytes(cells);
    this.#use(this.#spare.length < bytes ? Buffer.allocUnsafeSlow(bytes) : this.#spare);
    this.#spare = NOTHING;
    this.#at = HEAD;
    this.#claims = 0;
    this.#hasEnded = false;
  }

  /** A source is claimed that is none any more. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Claims the source at `source`, which was not there before. */
  addNew(words: Int32Array, source: number, cells: Float64Array): void {
    this.add(words, source, ABSENT, 0, cells);
  }

  /**
   * Claims the source at `source`.
   * @param before its words as they were, at `from`
   */
  add(words: Int32Array, source: number, before: Int32Array, from: number, cells: Float64Array): void {
    const block = words[source + BLOCK]!;
    const count = block === 0 ? 0 : words[source + CELLS]!;
    if (this.#at + claimBytes(count) > this.#bytes.length) this.#grow(claimBytes(count));
    const view = this.#view;
    const flags = words[source + SOURCE_FLAGS]!;
    let at = this.#at;
    view.setUint8(at, TEXT_SHORT | FIELD_BYTES);
    view.setInt32(at + 1, words[source]!, true);
    view.setInt32(at + 5, words[source + 1]!, true);
    at += 1 + FIELD_BYTES;
    if ((before[from + SOURCE_FLAGS]! & GONE) === 0) {
      view.setUint8(at, TEXT_SHORT | VERSION_BYTES);
      const start = from + START;
      view.setInt32(at + 1, before[start]!, true);
      view.setInt32(at + 5, before[start + 1]!, true);
      view.setInt32(at + 9, before[start + 2]!, true);
      view.setInt32(at + 13, before[start + 3]!, true);
      at += 1 + VERSION_BYTES;
    } else if ((flags & FORWARDED) !== 0) {
      view.setUint8(at, TEXT_SHORT | 1);
      view.setUint8(at + 1, NONE_BUT_FORWARDED);
      at += 2;
    } else view.setUint8(at++, TEXT_SHORT);
    if ((flags & GONE) === 0) {
      view.setUint8(at, TEXT_16);
      view.setUint16(at + 1, SOURCE_HEAD_BYTES + 8 * count);
      view.setUint8(at + 3, flags);
      const seen = source + SEEN;
      view.setInt32(at + 4, words[seen]!, true);
      view.setInt32(at + 8, words[seen + 1]!, true);
      view.setInt32(at + 12, words[seen + 2]!, true);
      view.setInt32(at + 16, words[seen + 3]!, true);
      view.setInt32(at + 20, words[seen + 4]!, true);
      view.setInt32(at + 24, words[seen + 5]!, true);
      view.setInt32(at + 28, words[seen + 6]!, true);
      view.setInt32(at + 32, words[seen + 7]!, true);
      view.setInt32(at + 36, words[seen + 8]!, true);
      at += 3 + SOURCE_HEAD_BYTES;
      for (let cell = block; cell < block + count; cell++, at += 8) view.setFloat64(at, cells[cell]!, true);
    } else {
      view.setUint8(at++, TEXT_SHORT);
      this.#hasEnded = true;
    }
    this.#at = at;
    this.#claims++;
  }

  /** The array. */
  end(): Buffer {
    this.#bytes[0] = ARRAY_32;
    this.#view.setUint32(1, 3 * this.#claims);
    return this.#bytes.subarray(0, this.#at);
  }

  /** Takes the memory of an array that nobody reads any more. */
  release({ buffer }: Buffer): void {
    const { byteLength } = buffer;
    if (byteLength > this.#spare.length && byteLength <= KEPT_MAX)
      this.#spare = Buffer.from(buffer as ArrayBuffer);
  }

  #use(bytes: Buffer<ArrayBuffer>): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  #grow(needed: number): void {
    const before = this.#bytes;
    this.#use(Buffer.allocUnsafeSlow(Math.max(2 * before.length, this.#at + needed)));
    this.#bytes.set(before.subarray(0, this.#at));
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

/** An array of these claims. */
export function packSourceClaims(claims: readonly SourceClaim[]): Buffer {
  if (claims.length === 0) return NOTHING;
  const head = Buffer.allocUnsafe(HEAD);
  head[0] = ARRAY_32;
  head.writeUInt32BE(3 * claims.length, 1);
  const texts = claims.flatMap(({ field, expected, value }) => [field, expected, value]);
  return Buffer.concat([head, ...texts.flatMap((text) => [textHead(text.length), text])]);
}

function textHead(length: number): Buffer {
  return Buffer.from(length <= SHORT_MAX ? [TEXT_SHORT | length] : [TEXT_16, length >> 8, length & 0xff]);
}
