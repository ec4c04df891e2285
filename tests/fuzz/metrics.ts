/** Draws requests of metrics of every kind, with NaN, infinities and the ends of every range among sound numbers. */
import { encodeProtobuf, type Message } from '@nrdot/testbed';
import type { Random } from './mutate.ts';

/** One number in so many is not sound. */
const EXTREME_IN = 6;
const DOUBLES = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MAX_VALUE,
  -Number.MAX_VALUE,
  Number.MIN_VALUE,
  2 ** -1022,
  2 ** 53,
  2 ** 64,
  -0,
  0,
];
const COUNTS = [0n, 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];
const INTEGERS = [0n, -1n, 2n ** 53n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n)];
const SCALES = [-(2 ** 31), -12, -11, -10, 20, 21, 31, 32, 2 ** 31 - 1];
const OFFSETS = [-(2 ** 31), -(2 ** 30), -(2 ** 30) - 1, -2_000, 2_000, 2 ** 30, 2 ** 31 - 1];
const START_NS = 1_700_000_000_000_000_000n;
const DAY_NS = 86_400_000_000_000n;
const TIMES = [0n, 1n, START_NS - DAY_NS, START_NS + DAY_NS, 2n ** 63n, 2n ** 64n - 1n];
const METRICS = 3;
const POINTS_MAX = 8;
const BUCKETS_MAX = 6;

/** Labels that there are so many values of. Few: so that series come again. */
const VALUES: Record<string, number> = { user: 12, route: 2, pod: 3 };
export const LABELS = Object.keys(VALUES);
export const METRIC_NAMES = Array.from({ length: METRICS }, (_, n) => `m${n}`);

class Draw {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  whole(below: number): number {
    return Math.floor(this.#random() * below);
  }

  of<T>(list: readonly T[]): T {
    return list[this.whole(list.length)]!;
  }

  list<T>(max: number, one: () => T): T[] {
    return Array.from({ length: this.whole(max + 1) }, one);
  }

  /** Mostly `sound`, else one of the `extremes`. */
  number<T>(extremes: readonly T[], sound: () => T): T {
    return this.whole(EXTREME_IN) === 0 ? this.of(extremes) : sound();
  }

  /** Left out now and then. */
  perhaps<T>(value: () => T): T | undefined {
    return this.whole(4) === 0 ? undefined : value();
  }

  double(): number {
    return this.number(DOUBLES, () => this.whole(64) / 4);
  }

  count(): bigint {
    return this.number(COUNTS, () => BigInt(this.whole(9)));
  }

  time(): bigint {
    return this.number(TIMES, () => START_NS + BigInt(this.whole(1_000)) * 1_000_000_000n);
  }
}

/** An ExportMetricsServiceRequest, well formed. */
export function drawMetrics(random: Random): Buffer {
  const draw = new Draw(random);
  const resourceMetrics = draw.list(3, () => ({
    resource: { attributes: labels(draw, ['pod']) },
    scopeMetrics: draw.list(2, () => ({ metrics: draw.list(3, () => metric(draw)) })),
  }));
  return Buffer.from(encodeProtobuf('metrics', { resourceMetrics }).bytes);
}

/** A gauge with so many values of one label, on points or on resources. */
export function manyValues(name: string, label: string, values: number, from: number): Buffer {
  const points = Array.from({ length: values }, (_, n) => ({
    attributes: [pair(label, `${label}-${from + n}`)],
    timeUnixNano: START_NS,
    asDouble: 1,
  }));
  const metrics = [{ name, unit: 'many', gauge: { dataPoints: points } }];
  return Buffer.from(encodeProtobuf('metrics', { resourceMetrics: [{ scopeMetrics: [{ metrics }] }] }).bytes);
}

function metric(draw: Draw): Message {
  const name = draw.of(METRIC_NAMES);
  const aggregationTemporality = draw.of([0, 1, 2, 2, 2]);
  const data = (point: (draw: Draw) => Message) =>
    draw.list(POINTS_MAX, () => ({ ...around(draw), ...point(draw) }));
  switch (draw.whole(6)) {
    case 0:
      return { name, gauge: { dataPoints: data(number) } };
    case 1:
      return { name, summary: { dataPoints: data((d) => ({ count: d.count(), sum: d.double() })) } };
    case 2:
      return { name, histogram: { dataPoints: data(histogram), aggregationTemporality } };
    case 3:
    case 4:
      return { name, exponentialHistogram: { dataPoints: data(exponential), aggregationTemporality } };
    default:
      return {
        name,
        sum: { dataPoints: data(number), aggregationTemporality, isMonotonic: draw.whole(3) > 0 },
      };
  }
}

function around(draw: Draw): Message {
  return {
    attributes: labels(draw, LABELS),
    startTimeUnixNano: draw.perhaps(() => draw.time()),
    timeUnixNano: draw.perhaps(() => draw.time()),
    flags: draw.whole(8) === 0 ? 1 : undefined,
  };
}

function labels(draw: Draw, names: readonly string[]): Message[] {
  return names.flatMap((name) =>
    draw.whole(4) === 0 ? [] : [pair(name, `${name}-${draw.whole(VALUES[name]!)}`)],
  );
}

function pair(key: string, stringValue: string): Message {
  return { key, value: { stringValue } };
}

function number(draw: Draw): Message {
  if (draw.whole(2) === 0) return { asDouble: draw.double() };
  return { asInt: draw.number(INTEGERS, () => BigInt(draw.whole(100))) };
}

const sumOf = (counts: readonly bigint[]) => counts.reduce((sum, count) => sum + count, 0n);

/** Mostly with the count that its buckets add up to. */
function extent(draw: Draw, observations: bigint): Message {
  return {
    count: BigInt.asUintN(
      64,
      draw.number(COUNTS, () => observations),
    ),
    sum: draw.perhaps(() => draw.double()),
    min: draw.perhaps(() => draw.double()),
    max: draw.perhaps(() => draw.double()),
  };
}

function histogram(draw: Draw): Message {
  const bucketCounts = draw.list(BUCKETS_MAX, () => draw.count());
  const bounds = Math.max(0, bucketCounts.length - 1);
  return {
    ...extent(draw, sumOf(bucketCounts)),
    bucketCounts,
    explicitBounds: draw.number([[], [1, 1], [2, 1]], () =>
      Array.from({ length: bounds }, (_, n) => draw.number(DOUBLES, () => n + 1)),
    ),
  };
}

function exponential(draw: Draw): Message {
  const side = () => ({
    offset: draw.number(OFFSETS, () => draw.whole(20) - 10),
    bucketCounts: draw.list(BUCKETS_MAX, () => draw.count()),
  });
  const zeroCount = draw.count();
  const positive = draw.perhaps(side);
  const negative = draw.perhaps(side);
  const counts = [zeroCount, ...(positive?.bucketCounts ?? []), ...(negative?.bucketCounts ?? [])];
  return {
    ...extent(draw, sumOf(counts)),
    scale: draw.number(SCALES, () => draw.whole(6)),
    zeroCount,
    positive,
    negative,
    zeroThreshold: draw.perhaps(() => draw.double()),
  };
}
