/** What a generator sends: the shape of a workload, its defaults and its named profiles. */

import { TEST_CLASSES, TEST_SIGNALS, type TestClass, type TestSignal } from './identity.ts';

export type WorkloadEncoding = 'identity' | 'gzip' | 'zstd' | 'deflate';
export type MetricKind = 'gauge' | 'sum' | 'cumulativeSum' | 'histogram' | 'exponentialHistogram';
export const METRIC_KINDS: readonly MetricKind[] = [
  'gauge',
  'sum',
  'cumulativeSum',
  'histogram',
  'exponentialHistogram',
];

export interface Workload {
  /** Base URL of an OTLP/HTTP endpoint; `/v1/traces` and the like are appended. */
  endpoint: string;
  /** Items (spans, data points, log records) per second; 0 is as fast as possible. */
  rate: number;
  /** Items per request. */
  batchSize: number;
  /** Weights of the signals, by requests (and so by items). */
  signals: Partial<Record<TestSignal, number>>;
  /** Weights of the classes, each a resource attribute `nrdot.priority`. Without: no such attribute. */
  classes?: Partial<Record<TestClass, number>>;
  /** How many different key-sets the metric points have. At least one per class and kind of metric in use. */
  cardinality: number;
  /** Weights of the kinds of metric, by points. */
  metricKinds: Partial<Record<MetricKind, number>>;
  /** Points carry an exemplar with their id. Without, points are counted and not compared. */
  metricIds: boolean;
  /** Points also carry their id as an attribute, which makes every point a new series. */
  metricIdAttribute: boolean;
  /** Every delta sum has the value 1, so that their total counts the points. */
  unitValues: boolean;
  encoding: WorkloadEncoding;
  format: 'protobuf' | 'json';
  /** Stop after this long, whichever of the two limits comes first. Without either: until aborted. */
  durationMs?: number;
  items?: number;
  /** Connections, each with one request at a time. */
  connections: number;
  /** Decides content, mix and jitter. The same seed makes the same requests, but for ids and times. */
  seed: number;
  /** Identifies the run in every id. Random unless given. */
  run?: number;
  profile?: string;
  headers?: Record<string, string>;
  /** Send again after 429, 502, 503, 504 and lost connections. */
  retry: boolean;
  /** Give a batch up after this long since its first attempt. */
  retryForMs: number;
  /** Backoff of the first retry; doubles up to `retryMaxMs`, with jitter. `Retry-After` overrides it. */
  retryInitialMs: number;
  retryMaxMs: number;
  /** An attempt without an answer for this long counts as a lost connection. */
  requestTimeoutMs: number;
  /** Encode every body before the clock starts; only with `items`. For ceilings. Bounded by `maxPreparedBytes`. */
  prepare: boolean;
  maxPreparedBytes: number;
}

const DEFAULT_WORKLOAD: Omit<Workload, 'endpoint'> = {
  rate: 1000,
  batchSize: 500,
  signals: { traces: 1 },
  cardinality: 1000,
  metricKinds: { gauge: 1, sum: 2, histogram: 1 },
  metricIds: true,
  metricIdAttribute: false,
  unitValues: false,
  encoding: 'gzip',
  format: 'protobuf',
  connections: 4,
  seed: 1,
  retry: true,
  retryForMs: 300_000,
  retryInitialMs: 100,
  retryMaxMs: 5_000,
  requestTimeoutMs: 30_000,
  prepare: false,
  maxPreparedBytes: 1 << 30,
};

const ALL_CLASSES = { critical: 1, high: 3, normal: 6 };

/** Named loads. Each is the difference to the defaults. */
export const PROFILES: Record<string, Partial<Workload>> = {
  /** The budget's load: 10,000 spans/s in 20 requests/s. */
  steady: { rate: 10_000, batchSize: 500, classes: ALL_CLASSES },
  /** The same spans in 200 requests/s. */
  'medium-requests': { rate: 10_000, batchSize: 50, classes: ALL_CLASSES, connections: 8 },
  /** Where the cost of a request dominates: 5 spans each. */
  'small-requests': {
    rate: 5_000,
    batchSize: 5,
    encoding: 'identity',
    classes: ALL_CLASSES,
    connections: 16,
  },
  /** A million key-sets of metrics, the classic label explosion. */
  storm: {
    rate: 50_000,
    batchSize: 1000,
    signals: { metrics: 1 },
    metricKinds: { sum: 1 },
    cardinality: 1_000_000,
    items: 1_000_000,
  },
  /** All signals and classes. */
  mixed: {
    rate: 3_000,
    batchSize: 200,
    signals: { traces: 3, metrics: 2, logs: 2 },
    classes: ALL_CLASSES,
    metricKinds: { gauge: 2, sum: 3, cumulativeSum: 2, histogram: 2, exponentialHistogram: 1 },
  },
  logs: { rate: 10_000, signals: { logs: 1 }, classes: ALL_CLASSES },
  metrics: { rate: 10_000, signals: { metrics: 1 }, classes: ALL_CLASSES },
  json: { rate: 10_000, format: 'json', encoding: 'identity', classes: ALL_CLASSES },
  /** Equal amounts of each class, to see a scheduler's weights under overload. */
  priorities: { rate: 9_000, batchSize: 100, classes: { critical: 1, high: 1, normal: 1 }, connections: 12 },
  /** As fast as the other side answers, nothing compressed. */
  flood: { rate: 0, batchSize: 500, encoding: 'identity', connections: 8 },
};

class WorkloadError extends Error {
  readonly code = 'invalid_workload';
}

/** Defaults, then the profile, then what is given. Throws a WorkloadError that names what is wrong. */
export function workload(given: Partial<Workload> & { endpoint: string }): Workload {
  const profile = given.profile === undefined ? {} : PROFILES[given.profile];
  if (profile === undefined) {
    throw new WorkloadError(
      `no profile called "${given.profile}"; there are ${Object.keys(PROFILES).join(', ')}`,
    );
  }
  const merged: Workload = { ...DEFAULT_WORKLOAD, ...profile, ...defined(given) };
  if (!URL.canParse(merged.endpoint) || !/^https?:/.test(merged.endpoint)) {
    throw new WorkloadError(`endpoint "${merged.endpoint}" is not an http or https URL`);
  }
  whole('batchSize', merged.batchSize, 1, 1_000_000);
  whole('connections', merged.connections, 1, 10_000);
  whole('cardinality', merged.cardinality, 1, 1_000_000_000);
  if (!(merged.rate >= 0)) throw new WorkloadError(`rate ${merged.rate} is not a number of items per second`);
  weights('signals', merged.signals, TEST_SIGNALS);
  weights('metricKinds', merged.metricKinds, METRIC_KINDS);
  if (merged.classes !== undefined) weights('classes', merged.classes, TEST_CLASSES);
  if (merged.items !== undefined) whole('items', merged.items, 1, 0xffffffff);
  if (merged.prepare && merged.items === undefined) {
    throw new WorkloadError(
      'prepare needs items: bodies can be encoded ahead only when their number is known',
    );
  }
  return merged;
}

/** Leaves out what is undefined, so that an option not given on a command line does not undo a profile. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

function whole(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new WorkloadError(`${name} ${value} is not a whole number from ${min} to ${max}`);
  }
}

function weights(name: string, given: Record<string, number | undefined>, known: readonly string[]): void {
  let sum = 0;
  for (const [key, weight] of Object.entries(given)) {
    if (!known.includes(key)) throw new WorkloadError(`${name}: "${key}" is not one of ${known.join(', ')}`);
    if (weight !== undefined && !(weight >= 0))
      throw new WorkloadError(`${name}.${key}: ${weight} is not a weight`);
    sum += weight ?? 0;
  }
  if (!(sum > 0)) throw new WorkloadError(`${name}: no weight is above 0`);
}
