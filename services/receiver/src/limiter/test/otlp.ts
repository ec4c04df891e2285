import protobuf from 'protobufjs';

/** OTLP metrics for the tests: requests as plain objects, encoded and decoded by protobufjs. 64-bit integers are bigint. */

const SCHEMA = `
syntax = "proto3";
message Request { repeated ResourceMetrics resource_metrics = 1; }
message ResourceMetrics { Resource resource = 1; repeated ScopeMetrics scope_metrics = 2; string schema_url = 3; }
message Resource { repeated KeyValue attributes = 1; uint32 dropped_attributes_count = 2; }
message ScopeMetrics { Scope scope = 1; repeated Metric metrics = 2; string schema_url = 3; }
message Scope { string name = 1; string version = 2; repeated KeyValue attributes = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message ArrayValue { repeated AnyValue values = 1; }
message KeyValueList { repeated KeyValue values = 1; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4;
  ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7; } }
message Metric { string name = 1; string description = 2; string unit = 3;
  oneof data { Gauge gauge = 5; Sum sum = 7; Histogram histogram = 9; ExponentialHistogram exponential_histogram = 10;
    Summary summary = 11; }
  repeated KeyValue metadata = 12; }
message Gauge { repeated NumberDataPoint data_points = 1; }
message Sum { repeated NumberDataPoint data_points = 1; int32 aggregation_temporality = 2; bool is_monotonic = 3; }
message Histogram { repeated HistogramDataPoint data_points = 1; int32 aggregation_temporality = 2; }
message ExponentialHistogram { repeated ExponentialPoint data_points = 1; int32 aggregation_temporality = 2; }
message Summary { repeated SummaryPoint data_points = 1; }
message Exemplar { fixed64 time_unix_nano = 2; double as_double = 3; }
message NumberDataPoint { repeated KeyValue attributes = 7; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
  oneof value { double as_double = 4; sfixed64 as_int = 6; } repeated Exemplar exemplars = 5; uint32 flags = 8; }
message HistogramDataPoint { repeated KeyValue attributes = 9; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
  fixed64 count = 4; optional double sum = 5; repeated fixed64 bucket_counts = 6 [packed = true];
  repeated double explicit_bounds = 7 [packed = true];
  repeated Exemplar exemplars = 8; uint32 flags = 10; optional double min = 11; optional double max = 12; }
message Buckets { sint32 offset = 1; repeated uint64 bucket_counts = 2 [packed = true]; }
message ExponentialPoint { repeated KeyValue attributes = 1; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
  fixed64 count = 4; optional double sum = 5; sint32 scale = 6; fixed64 zero_count = 7; Buckets positive = 8;
  Buckets negative = 9; uint32 flags = 10; repeated Exemplar exemplars = 11; optional double min = 12;
  optional double max = 13; double zero_threshold = 14; }
message SummaryPoint { repeated KeyValue attributes = 7; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
  fixed64 count = 4; double sum = 5; uint32 flags = 8; }
`;
const typeOf = (schema: string) => protobuf.parse(schema).root.resolveAll().lookupType('Request');
/** Lists of numbers are packed, as SDKs write them. */
export const Request = typeOf(SCHEMA);
/** Every number of a list is a field of its own, as is allowed. */
export const UnpackedRequest = typeOf(SCHEMA.replaceAll('packed = true', 'packed = false'));

export type Value = string | number | boolean | bigint | Value[] | { [key: string]: Value };
export type Labels = Record<string, Value>;

export interface PointData {
  labels: Labels;
  start?: bigint;
  time?: bigint;
  int?: bigint;
  double?: number;
  flags?: number;
  count?: bigint;
  sum?: number;
  buckets?: bigint[];
  bounds?: number[];
  min?: number;
  max?: number;
  scale?: number;
  zeroCount?: bigint;
  zeroThreshold?: number;
  positive?: { offset: number; counts: bigint[] };
  negative?: { offset: number; counts: bigint[] };
  exemplars?: number[];
}

export type Kind = 'gauge' | 'sum' | 'histogram' | 'exponential' | 'summary';

export interface MetricData {
  name: string;
  unit?: string;
  description?: string;
  kind: Kind;
  temporality?: 0 | 1 | 2;
  monotonic?: boolean;
  points: PointData[];
}

export interface ScopeData {
  name?: string;
  labels?: Labels;
  metrics: MetricData[];
}

export interface ResourceData {
  labels: Labels;
  schemaUrl?: string;
  scopes: ScopeData[];
}

const DATA = {
  gauge: 'gauge',
  sum: 'sum',
  histogram: 'histogram',
  exponential: 'exponentialHistogram',
  summary: 'summary',
} as const;

const text = (value: bigint | undefined) => (value === undefined ? undefined : String(value));

function anyValue(value: Value): object {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'bigint') return { intValue: String(value) };
  if (typeof value === 'number') return { doubleValue: value };
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  return { kvlistValue: { values: keyValues(value) } };
}

const keyValues = (labels: Labels) =>
  Object.entries(labels).map(([key, value]) => ({ key, value: anyValue(value) }));

function buckets(side: { offset: number; counts: bigint[] } | undefined) {
  return side && { offset: side.offset, bucketCounts: side.counts.map(String) };
}

function point(data: PointData): object {
  const all = {
    attributes: keyValues(data.labels),
    startTimeUnixNano: text(data.start),
    timeUnixNano: text(data.time),
    asInt: text(data.int),
    asDouble: data.double,
    flags: data.flags,
    count: text(data.count),
    sum: data.sum,
    bucketCounts: data.buckets?.map(String),
    explicitBounds: data.bounds,
    min: data.min,
    max: data.max,
    scale: data.scale,
    zeroCount: text(data.zeroCount),
    zeroThreshold: data.zeroThreshold,
    positive: buckets(data.positive),
    negative: buckets(data.negative),
    exemplars: data.exemplars?.map((asDouble) => ({ asDouble })),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** A request as bytes. */
export function encode(resources: ResourceData[], type = Request): Uint8Array {
  const message = type.fromObject({
    resourceMetrics: resources.map((resource) => ({
      resource: { attributes: keyValues(resource.labels) },
      schemaUrl: resource.schemaUrl ?? '',
      scopeMetrics: resource.scopes.map((scope) => ({
        scope: { name: scope.name ?? '', attributes: keyValues(scope.labels ?? {}) },
        metrics: scope.metrics.map((metric) => ({
          name: metric.name,
          unit: metric.unit ?? '',
          description: metric.description ?? '',
          [DATA[metric.kind]]: {
            dataPoints: metric.points.map(point),
            ...(metric.temporality === undefined ? {} : { aggregationTemporality: metric.temporality }),
            ...(metric.monotonic === undefined ? {} : { isMonotonic: metric.monotonic }),
          },
        })),
      })),
    })),
  });
  return type.encode(message).finish();
}

// biome-ignore lint/suspicious/noExplicitAny: decoded messages are read by name
type Decoded = any;

function plainValue(value: Decoded): Value {
  if (value?.stringValue !== undefined) return value.stringValue;
  if (value?.boolValue !== undefined) return value.boolValue;
  if (value?.intValue !== undefined) return BigInt(value.intValue);
  if (value?.doubleValue !== undefined) return value.doubleValue;
  if (value?.arrayValue !== undefined) return (value.arrayValue.values ?? []).map(plainValue);
  if (value?.kvlistValue !== undefined) return plainLabels(value.kvlistValue.values);
  return '';
}

const plainLabels = (list: Decoded): Labels =>
  Object.fromEntries((list ?? []).map((pair: Decoded) => [pair.key ?? '', plainValue(pair.value)]));

const big = (value: Decoded) => (value === undefined ? undefined : BigInt(value));
const side = (value: Decoded) =>
  value && { offset: value.offset ?? 0, counts: (value.bucketCounts ?? []).map(BigInt) };

function plainPoint(data: Decoded): PointData {
  const all = {
    labels: plainLabels(data.attributes),
    start: big(data.startTimeUnixNano),
    time: big(data.timeUnixNano),
    int: big(data.asInt),
    double: data.asDouble,
    flags: data.flags,
    count: big(data.count),
    sum: data.sum,
    buckets: data.bucketCounts?.map(BigInt),
    bounds: data.explicitBounds,
    min: data.min,
    max: data.max,
    scale: data.scale,
    zeroCount: big(data.zeroCount),
    zeroThreshold: data.zeroThreshold,
    positive: side(data.positive),
    negative: side(data.negative),
    exemplars: data.exemplars?.map((exemplar: Decoded) => exemplar.asDouble),
  };
  return Object.fromEntries(
    Object.entries(all).filter(([, value]) => value !== undefined),
  ) as unknown as PointData;
}

/** A request from bytes; fields that are absent stay absent. */
export function decode(body: Uint8Array): ResourceData[] {
  const request: Decoded = Request.toObject(Request.decode(body), { longs: String });
  return (request.resourceMetrics ?? []).map((resource: Decoded) => ({
    labels: plainLabels(resource.resource?.attributes),
    schemaUrl: resource.schemaUrl,
    scopes: (resource.scopeMetrics ?? []).map((scope: Decoded) => ({
      name: scope.scope?.name,
      labels: plainLabels(scope.scope?.attributes),
      metrics: (scope.metrics ?? []).map((metric: Decoded) => {
        const kind = (Object.keys(DATA) as Kind[]).find((name) => metric[DATA[name]] !== undefined)!;
        const data = metric[DATA[kind]];
        return {
          name: metric.name ?? '',
          unit: metric.unit,
          kind,
          temporality: data.aggregationTemporality,
          monotonic: data.isMonotonic,
          points: (data.dataPoints ?? []).map(plainPoint),
        };
      }),
    })),
  }));
}

export interface FlatPoint extends PointData {
  resource: Labels;
  scope: string;
  metric: MetricData;
}

/** All points of a request with what is around them. */
export function flat(resources: ResourceData[]): FlatPoint[] {
  return resources.flatMap((resource) =>
    resource.scopes.flatMap((scope) =>
      scope.metrics.flatMap((metric) =>
        metric.points.map((data) => ({
          ...data,
          resource: resource.labels,
          scope: scope.name ?? '',
          metric,
        })),
      ),
    ),
  );
}

/** One resource, one scope, these metrics. */
export function request(metrics: MetricData[], resource: Labels = { 'service.name': 'shop' }): Uint8Array {
  return encode([{ labels: resource, scopes: [{ name: 'test', metrics }] }]);
}

/** The identity of a stream as text. */
export function streamOf({ resource, scope, metric, labels }: FlatPoint): string {
  const sorted = (of: Labels) =>
    JSON.stringify(
      Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1)),
      bigs,
    );
  const { name, unit, kind, temporality, monotonic } = metric;
  return [
    sorted(resource),
    scope,
    name,
    unit ?? '',
    kind,
    temporality ?? 0,
    monotonic ?? false,
    sorted(labels),
  ].join('|');
}

const bigs = (_: string, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value);
