import { messageIndex } from './schema.ts';

/** The signals of OTLP. They differ by this table, not by copies of a handler. */
export type Signal = 'traces' | 'metrics' | 'logs' | 'profiles';
export type BodyFormat = 'protobuf' | 'json';

export interface SignalSpec {
  /** OTLP/HTTP path (specification 1.11). */
  path: string;
  /** Noun for its items. */
  item: string;
  /** Index of the request in MESSAGES; profiles are opaque. */
  request: number | undefined;
  /** Name of the count in the JSON form of its partial success. */
  rejectedField: string;
}

export const SIGNALS: Readonly<Record<Signal, SignalSpec>> = {
  traces: {
    path: '/v1/traces',
    item: 'span',
    request: messageIndex('ExportTraceServiceRequest'),
    rejectedField: 'rejectedSpans',
  },
  metrics: {
    path: '/v1/metrics',
    item: 'data point',
    request: messageIndex('ExportMetricsServiceRequest'),
    rejectedField: 'rejectedDataPoints',
  },
  logs: {
    path: '/v1/logs',
    item: 'log record',
    request: messageIndex('ExportLogsServiceRequest'),
    rejectedField: 'rejectedLogRecords',
  },
  profiles: {
    path: '/v1development/profiles',
    item: 'request',
    request: undefined,
    rejectedField: 'rejectedProfiles',
  },
};
