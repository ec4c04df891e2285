/**
 * The OTLP messages as data: field names, numbers and wire kinds, from opentelemetry-proto 1.x. Only what a
 * generator needs to write; kept apart from the gateway's own OTLP code, so that a mistake there is not repeated
 * here and hidden by it.
 */

export type FieldKind =
  | 'string'
  | 'bytes'
  | 'id' // bytes that OTLP's JSON writes in hex
  | 'bool'
  | 'enum'
  | 'uint32'
  | 'sint32'
  | 'int64'
  | 'fixed32'
  | 'fixed64'
  | 'sfixed64'
  | 'double'
  | 'packedDouble'
  | 'packedFixed64'
  | 'packedUint64'
  | 'message';

export interface Field {
  name: string;
  number: number;
  kind: FieldKind;
  repeated?: boolean;
  message?: string;
}

export interface MessageType {
  name: string;
  /** Fields by number, ascending: the order in which encoders write them. */
  fields: readonly Field[];
  /** Spans, log records and data points. */
  item: boolean;
}

type FieldSpec = readonly [number: number, name: string, kind: FieldKind | `${string}!` | `${string}!*`];

/** `Name!` is a message, `Name!*` a repeated one. */
function type(name: string, specs: readonly FieldSpec[], item = false): MessageType {
  const fields = specs.map(([number, fieldName, kind]): Field => {
    if (!kind.includes('!')) return { name: fieldName, number, kind: kind as FieldKind };
    const repeated = kind.endsWith('*');
    return { name: fieldName, number, kind: 'message', repeated, message: kind.slice(0, kind.indexOf('!')) };
  });
  return { name, fields: fields.toSorted((a, b) => a.number - b.number), item };
}

const TYPES: readonly MessageType[] = [
  type('AnyValue', [
    [1, 'stringValue', 'string'],
    [2, 'boolValue', 'bool'],
    [3, 'intValue', 'int64'],
    [4, 'doubleValue', 'double'],
    [5, 'arrayValue', 'ArrayValue!'],
    [6, 'kvlistValue', 'KeyValueList!'],
    [7, 'bytesValue', 'bytes'],
  ]),
  type('ArrayValue', [[1, 'values', 'AnyValue!*']]),
  type('KeyValueList', [[1, 'values', 'KeyValue!*']]),
  type('KeyValue', [
    [1, 'key', 'string'],
    [2, 'value', 'AnyValue!'],
  ]),
  type('Resource', [
    [1, 'attributes', 'KeyValue!*'],
    [2, 'droppedAttributesCount', 'uint32'],
  ]),
  type('InstrumentationScope', [
    [1, 'name', 'string'],
    [2, 'version', 'string'],
    [3, 'attributes', 'KeyValue!*'],
    [4, 'droppedAttributesCount', 'uint32'],
  ]),
  type('ExportTraceServiceRequest', [[1, 'resourceSpans', 'ResourceSpans!*']]),
  type('ResourceSpans', [
    [1, 'resource', 'Resource!'],
    [2, 'scopeSpans', 'ScopeSpans!*'],
    [3, 'schemaUrl', 'string'],
  ]),
  type('ScopeSpans', [
    [1, 'scope', 'InstrumentationScope!'],
    [2, 'spans', 'Span!*'],
    [3, 'schemaUrl', 'string'],
  ]),
  type(
    'Span',
    [
      [1, 'traceId', 'id'],
      [2, 'spanId', 'id'],
      [3, 'traceState', 'string'],
      [4, 'parentSpanId', 'id'],
      [5, 'name', 'string'],
      [6, 'kind', 'enum'],
      [7, 'startTimeUnixNano', 'fixed64'],
      [8, 'endTimeUnixNano', 'fixed64'],
      [9, 'attributes', 'KeyValue!*'],
      [10, 'droppedAttributesCount', 'uint32'],
      [11, 'events', 'Event!*'],
      [12, 'droppedEventsCount', 'uint32'],
      [13, 'links', 'Link!*'],
      [14, 'droppedLinksCount', 'uint32'],
      [15, 'status', 'Status!'],
      [16, 'flags', 'fixed32'],
    ],
    true,
  ),
  type('Event', [
    [1, 'timeUnixNano', 'fixed64'],
    [2, 'name', 'string'],
    [3, 'attributes', 'KeyValue!*'],
    [4, 'droppedAttributesCount', 'uint32'],
  ]),
  type('Link', [
    [1, 'traceId', 'id'],
    [2, 'spanId', 'id'],
    [3, 'traceState', 'string'],
    [4, 'attributes', 'KeyValue!*'],
    [5, 'droppedAttributesCount', 'uint32'],
    [6, 'flags', 'fixed32'],
  ]),
  type('Status', [
    [2, 'message', 'string'],
    [3, 'code', 'enum'],
  ]),
  type('ExportLogsServiceRequest', [[1, 'resourceLogs', 'ResourceLogs!*']]),
  type('ResourceLogs', [
    [1, 'resource', 'Resource!'],
    [2, 'scopeLogs', 'ScopeLogs!*'],
    [3, 'schemaUrl', 'string'],
  ]),
  type('ScopeLogs', [
    [1, 'scope', 'InstrumentationScope!'],
    [2, 'logRecords', 'LogRecord!*'],
    [3, 'schemaUrl', 'string'],
  ]),
  type(
    'LogRecord',
    [
      [1, 'timeUnixNano', 'fixed64'],
      [2, 'severityNumber', 'enum'],
      [3, 'severityText', 'string'],
      [5, 'body', 'AnyValue!'],
      [6, 'attributes', 'KeyValue!*'],
      [7, 'droppedAttributesCount', 'uint32'],
      [8, 'flags', 'fixed32'],
      [9, 'traceId', 'id'],
      [10, 'spanId', 'id'],
      [11, 'observedTimeUnixNano', 'fixed64'],
      [12, 'eventName', 'string'],
    ],
    true,
  ),
  type('ExportMetricsServiceRequest', [[1, 'resourceMetrics', 'ResourceMetrics!*']]),
  type('ResourceMetrics', [
    [1, 'resource', 'Resource!'],
    [2, 'scopeMetrics', 'ScopeMetrics!*'],
    [3, 'schemaUrl', 'string'],
  ]),
  type('ScopeMetrics', [
    [1, 'scope', 'InstrumentationScope!'],
    [2, 'metrics', 'Metric!*'],
    [3, 'schemaUrl', 'string'],
  ]),
  type('Metric', [
    [1, 'name', 'string'],
    [2, 'description', 'string'],
    [3, 'unit', 'string'],
    [5, 'gauge', 'Gauge!'],
    [7, 'sum', 'Sum!'],
    [9, 'histogram', 'Histogram!'],
    [10, 'exponentialHistogram', 'ExponentialHistogram!'],
    [11, 'summary', 'Summary!'],
    [12, 'metadata', 'KeyValue!*'],
  ]),
  type('Gauge', [[1, 'dataPoints', 'NumberDataPoint!*']]),
  type('Sum', [
    [1, 'dataPoints', 'NumberDataPoint!*'],
    [2, 'aggregationTemporality', 'enum'],
    [3, 'isMonotonic', 'bool'],
  ]),
  type('Histogram', [
    [1, 'dataPoints', 'HistogramDataPoint!*'],
    [2, 'aggregationTemporality', 'enum'],
  ]),
  type('ExponentialHistogram', [
    [1, 'dataPoints', 'ExponentialHistogramDataPoint!*'],
    [2, 'aggregationTemporality', 'enum'],
  ]),
  type('Summary', [[1, 'dataPoints', 'SummaryDataPoint!*']]),
  type(
    'NumberDataPoint',
    [
      [2, 'startTimeUnixNano', 'fixed64'],
      [3, 'timeUnixNano', 'fixed64'],
      [4, 'asDouble', 'double'],
      [5, 'exemplars', 'Exemplar!*'],
      [6, 'asInt', 'sfixed64'],
      [7, 'attributes', 'KeyValue!*'],
      [8, 'flags', 'uint32'],
    ],
    true,
  ),
  type(
    'HistogramDataPoint',
    [
      [2, 'startTimeUnixNano', 'fixed64'],
      [3, 'timeUnixNano', 'fixed64'],
      [4, 'count', 'fixed64'],
      [5, 'sum', 'double'],
      [6, 'bucketCounts', 'packedFixed64'],
      [7, 'explicitBounds', 'packedDouble'],
      [8, 'exemplars', 'Exemplar!*'],
      [9, 'attributes', 'KeyValue!*'],
      [10, 'flags', 'uint32'],
      [11, 'min', 'double'],
      [12, 'max', 'double'],
    ],
    true,
  ),
  type(
    'ExponentialHistogramDataPoint',
    [
      [1, 'attributes', 'KeyValue!*'],
      [2, 'startTimeUnixNano', 'fixed64'],
      [3, 'timeUnixNano', 'fixed64'],
      [4, 'count', 'fixed64'],
      [5, 'sum', 'double'],
      [6, 'scale', 'sint32'],
      [7, 'zeroCount', 'fixed64'],
      [8, 'positive', 'Buckets!'],
      [9, 'negative', 'Buckets!'],
      [10, 'flags', 'uint32'],
      [11, 'exemplars', 'Exemplar!*'],
      [12, 'min', 'double'],
      [13, 'max', 'double'],
      [14, 'zeroThreshold', 'double'],
    ],
    true,
  ),
  type('Buckets', [
    [1, 'offset', 'sint32'],
    [2, 'bucketCounts', 'packedUint64'],
  ]),
  type(
    'SummaryDataPoint',
    [
      [2, 'startTimeUnixNano', 'fixed64'],
      [3, 'timeUnixNano', 'fixed64'],
      [4, 'count', 'fixed64'],
      [5, 'sum', 'double'],
      [6, 'quantileValues', 'ValueAtQuantile!*'],
      [7, 'attributes', 'KeyValue!*'],
      [8, 'flags', 'uint32'],
    ],
    true,
  ),
  type('ValueAtQuantile', [
    [1, 'quantile', 'double'],
    [2, 'value', 'double'],
  ]),
  type('Exemplar', [
    [2, 'timeUnixNano', 'fixed64'],
    [3, 'asDouble', 'double'],
    [4, 'spanId', 'id'],
    [5, 'traceId', 'id'],
    [6, 'asInt', 'sfixed64'],
    [7, 'filteredAttributes', 'KeyValue!*'],
  ]),
];

const BY_NAME = new Map(TYPES.map((t) => [t.name, t]));

/** The message type of that name; throws for one that is not in the table, which is a mistake in the caller. */
export function messageType(name: string): MessageType {
  const found = BY_NAME.get(name);
  if (found === undefined) throw new TypeError(`no OTLP message type called ${name} in the testbed's schema`);
  return found;
}

export const REQUEST_TYPE = {
  traces: 'ExportTraceServiceRequest',
  metrics: 'ExportMetricsServiceRequest',
  logs: 'ExportLogsServiceRequest',
} as const;
