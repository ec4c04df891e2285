/** Reads the points of a metrics request, plainly, and independently of the product's own reader. */
import { each } from '../item-reader.ts';
import { exactDouble, exactInteger } from './exact.ts';
import type { Buckets, Value } from './value.ts';

/** How the values of a stream add up. */
export type Kind = 'gauge' | 'counter' | 'level' | 'histogram' | 'exponential histogram' | 'summary';
export type Temporality = 'unspecified' | 'delta' | 'cumulative';
export type Labels = ReadonlyMap<string, string>;

export interface Stream {
  /** All that makes it this stream and no other, as text. */
  identity: string;
  name: string;
  unit: string;
  kind: Kind;
  temporality: Temporality;
  /** Attributes of its resource. */
  resource: Labels;
  /** Attributes of its points. */
  labels: Labels;
}

export interface Point {
  stream: Stream;
  /** Unix nanoseconds. */
  start: bigint;
  time: bigint;
  /** Says that there is no value: the source is gone. */
  stale: boolean;
  /** Undefined when a number in it is not finite. */
  value: Value | undefined;
}

const TEMPORALITIES: readonly Temporality[] = ['unspecified', 'delta', 'cumulative'];
const NO_RECORDED_VALUE = 1n;
/** Field numbers of points, by the field of the metric that holds them. */
const SHAPES = new Map([
  [5, { kind: 'gauge', labels: 7, flags: 8 }],
  [7, { kind: 'counter', labels: 7, flags: 8 }],
  [9, { kind: 'histogram', labels: 9, flags: 10 }],
  [10, { kind: 'exponential histogram', labels: 1, flags: 10 }],
  [11, { kind: 'summary', labels: 7, flags: 8 }],
] as const);

/** @throws when the bytes end too early */
export function readPoints(body: Buffer): Point[] {
  const points: Point[] = [];
  for (const resource of children(body, 0, body.length, 1)) {
    const resourceLabels = labelsOf(body, children(body, ...resource, 1), 1);
    for (const scope of children(body, ...resource, 2)) {
      const scopeText = children(body, ...scope, 1)
        .map(([from, to]) => body.toString('hex', from, to))
        .join();
      for (const metric of children(body, ...scope, 2))
        points.push(...readMetric(body, metric, resourceLabels, scopeText));
    }
  }
  return points;
}

type Range = [from: number, to: number];

function readMetric(body: Buffer, metric: Range, resource: Labels, scope: string): Point[] {
  const text = (number: number) =>
    children(body, ...metric, number)
      .map(([from, to]) => body.toString('utf8', from, to))
      .at(-1) ?? '';
  const [name, unit] = [text(1), text(3)];
  const points: Point[] = [];
  for (const [number, shape] of SHAPES)
    for (const data of children(body, ...metric, number)) {
      const temporality =
        shape.kind === 'gauge' || shape.kind === 'summary'
          ? 'unspecified'
          : (TEMPORALITIES[Number(lastVarint(body, data, 2))] ?? 'unspecified');
      const monotonic = lastVarint(body, data, 3) !== 0n;
      const kind: Kind = shape.kind === 'counter' && !monotonic ? 'level' : shape.kind;
      for (const point of children(body, ...data, 1)) {
        const labels = labelsOf(body, [point], shape.labels);
        const identity = [sorted(resource), scope, name, unit, kind, temporality, sorted(labels)].join('|');
        points.push({
          stream: { identity, name, unit, kind, temporality, resource, labels },
          start: lastFixed(body, point, 2),
          time: lastFixed(body, point, 3),
          stale: (lastVarint(body, point, shape.flags) & NO_RECORDED_VALUE) !== 0n,
          value: readValue(body, point, kind),
        });
      }
    }
  return points;
}

function readValue(body: Buffer, point: Range, kind: Kind): Value | undefined {
  if (kind === 'summary') return undefined;
  const parts = new Map<string, bigint>();
  let buckets: Buckets | undefined;
  let allFinite = true;
  const put = (name: string, size: bigint | undefined) => {
    if (size === undefined) allFinite = false;
    else parts.set(name, size);
  };
  const bounds: number[] = [];
  const counts: bigint[] = [];
  const exponential = { scale: 0, zeroThreshold: 0, zero: 0n, positive: new Map(), negative: new Map() };
  each(body, ...point, (number, from, to) => {
    if (kind === 'histogram' || kind === 'exponential histogram') {
      if (number === 4) put('count', exactInteger(body.readBigUInt64LE(from)));
      if (number === 5) put('sum', exactDouble(body.readDoubleLE(from)));
      if (kind === 'histogram') {
        if (number === 6) for (let at = from; at < to; at += 8) counts.push(body.readBigUInt64LE(at));
        if (number === 7) for (let at = from; at < to; at += 8) bounds.push(body.readDoubleLE(at));
        return;
      }
      if (number === 6) exponential.scale = zigzag(varints(body, from, to).at(-1)!);
      if (number === 7) exponential.zero = exactInteger(body.readBigUInt64LE(from));
      if (number === 8) exponential.positive = readBuckets(body, [from, to]);
      if (number === 9) exponential.negative = readBuckets(body, [from, to]);
      if (number === 14) exponential.zeroThreshold = body.readDoubleLE(from);
    } else if (number === 4) put('value', exactDouble(body.readDoubleLE(from)));
    else if (number === 6) put('value', exactInteger(body.readBigInt64LE(from)));
  });
  counts.forEach((count, i) => {
    if (count > 0n) put(`(${bounds[i - 1] ?? '-∞'}, ${bounds[i] ?? '∞'}]`, exactInteger(count));
  });
  if (kind === 'exponential histogram') buckets = exponential;
  if (!allFinite) return undefined;
  return buckets ? { parts, buckets } : { parts };
}

function readBuckets(body: Buffer, side: Range): Map<number, bigint> {
  const found = new Map<number, bigint>();
  const offset = zigzag(lastVarint(body, side, 1));
  const counts = children(body, ...side, 2).flatMap(([from, to]) => varints(body, from, to));
  counts.forEach((count, i) => {
    if (count > 0n) found.set(offset + i, exactInteger(count));
  });
  return found;
}

function labelsOf(body: Buffer, holders: readonly Range[], field: number): Labels {
  const labels = new Map<string, string>();
  for (const holder of holders)
    for (const pair of children(body, ...holder, field)) {
      const key =
        children(body, ...pair, 1)
          .map(([from, to]) => body.toString('utf8', from, to))
          .at(-1) ?? '';
      for (const value of children(body, ...pair, 2)) labels.set(key, readAny(body, value));
    }
  return labels;
}

/** Texts as they are; of other types the bytes, which is enough to tell them apart. */
function readAny(body: Buffer, value: Range): string {
  const [text] = children(body, ...value, 1);
  return text ? body.toString('utf8', ...text) : `0x${body.toString('hex', ...value)}`;
}

function sorted(labels: Labels): string {
  return JSON.stringify([...labels].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function children(body: Buffer, start: number, end: number, field: number): Range[] {
  const found: Range[] = [];
  each(body, start, end, (number, from, to) => {
    if (number === field) found.push([from, to]);
  });
  return found;
}

function lastFixed(body: Buffer, message: Range, field: number): bigint {
  const found = children(body, ...message, field).at(-1);
  return found ? body.readBigUInt64LE(found[0]) : 0n;
}

function lastVarint(body: Buffer, message: Range, field: number): bigint {
  const found = children(body, ...message, field).at(-1);
  return found ? varints(body, ...found).at(-1)! : 0n;
}

function varints(body: Buffer, from: number, to: number): bigint[] {
  const found: bigint[] = [];
  let value = 0n;
  let shift = 0n;
  for (let at = from; at < to; at += 1) {
    value |= BigInt(body[at]! & 127) << shift;
    shift += 7n;
    if (body[at]! < 128) {
      found.push(BigInt.asUintN(64, value));
      value = 0n;
      shift = 0n;
    }
  }
  return found;
}

function zigzag(value: bigint): number {
  return Number(BigInt.asIntN(32, (value >> 1n) ^ -(value & 1n)));
}
