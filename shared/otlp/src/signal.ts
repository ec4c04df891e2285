/** The signals of OTLP. They differ by this table, not by copies of a handler. */
export type Signal = 'traces' | 'metrics' | 'logs' | 'profiles';
export type BodyFormat = 'protobuf' | 'json';

export interface SignalSpec {
  name: Signal;
  /** OTLP/HTTP path (specification 1.11). */
  path: string;
  /** Noun for its items. */
  item: string;
  /** Message name of the request in `schema.ts`; profiles are opaque. */
  request: string | undefined;
  /** Name of the count in the JSON form of its partial success. */
  rejectedField: string;
}

export const SIGNALS: Readonly<Record<Signal, SignalSpec>> = {
  traces: {
    name: 'traces',
    path: '/v1/traces',
    item: 'span',
    request: 'ExportTraceServiceRequest',
    rejectedField: 'rejectedSpans',
  },
  metrics: {
    name: 'metrics',
    path: '/v1/metrics',
    item: 'data point',
    request: 'ExportMetricsServiceRequest',
    rejectedField: 'rejectedDataPoints',
  },
  logs: {
    name: 'logs',
    path: '/v1/logs',
    item: 'log record',
    request: 'ExportLogsServiceRequest',
    rejectedField: 'rejectedLogRecords',
  },
  profiles: {
    name: 'profiles',
    path: '/v1development/profiles',
    item: 'request',
    request: undefined,
    rejectedField: 'rejectedProfiles',
  },
};
