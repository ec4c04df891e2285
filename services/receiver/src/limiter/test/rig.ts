import { CardinalityLimiter, type Decision, type Limited, type LimiterOptions } from '../index.ts';
import { limiterOptions } from './options.ts';
import { decode, type FlatPoint, flat, type MetricData, type PointData, request, streamOf } from './otlp.ts';

/** A limiter with a clock that the test moves. */
export interface Rig {
  limiter: CardinalityLimiter;
  decisions: Decision[];
  now: number;
  /** Another clock for times that others read. */
  wallNow?(): number;
  /** Unix nanoseconds of the clock. */
  ns(): bigint;
  send(
    metrics: MetricData[],
    resource?: Record<string, string>,
  ): Limited & { out: FlatPoint[]; unchanged: boolean };
}

export const START_MS = 1_700_000_000_000;

export function rig(options: Partial<LimiterOptions>, seed = 1): Rig {
  const made: Rig = {
    limiter: undefined as unknown as CardinalityLimiter,
    decisions: [],
    now: START_MS,
    ns: () => BigInt(made.now) * 1_000_000n,
    send(metrics, resource) {
      const body = request(metrics, resource);
      const limited = made.limiter.process(body);
      made.limiter.count(limited);
      made.limiter.keep();
      return { ...limited, out: flat(decode(limited.body)), unchanged: limited.body === body };
    },
  };
  // Tests of the overflow stream say so: dropped is easier to count.
  made.limiter = new CardinalityLimiter(limiterOptions({ criticalAction: 'drop', ...options }), {
    now: () => made.now,
    wallNow: () => made.wallNow?.() ?? made.now,
    seed,
    onDecision: (decision) => made.decisions.push(decision),
  });
  return made;
}

/**
 * A rig whose limiter has given up these labels of these metrics: a gauge of the same name has shown them to be bad. Labels of
 * resources are written `resource:name`.
 */
export function ruledRig(
  metrics: string[],
  labels: string[],
  options: Partial<LimiterOptions> = {},
  seed = 1,
): Rig {
  const names = labels.map((label) => label.replace('resource:', ''));
  const made = rig({ maxKeys: 4096, actAbove: 0, aggregateLabels: names, ...options }, seed);
  for (const metric of metrics) {
    for (const label of labels) {
      const name = label.replace('resource:', '');
      const gauge = (of: string[]): MetricData => {
        const points = of.map((value) => ({
          labels: label === name ? { [name]: value, warm: name } : {},
          double: 1,
          time: made.ns(),
        }));
        return { name: metric, unit: 'warm', kind: 'gauge', points: points as PointData[] };
      };
      for (let i = 0; i < 400; i += 100) {
        made.now += 1000;
        const values = Array.from({ length: 100 }, (_, k) => `warm-${i + k}`);
        if (label === name) made.send([gauge(values)]);
        else for (const value of values) made.send([gauge([value])], { [name]: value });
      }
    }
  }
  return made;
}

/** Sums of an array of bigint. */
export const total = (values: (bigint | undefined)[]): bigint =>
  values.reduce<bigint>((a, b) => a + (b ?? 0n), 0n);

export function byStream<T>(points: FlatPoint[], of: (point: FlatPoint) => T): Map<string, T[]> {
  const streams = new Map<string, T[]>();
  for (const point of points) {
    const key = streamOf(point);
    const list = streams.get(key);
    if (list) list.push(of(point));
    else streams.set(key, [of(point)]);
  }
  return streams;
}
