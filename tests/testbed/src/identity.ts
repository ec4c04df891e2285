/**
 * How a generated item says who it is, so that a test can compare what was acknowledged with what arrived.
 *
 * Every item has a trace id and a span id: spans and log records in their own fields, data points in an exemplar.
 * An exemplar is not part of a time series' identity, so ids do not disturb the cardinality under test; an
 * attribute on the point, resource or scope would make every batch a new set of series.
 *
 *     trace id  0 ‥ 2   'nrd'
 *               3       code: signal × 16 + class
 *               4 ‥ 7   run, big endian
 *               8 ‥ 11  low, see below
 *               12 ‥ 15 checksum of the item's protobuf bytes, these four taken as zero
 *     span id   0 ‥ 3   high = mix(low + run)
 *               4 ‥ 7   low  = mix(sequence ^ run)
 *
 * `mix` is a bijection on 32 bits: ids look random, so they compress as badly as real ones do, and the sequence can
 * be read back. The code lets the receiver of an item see, without keeping a table, that it arrived under another
 * signal or class than it was sent with.
 */

export type TestSignal = 'traces' | 'metrics' | 'logs';
export type TestClass = 'critical' | 'high' | 'normal';

export const TEST_SIGNALS: readonly TestSignal[] = ['traces', 'metrics', 'logs'];
export const TEST_CLASSES: readonly TestClass[] = ['critical', 'high', 'normal'];

/** The resource attribute that carries the class. */
export const PRIORITY_ATTRIBUTE = 'nrdot.priority';
/** The attribute of log records (and, on request, data points) that spells the id out for a reader. */
export const ID_ATTRIBUTE = 'nrdot.test.id';

export const TRACE_ID_BYTES = 16;
export const SPAN_ID_BYTES = 8;
export const CHECKSUM_OFFSET = 12;
const MAGIC = 0x6e7264;

/** Signal and class in one byte; class 0 means that the item's resource names none. */
export function identityCode(signal: TestSignal, cls: TestClass | undefined): number {
  return (TEST_SIGNALS.indexOf(signal) + 1) * 16 + (cls === undefined ? 0 : TEST_CLASSES.indexOf(cls) + 1);
}

export function signalOfCode(code: number): TestSignal | undefined {
  return TEST_SIGNALS[(code >>> 4) - 1];
}

export function classOfCode(code: number): TestClass | undefined {
  return TEST_CLASSES[(code & 15) - 1];
}

/** The MurmurHash3 finaliser: a bijection on 32 bits. */
export function mix32(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The inverse of `mix32`. */
function unmix32(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x7ed1b41d);
  h = Math.imul(h ^ (h >>> 13) ^ (h >>> 26), 0xa5cb9243);
  return (h ^ (h >>> 16)) >>> 0;
}

export function lowOf(run: number, sequence: number): number {
  return mix32((sequence ^ run) >>> 0);
}

function highOf(run: number, low: number): number {
  return mix32((low + run) >>> 0);
}

/** Writes the trace id, with a zero checksum, at `offset`. */
export function writeTraceId(view: DataView, offset: number, code: number, run: number, low: number): void {
  view.setUint32(offset, ((MAGIC << 8) | code) >>> 0);
  view.setUint32(offset + 4, run);
  view.setUint32(offset + 8, low);
  view.setUint32(offset + CHECKSUM_OFFSET, 0);
}

export function writeSpanId(view: DataView, offset: number, run: number, low: number): void {
  view.setUint32(offset, highOf(run, low));
  view.setUint32(offset + 4, low);
}

/** The code in a trace id that a generator wrote, or -1 for a foreign one. */
export function codeAt(view: DataView, traceId: number): number {
  const head = view.getUint32(traceId);
  return head >>> 8 === MAGIC ? head & 255 : -1;
}

/** The sequence that trace and span id agree on, or -1 where they do not, which is damage. */
export function sequenceAt(view: DataView, traceId: number, spanId: number): number {
  const run = view.getUint32(traceId + 4);
  const low = view.getUint32(traceId + 8);
  if (view.getUint32(spanId + 4) !== low || view.getUint32(spanId) !== highOf(run, low)) return -1;
  return (unmix32(low) ^ run) >>> 0;
}

/** The readable id, `rrrrrrrr-ssssssss` in hex: run and sequence. Always 17 characters. */
export function readableId(run: number, sequence: number): string {
  return `${hex8(run)}-${hex8(sequence)}`;
}

export function hex8(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}

/**
 * A 32-bit checksum over `view[start, end)`, four bytes at a time. It is there to notice damage, cheaper than a call
 * into zlib's CRC for some 300 bytes; it is no protection against an adversary.
 */
export function checksum(view: DataView, start: number, end: number): number {
  let h = end - start;
  let i = start;
  for (; i + 4 <= end; i += 4) {
    h = Math.imul(h ^ view.getUint32(i, true), 0x9e3779b1);
    h ^= h >>> 15;
  }
  for (; i < end; i += 1) h = Math.imul(h ^ view.getUint8(i), 0x9e3779b1) ^ (h >>> 15);
  return mix32(h);
}

/** A small seeded generator of numbers in [0, 1): mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
