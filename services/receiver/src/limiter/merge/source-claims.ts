import { FORWARDED, SOURCE_HEAD_BYTES, SOURCE_WORDS } from './source.ts';
import { BLOCK, CELLS, FLAGS, GONE, SEEN, START } from './stream-words.ts';

/**
 * The sources that a request advances, as the script reads them: a MessagePack array of field, expected version and value, in
 * turn. https://github.com/msgpack/msgpack/blob/master/spec.md
 */
const ARRAY_32 = 0xdd;
/** Its low bits have the length, up to 31. */
const TEXT_SHORT = 0xa0;
const SHORT_MAX = 31;
const TEXT_16 = 0xda;
const HEAD = 5;

const FIELD_BYTES = 8;
const VERSION_BYTES = 16;
const NONE_BUT_FORWARDED = 'F'.charCodeAt(0);

/** Maximum size of the claim of one source. */
const claimBytes = (cells: number) => 1 + FIELD_BYTES + 1 + VERSION_BYTES + 3 + SOURCE_HEAD_BYTES + 8 * cells;

const NOTHING: Buffer<ArrayBuffer> = Buffer.alloc(0);
/** A source that did not exist. */
const ABSENT = new Int32Array(SOURCE_WORDS);
ABSENT[FLAGS] = GONE;

/** The memory of larger claims is not reused. */
const KEPT_MAX = 1_048_576;

/** A source as a request advanced it. */
export interface SourceClaim {
  field: Buffer;
  /** Start and time that the ledger must have; empty: no entry; `F`: no entry, though its own stream is known. */
  expected: Buffer;
  /** New entry of the ledger; empty: remove it. */
  value: Buffer;
}

/**
 * Writes claims, one array at a time. All encoding is in one method with everything in local variables: a method for each part
 * took twice as long.
 */
export class SourceClaimWriter {
  /** Memory of an array that is no longer read. Allocating anew for each took a fortieth of a request. */
  #spare = NOTHING;
  #bytes = NOTHING;
  #view = new DataView(NOTHING.buffer);
  #at = HEAD;
  #claims = 0;
  /** Whether a claim removes a source. */
  hasEnded = false;

  /** @param claims expected number of claims, with so many cells each */
  begin(claims: number, cells: number): void {
    const bytes = HEAD + claims * claimBytes(cells);
    this.#use(this.#spare.length < bytes ? Buffer.allocUnsafeSlow(bytes) : this.#spare);
    this.#spare = NOTHING;
    this.#at = HEAD;
    this.#claims = 0;
    this.hasEnded = false;
  }

  /**
   * Claims the source at `source`.
   * @param before its words before the change, at `from`; missing if it is new
   */
  add(words: Int32Array, source: number, cells: Float64Array, before = ABSENT, from = 0): void {
    const block = words[source + BLOCK]!;
    const count = block === 0 ? 0 : words[source + CELLS]!;
    if (this.#at + claimBytes(count) > this.#bytes.length) this.#grow(claimBytes(count));
    const view = this.#view;
    const flags = words[source + FLAGS]!;
    let at = this.#at;
    view.setUint8(at, TEXT_SHORT | FIELD_BYTES);
    view.setInt32(at + 1, words[source]!, true);
    view.setInt32(at + 5, words[source + 1]!, true);
    at += 1 + FIELD_BYTES;
    if ((before[from + FLAGS]! & GONE) === 0) {
      view.setUint8(at, TEXT_SHORT | VERSION_BYTES);
      for (let i = 0; i < 4; i++) view.setInt32(at + 1 + 4 * i, before[from + START + i]!, true);
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
      for (let i = 0; i < 9; i++) view.setInt32(at + 4 + 4 * i, words[source + SEEN + i]!, true);
      at += 3 + SOURCE_HEAD_BYTES;
      for (let cell = block; cell < block + count; cell++, at += 8) view.setFloat64(at, cells[cell]!, true);
    } else {
      view.setUint8(at++, TEXT_SHORT);
      this.hasEnded = true;
    }
    this.#at = at;
    this.#claims++;
  }

  /** Completes the array. */
  end(): Buffer {
    this.#bytes[0] = ARRAY_32;
    this.#view.setUint32(1, 3 * this.#claims);
    return this.#bytes.subarray(0, this.#at);
  }

  /** Reuses the memory of an array that is no longer read. */
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
