import { type Halves, Hash64 } from '../hash.ts';
import { KERNEL_BASE64 } from '../kernel/bytes.ts';
import { AttributeHash, hashAttribute } from './attributes.ts';
import { Reader } from './reader.ts';

/**
 * Layout of the records of a scan, in int32 words. Positions are relative to `base`.
 *
 *   point:      0 tag start   1 content start   2 end   3 hash lo   4 hash hi   5 first attribute   6 attributes listed   7 slow
 *   attribute:  0 tag start   1 end   2 key hash   3 hash lo   4 hash hi
 */
export const POINT_WORDS = 8;
export const ATTRIBUTE_WORDS = 5;

/** Records of attributes of a point or a resource. */
export interface Listed {
  readonly place: 'point' | 'resource';
  readonly attributes: Int32Array;
  /** Word of the first record, and number of records. */
  readonly attributeAt: number;
  readonly listed: number;
  /** Offset to add to positions in the records. */
  readonly base: number;
}

/** Further attributes of a point are hashed, but neither scored nor stripped. SDKs stop at 128 too. */
export const LISTED_MAX = 128;

/**
 * Hashes the attributes of one message (a data point, a resource or a scope) in any encoding, and lists them.
 * @param field number of the attributes' field in that message
 * @param out receives records from word `at` on, at most LISTED_MAX
 * @param sum receives the sum of the mixed hashes
 * @returns number of listed attributes
 */
export function scanAttributes(
  bytes: Uint8Array,
  from: number,
  to: number,
  field: number,
  seed: Halves,
  out: Int32Array,
  at: number,
  sum: Hash64,
): number {
  const reader = new Reader().open(bytes, from, to);
  const hash = new AttributeHash();
  let listed = 0;
  sum.set(0, 0);
  while (reader.next()) {
    if (reader.field !== field || reader.wire !== 2) continue;
    hashAttribute(bytes, reader.start, reader.end, seed, hash);
    sum.add(hash.lo, hash.hi);
    if (listed >= LISTED_MAX) continue;
    const word = at + listed++ * ATTRIBUTE_WORDS;
    out[word] = reader.tagStart;
    out[word + 1] = reader.end;
    out[word + 2] = hash.keyHash;
    out[word + 3] = hash.lo;
    out[word + 4] = hash.hi;
  }
  return listed;
}

/**
 * Layout of the kernel's memory, in bytes: 3 pages, fixed. kernel/scan.as and kernel/histogram.as have the same numbers. The
 * window is small, so that it and the records stay in the processor's cache while a large body passes through.
 */
const POINTS_AT = 64;
/** Maximum number of points per scan. */
export const POINTS_MAX = 512;
const ATTRIBUTES_AT = 16_448;
const ATTRIBUTES_MAX = 4096;
const WINDOW_AT = 102_400;
const WINDOW_BYTES = 65_536;
const DECODED_AT = 167_936;
const COUNTS_AT = 168_064;

/** Histograms with more buckets are not merged: no SDK writes them, and the tracker could not hold many. */
export const BUCKETS_MAX = 510;

/** Bits of word 12 of a decoded histogram. */
export const HAS_SUM = 1;
export const HAS_MIN = 2;
export const HAS_MAX = 4;
export const MARKER = 8;
export const EXEMPLARS = 16;

interface Kernel {
  memory: { buffer: ArrayBuffer };
  /** To be called when the window changes. */
  forget(): void;
  scan(from: number, to: number, field: number, seedLo: number, seedHi: number): number;
  histogram(from: number, to: number): number;
}

// The types of Node know WebAssembly only as a namespace.
const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;
const kernelModule = new Module(Buffer.from(KERNEL_BASE64, 'base64'));

interface WebAssemblyApi {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { exports: unknown };
}

/**
 * Finds the data points of a message and hashes their attributes, a few hundred at a time, in a WebAssembly kernel that works
 * on a window of the body copied into its memory.
 */
export class Scanner implements Listed {
  readonly place = 'point';
  base = 0;
  /** Where the next call of `scan` continues. */
  next = 0;
  readonly points: Int32Array;
  readonly attributes: Int32Array;
  /**
   * The last decoded histogram, in int32 words and as doubles:
   *
   *   0,1 start   2,3 time   4,5 count   6,7 sum   8,9 min   10,11 max   12 flags   13 buckets   14 bounds   15,16 their hash
   *
   * Absent fields are 0; the hash keeps its last value if there are no bounds.
   */
  readonly decoded: Int32Array;
  readonly decodedDoubles: Float64Array;
  /** Its bucket counts, in memory that may be reused. */
  readonly counts: Float64Array;
  /** Those of the selected point. */
  attributeAt = 0;
  listed = 0;
  readonly #kernel: Kernel;
  readonly #memory: Uint8Array;
  readonly #header: Int32Array;
  readonly #sum = new Hash64();
  #body: Uint8Array | undefined;
  #windowStart = 0;
  #windowEnd = 0;

  constructor() {
    this.#kernel = new Instance(kernelModule).exports as Kernel;
    const { buffer } = this.#kernel.memory;
    this.#memory = new Uint8Array(buffer);
    this.#header = new Int32Array(buffer, 0, 1);
    this.points = new Int32Array(buffer, POINTS_AT, POINTS_MAX * POINT_WORDS);
    this.attributes = new Int32Array(buffer, ATTRIBUTES_AT, (ATTRIBUTES_MAX + LISTED_MAX) * ATTRIBUTE_WORDS);
    this.decoded = new Int32Array(buffer, DECODED_AT, 17);
    this.decodedDoubles = new Float64Array(buffer, DECODED_AT, 6);
    this.counts = new Float64Array(buffer, COUNTS_AT, BUCKETS_MAX);
  }

  get memoryBytes(): number {
    return this.#memory.byteLength;
  }

  /** Releases the last body. */
  release(): void {
    this.#body = undefined;
  }

  /**
   * Scans points (field 1) in `bytes[from, to)`.
   * @param field number of the attributes' field in a point
   * @returns number of points; the rest begins at `next`, which is `to` if there is none. May be 0 although there is a rest
   */
  scan(bytes: Uint8Array, from: number, to: number, field: number, seed: Halves): number {
    if (this.#body !== bytes || from < this.#windowStart || from >= this.#windowEnd) this.#copy(bytes, from);
    for (;;) {
      this.base = this.#windowStart - WINDOW_AT;
      const end = Math.min(to, this.#windowEnd);
      const count = this.#kernel.scan(from - this.base, end - this.base, field, seed.lo, seed.hi);
      this.next = this.#header[0]! + this.base;
      if (count > 0 || this.next > from) return count;
      // No field is complete in the window: move the window, unless a single field is larger than it.
      if (from === this.#windowStart) return this.#scanLarge(bytes, from, to);
      this.#copy(bytes, from);
    }
  }

  /**
   * Decodes the HistogramDataPoint `bytes[from, to)` into `decoded` and `counts`, if the last `scan` found it and its encoding
   * is a common one.
   */
  decodeHistogram(bytes: Uint8Array, from: number, to: number): boolean {
    if (bytes !== this.#body || from < this.#windowStart || to > this.#windowEnd) return false;
    const offset = WINDOW_AT - this.#windowStart;
    return this.#kernel.histogram(from + offset, to + offset) !== 0;
  }

  /** Hashes a point that the kernel left because of its encoding; its record begins at word `at`. */
  resolve(at: number, bytes: Uint8Array, field: number, seed: Halves): void {
    const { points, attributes, base } = this;
    const start = points[at + 1]! + base;
    const end = points[at + 2]! + base;
    const spare = ATTRIBUTES_MAX * ATTRIBUTE_WORDS;
    const listed = scanAttributes(bytes, start, end, field, seed, attributes, spare, this.#sum);
    for (let i = 0; i < listed; i++) {
      attributes[spare + i * ATTRIBUTE_WORDS]! -= base;
      attributes[spare + i * ATTRIBUTE_WORDS + 1]! -= base;
    }
    points[at + 3] = this.#sum.lo;
    points[at + 4] = this.#sum.hi;
    points[at + 5] = ATTRIBUTES_MAX;
    points[at + 6] = listed;
  }

  /** Makes the attributes of the point whose record begins at word `at` available. */
  select(at: number): void {
    this.attributeAt = this.points[at + 5]! * ATTRIBUTE_WORDS;
    this.listed = this.points[at + 6]!;
  }

  #copy(bytes: Uint8Array, from: number): void {
    this.#body = bytes;
    this.#windowStart = from;
    this.#windowEnd = Math.min(bytes.length, from + WINDOW_BYTES);
    this.#memory.set(bytes.subarray(from, this.#windowEnd), WINDOW_AT);
    this.#kernel.forget();
  }

  /** Scans one field that does not fit into the window. */
  #scanLarge(bytes: Uint8Array, from: number, to: number): number {
    const reader = new Reader().open(bytes, from, to);
    reader.next();
    this.base = 0;
    this.next = reader.end;
    if (reader.field !== 1 || reader.wire !== 2) return 0;
    this.points[0] = reader.tagStart;
    this.points[1] = reader.start;
    this.points[2] = reader.end;
    this.points[7] = 1;
    return 1;
  }
}
