/**
 * The messages of OTLP 1.x as data, which drives the walk, the JSON conversion and the tests' reference parser. Source:
 * opentelemetry-proto, trace, metrics, logs, common and resource v1.
 */

export interface Field {
  number: number;
  /** As in the .proto file. */
  name: string;
  /** A scalar type of protobuf, `id` (bytes that JSON writes as hex), or the name of a message. */
  type: string;
  /** Index of its message type in MESSAGES; -1 for scalars. */
  child: number;
  repeated: boolean;
  /** It is or contains items, so that it can be left out alone. */
  isBranch: boolean;
  /** Whether a default value differs from an absent one: for members of a oneof and `optional` fields. */
  presence: boolean;
  oneof: string | undefined;
  /** Names of an enum's values. */
  values: Readonly<Record<string, number>> | undefined;
  /** Length of an id in bytes. */
  idBytes: number | undefined;
}

export interface Message {
  name: string;
  fields: readonly Field[];
  byNumber: ReadonlyMap<number, Field>;
  /** Counted as an item: a span, a log record, a data point. */
  item: boolean;
}

const SEVERITIES = Object.fromEntries(
  ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'].flatMap((name, i) =>
    [1, 2, 3, 4].map((n) => [`SEVERITY_NUMBER_${name}${n === 1 ? '' : n}`, i * 4 + n]),
  ),
);

const ENUMS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  SpanKind: {
    SPAN_KIND_UNSPECIFIED: 0,
    SPAN_KIND_INTERNAL: 1,
    SPAN_KIND_SERVER: 2,
    SPAN_KIND_CLIENT: 3,
    SPAN_KIND_PRODUCER: 4,
    SPAN_KIND_CONSUMER: 5,
  },
  StatusCode: { STATUS_CODE_UNSET: 0, STATUS_CODE_OK: 1, STATUS_CODE_ERROR: 2 },
  SeverityNumber: { SEVERITY_NUMBER_UNSPECIFIED: 0, ...SEVERITIES },
  AggregationTemporality: {
    AGGREGATION_TEMPORALITY_UNSPECIFIED: 0,
    AGGREGATION_TEMPORALITY_DELTA: 1,
    AGGREGATION_TEMPORALITY_CUMULATIVE: 2,
  },
};

/**
 * One field per line: `number name type`, then any of `*` (repeated), `>` (it is or contains items), `?` (optional), `|name`
 * (member of that oneof).
 * Types: a scalar, `id16` or `id8` (an id of so many bytes), an enum, or a message.
 */
const SOURCE: Readonly<Record<string, string>> = {
  ExportTraceServiceRequest: '1 resource_spans ResourceSpans * >',
  ResourceSpans: '1 resource Resource\n2 scope_spans ScopeSpans * >\n3 schema_url string',
  ScopeSpans: '1 scope InstrumentationScope\n2 spans Span * >\n3 schema_url string',
  Span: `1 trace_id id16
2 span_id id8
3 trace_state string
4 parent_span_id id8
5 name string
6 kind SpanKind
7 start_time_unix_nano fixed64
8 end_time_unix_nano fixed64
9 attributes KeyValue *
10 dropped_attributes_count uint32
11 events Event *
12 dropped_events_count uint32
13 links Link *
14 dropped_links_count uint32
15 status Status
16 flags fixed32`,
  Event: `1 time_unix_nano fixed64
2 name string
3 attributes KeyValue *
4 dropped_attributes_count uint32`,
  Link: `1 trace_id id16
2 span_id id8
3 trace_state string
4 attributes KeyValue *
5 dropped_attributes_count uint32
6 flags fixed32`,
  Status: '2 message string\n3 code StatusCode',

  ExportLogsServiceRequest: '1 resource_logs ResourceLogs * >',
  ResourceLogs: '1 resource Resource\n2 scope_logs ScopeLogs * >\n3 schema_url string',
  ScopeLogs: '1 scope InstrumentationScope\n2 log_records LogRecord * >\n3 schema_url string',
  LogRecord: `1 time_unix_nano fixed64
2 severity_number SeverityNumber
3 severity_text string
5 body AnyValue
6 attributes KeyValue *
7 dropped_attributes_count uint32
8 flags fixed32
9 trace_id id16
10 span_id id8
11 observed_time_unix_nano fixed64
12 event_name string`,

  ExportMetricsServiceRequest: '1 resource_metrics ResourceMetrics * >',
  ResourceMetrics: '1 resource Resource\n2 scope_metrics ScopeMetrics * >\n3 schema_url string',
  ScopeMetrics: '1 scope InstrumentationScope\n2 metrics Metric * >\n3 schema_url string',
  Metric: `1 name string
2 description string
3 unit string
5 gauge Gauge > |data
7 sum Sum > |data
9 histogram Histogram > |data
10 exponential_histogram ExponentialHistogram > |data
11 summary Summary > |data
12 metadata KeyValue *`,
  Gauge: '1 data_points NumberDataPoint * >',
  Sum: `1 data_points NumberDataPoint * >
2 aggregation_temporality AggregationTemporality
3 is_monotonic bool`,
  Histogram: '1 data_points HistogramDataPoint * >\n2 aggregation_temporality AggregationTemporality',
  ExponentialHistogram:
    '1 data_points ExponentialHistogramDataPoint * >\n2 aggregation_temporality AggregationTemporality',
  Summary: '1 data_points SummaryDataPoint * >',
  NumberDataPoint: `2 start_time_unix_nano fixed64
3 time_unix_nano fixed64
4 as_double double |value
5 exemplars Exemplar *
6 as_int sfixed64 |value
7 attributes KeyValue *
8 flags uint32`,
  HistogramDataPoint: `2 start_time_unix_nano fixed64
3 time_unix_nano fixed64
4 count fixed64
5 sum double ?
6 bucket_counts fixed64 *
7 explicit_bounds double *
8 exemplars Exemplar *
9 attributes KeyValue *
10 flags uint32
11 min double ?
12 max double ?`,
  ExponentialHistogramDataPoint: `1 attributes KeyValue *
2 start_time_unix_nano fixed64
3 time_unix_nano fixed64
4 count fixed64
5 sum double ?
6 scale sint32
7 zero_count fixed64
8 positive Buckets
9 negative Buckets
10 flags uint32
11 exemplars Exemplar *
12 min double ?
13 max double ?
14 zero_threshold double`,
  Buckets: '1 offset sint32\n2 bucket_counts uint64 *',
  SummaryDataPoint: `2 start_time_unix_nano fixed64
3 time_unix_nano fixed64
4 count fixed64
5 sum double
6 quantile_values ValueAtQuantile *
7 attributes KeyValue *
8 flags uint32`,
  ValueAtQuantile: '1 quantile double\n2 value double',
  Exemplar: `2 time_unix_nano fixed64
3 as_double double |value
4 span_id id8
5 trace_id id16
6 as_int sfixed64 |value
7 filtered_attributes KeyValue *`,

  Resource: `1 attributes KeyValue *
2 dropped_attributes_count uint32
3 entity_refs EntityRef *`,
  EntityRef: `1 schema_url string
2 type string
3 id_keys string *
4 description_keys string *`,
  InstrumentationScope: `1 name string
2 version string
3 attributes KeyValue *
4 dropped_attributes_count uint32`,
  KeyValue: '1 key string\n2 value AnyValue',
  AnyValue: `1 string_value string |value
2 bool_value bool |value
3 int_value int64 |value
4 double_value double |value
5 array_value ArrayValue |value
6 kvlist_value KeyValueList |value
7 bytes_value bytes |value`,
  ArrayValue: '1 values AnyValue *',
  KeyValueList: '1 values KeyValue *',
};

const NAMES = Object.keys(SOURCE);

export const MESSAGES: readonly Message[] = NAMES.map((name) => {
  const fields = SOURCE[name]!.split('\n').map(parseField);
  const byNumber = new Map(fields.map((field) => [field.number, field]));
  return { name, fields, byNumber, item: /^Span$|^LogRecord$|DataPoint$/.test(name) };
});

/** Index into MESSAGES. */
export function messageIndex(name: string): number {
  const index = NAMES.indexOf(name);
  if (index < 0) throw new Error(`schema: there is no message ${name}`);
  return index;
}

function parseField(line: string): Field {
  const [number, name, type, ...marks] = line.split(' ') as [string, string, string, ...string[]];
  const id = /^id(\d+)$/.exec(type);
  const kind = id ? 'id' : type in ENUMS ? 'enum' : type;
  const oneof = marks.find((mark) => mark.startsWith('|'))?.slice(1);
  return {
    number: Number(number),
    name,
    type: kind,
    child: NAMES.indexOf(kind),
    repeated: marks.includes('*'),
    isBranch: marks.includes('>'),
    presence: oneof !== undefined || marks.includes('?'),
    oneof,
    values: ENUMS[type],
    idBytes: id ? Number(id[1]) : undefined,
  };
}

/** lowerCamelCase, as in JSON. */
export function jsonName(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());
}
