/** Requests of metrics from few words, as bytes. */
import { encodeProtobuf, type Message } from '../encoder.ts';

const DELTA = 1;
const CUMULATIVE = 2;
/** Bounds of all histograms here: sources of one metric share theirs. */
const BOUNDS = [1, 4, 16, 64];

export interface PointAt {
  labels: Record<string, string>;
  /** Unix nanoseconds. */
  start?: bigint;
  time: bigint;
}

export interface SeriesPoint extends PointAt {
  name: string;
  kind: SeriesKind;
  value: SeriesValue;
}

export type SeriesKind =
  | 'counter'
  | 'double counter'
  | 'level'
  | 'delta'
  | 'gauge'
  | 'histogram'
  | 'delta histogram'
  | 'exponential histogram';

/**
 * A number, what was observed by a histogram (each value with how often), or `stale`: there is no value any more. Numbers of a
 * counter and a level are whole.
 */
export type SeriesValue = number | ReadonlyMap<number, number> | 'stale';

/** One resource, one scope, and a metric for each name and kind, in the order of the points. */
export function metricsRequest(resource: Record<string, string>, points: readonly SeriesPoint[]): Buffer {
  const byMetric = Map.groupBy(points, ({ name, kind }) => `${kind} ${name}`);
  const metrics = [...byMetric.values()].map((own) => metric(own[0]!, own.map(dataPoint)));
  const resourceMetrics = [
    { resource: { attributes: pairs(resource) }, scopeMetrics: [{ scope: { name: 'test' }, metrics }] },
  ];
  return Buffer.from(encodeProtobuf('metrics', { resourceMetrics }).bytes);
}

function metric({ name, kind }: SeriesPoint, dataPoints: Message[]): Message {
  switch (kind) {
    case 'gauge':
      return { name, gauge: { dataPoints } };
    case 'counter':
    case 'double counter':
      return { name, sum: { dataPoints, aggregationTemporality: CUMULATIVE, isMonotonic: true } };
    case 'level':
      return { name, sum: { dataPoints, aggregationTemporality: CUMULATIVE } };
    case 'delta':
      return { name, sum: { dataPoints, aggregationTemporality: DELTA, isMonotonic: true } };
    case 'histogram':
      return { name, histogram: { dataPoints, aggregationTemporality: CUMULATIVE } };
    case 'delta histogram':
      return { name, histogram: { dataPoints, aggregationTemporality: DELTA } };
    case 'exponential histogram':
      return { name, exponentialHistogram: { dataPoints, aggregationTemporality: CUMULATIVE } };
  }
}

function dataPoint({ kind, labels, start, time, value }: SeriesPoint): Message {
  const around = { attributes: pairs(labels), startTimeUnixNano: start, timeUnixNano: time };
  if (value === 'stale') return { ...around, flags: 1 };
  if (typeof value === 'number') {
    const isWhole = kind === 'counter' || kind === 'level';
    return { ...around, ...(isWhole ? { asInt: BigInt(value) } : { asDouble: value }) };
  }
  return { ...around, ...(kind === 'exponential histogram' ? exponential(value) : histogram(value)) };
}

function extent(observed: ReadonlyMap<number, number>): Message {
  let count = 0;
  let sum = 0;
  for (const [value, times] of observed) {
    count += times;
    sum += value * times;
  }
  return { count: BigInt(count), sum };
}

function histogram(observed: ReadonlyMap<number, number>): Message {
  const bucketCounts = new Array<bigint>(BOUNDS.length + 1).fill(0n);
  for (const [value, times] of observed) {
    const at = BOUNDS.findIndex((bound) => value <= bound);
    bucketCounts[at < 0 ? BOUNDS.length : at]! += BigInt(times);
  }
  return { ...extent(observed), bucketCounts, explicitBounds: BOUNDS };
}

/** At a scale at which the range of what was observed needs few buckets, as SDKs do: a wide range has a low one. */
function exponential(observed: ReadonlyMap<number, number>): Message {
  const positive = [...observed].filter(([value]) => value > 0);
  const zeroCount = BigInt(observed.get(0) ?? 0);
  if (positive.length === 0) return { ...extent(observed), zeroCount };
  const most = Math.max(...positive.map(([value]) => value));
  const least = Math.min(...positive.map(([value]) => value));
  const scale = most / least > 64 ? 0 : 2;
  const indices = positive.map(
    ([value, times]) => [Math.ceil(Math.log2(value) * 2 ** scale) - 1, times] as const,
  );
  const offset = Math.min(...indices.map(([index]) => index));
  const last = Math.max(...indices.map(([index]) => index));
  const bucketCounts = new Array<bigint>(last - offset + 1).fill(0n);
  for (const [index, times] of indices) bucketCounts[index - offset]! += BigInt(times);
  return { ...extent(observed), scale, zeroCount, positive: { offset, bucketCounts } };
}

function pairs(labels: Record<string, string>): Message[] {
  return Object.entries(labels).map(([key, stringValue]) => ({ key, value: { stringValue } }));
}
