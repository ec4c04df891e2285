/** Values of points as sums of parts, which add and compare exactly: no rounding, no limit on buckets, plain maps. */
/** Names of parts and their size: a number has one, a histogram has its count, its sum and each bucket. */
export type Parts = ReadonlyMap<string, bigint>;

/** Counts by index at a scale: bucket i holds (b^i, b^(i+1)] with b = 2^(2^-scale). */
export interface Buckets {
  scale: number;
  zeroThreshold: number;
  zero: bigint;
  positive: ReadonlyMap<number, bigint>;
  negative: ReadonlyMap<number, bigint>;
}

export interface Value {
  parts: Parts;
  /** Of exponential histograms only. */
  buckets?: Buckets;
}

export const NOTHING: Value = { parts: new Map() };
/** Bounds of buckets are computed with rounding, here and elsewhere. */
const TOLERANCE = 1e-9;

export function add(a: Value, b: Value): Value {
  const parts = sum(a.parts, b.parts);
  if (!a.buckets || !b.buckets) {
    const buckets = a.buckets ?? b.buckets;
    return buckets ? { parts, buckets } : { parts };
  }
  const scale = Math.min(a.buckets.scale, b.buckets.scale);
  const [left, right] = [atScale(a.buckets, scale), atScale(b.buckets, scale)];
  const buckets = {
    scale,
    zeroThreshold: Math.max(left.zeroThreshold, right.zeroThreshold),
    zero: left.zero + right.zero,
    positive: sum(left.positive, right.positive),
    negative: sum(left.negative, right.negative),
  };
  return { parts, buckets };
}

/** What values can be compared at: the lowest of their scales, and the widest of their zero buckets. */
export interface Resolution {
  scale: number;
  zeroThreshold: number;
}

export function commonResolution(...values: Value[]): Resolution {
  const all = values.flatMap(({ buckets }) => buckets ?? []);
  return {
    scale: Math.min(...all.map(({ scale }) => scale)),
    zeroThreshold: Math.max(0, ...all.map(({ zeroThreshold }) => zeroThreshold)),
  };
}

/** All parts of a value, its buckets included. */
export function partsAt({ parts, buckets }: Value, { scale, zeroThreshold }: Resolution): Parts {
  if (!buckets) return parts;
  const { zero, positive, negative } = atScale(buckets, scale);
  const all = new Map(parts);
  let inZero = zero;
  for (const [sign, side] of [['+', positive] as const, ['-', negative] as const])
    for (const [index, count] of side)
      if (upperBound(index, scale) <= zeroThreshold * (1 + TOLERANCE)) inZero += count;
      else all.set(`bucket ${sign}${index} at scale ${scale}`, count);
  all.set('zero', inZero);
  return all;
}

/** Whether anything in it became less: a counter never does but by beginning anew. */
export function fell(from: Value, to: Value): boolean {
  const resolution = commonResolution(from, to);
  const after = partsAt(to, resolution);
  return [...partsAt(from, resolution)].some(([name, size]) => (after.get(name) ?? 0n) < size);
}

export function isEqual(a: Value, b: Value): boolean {
  return !fell(a, b) && !fell(b, a);
}

/** A bucket that holds something lies partly below the zero threshold: nobody can say where its counts belong. */
export function cutsBucket({ buckets }: Value): boolean {
  if (!buckets) return false;
  const { scale, zeroThreshold, positive, negative } = buckets;
  return [...positive, ...negative].some(
    ([index, count]) => count > 0n && lowerBound(index, scale) < zeroThreshold * (1 - TOLERANCE),
  );
}

function atScale(buckets: Buckets, scale: number): Buckets {
  const factor = 2 ** (buckets.scale - scale);
  if (factor === 1) return buckets;
  const lowered = (side: ReadonlyMap<number, bigint>) => {
    const result = new Map<number, bigint>();
    for (const [index, count] of side) {
      const at = Math.floor(index / factor);
      result.set(at, (result.get(at) ?? 0n) + count);
    }
    return result;
  };
  return { ...buckets, scale, positive: lowered(buckets.positive), negative: lowered(buckets.negative) };
}

function sum<K>(a: ReadonlyMap<K, bigint>, b: ReadonlyMap<K, bigint>): ReadonlyMap<K, bigint> {
  const result = new Map(a);
  for (const [name, size] of b) result.set(name, (result.get(name) ?? 0n) + size);
  return result;
}

function lowerBound(index: number, scale: number): number {
  return 2 ** (index * 2 ** -scale);
}

function upperBound(index: number, scale: number): number {
  return lowerBound(index + 1, scale);
}
