import type { Signal } from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue';

/**
 * What each process reports about itself to Redis every two seconds, so that one page shows all services on all hosts: counts
 * and states, no payloads, no secrets, a few KiB at most. Times are Unix ms; counters start with the process.
 */
export interface ProcessStatus {
  /** `host:pid`. */
  instance: string;
  at: number;
  startedAt: number;
  version: string;
  rssBytes: number;
  services: ServiceParts;
}

/** The services of a process, each with the reason why it cannot work now, if any. */
export interface ServiceParts {
  receiver?: ReceiverStatus & Readiness;
  scheduler?: Readiness;
  exporter?: ExporterStatus & Readiness;
  dlq?: DlqStatus & Readiness;
}

export type ServiceName = keyof ServiceParts;

export interface Readiness {
  /** A message for people; absent if the service works. */
  problem?: string;
}

export interface ReceiverStatus {
  requests: number;
  refusedRequests: number;
  /** Items in acknowledged requests. */
  items: number;
  /** Rejected requests by reason; reasons that have not occurred are absent. */
  refused: Record<string, number>;
  /** Absent if `limiter.mode` is `off`. */
  limiter?: LimiterStatus;
  /** Absent if traffic is not checked against the backend's rules. */
  check?: CheckStatus;
}

/** Among the checked items: what the backend would not keep as it is. */
export interface CheckStatus {
  /** Share of batches that are checked. */
  sample: number;
  items: number;
  /** Worst effect first, at most one entry per rule and signal. */
  broken: { rule: string; effect: 'dropped' | 'pruned' | 'shortened'; signal: string; items: number }[];
}

export interface LimiterStatus {
  mode: 'enforce' | 'observe';
  keysUsed: number;
  /** This receiver's share of `maxKeys`. */
  keysLimit: number;
  maxKeys: number;
  points: number;
  droppedPoints: number;
  aggregatedPoints: number;
  overflowPoints: number;
  /** Highest scores first, at most `TOP_LABELS`. */
  topLabels: LabelStatus[];
  /** Absent while daily series are not counted, or Redis has not answered yet. */
  daily?: DailyStatus;
}

/** Distinct series of this UTC day. */
export interface DailyStatus {
  /** `2026-11-29` */
  day: string;
  limit: number;
  mode: 'observe' | 'enforce';
  /** For all metrics together. */
  sum: number;
  /** Most series first, at most `TOP_DAILY`. */
  metrics: DailyMetricStatus[];
}

export interface DailyMetricStatus {
  /** Shortened like the names of labels. */
  metric: string;
  keys: number;
  /** Expected count at the end of the day, from the growth of the last hour; absent without enough data. */
  forecast?: number;
}

export interface LabelStatus {
  /** Names come from clients and are cut to `NAME_MAX` characters. */
  metric: string;
  label: string;
  /** 0 to 1. */
  score: number;
  /** Entropy. */
  bits: number;
  state: 'kept' | 'removed' | 'protected';
}

export interface ExporterStatus {
  /** Host of the upstream, without path, user or headers. */
  upstream: string;
  inflight: number;
  concurrency: number;
  retries: number;
  /** Requests as sent, failed attempts included; absent from older processes. */
  sent?: Record<Signal, SentStatus>;
  /** The last failed answer; its message is cut to `MESSAGE_MAX` characters. */
  lastProblem?: { at: number; reason: string; message: string };
}

/** Bytes are those of request bodies as sent, that is, compressed. */
export interface SentStatus {
  requests: number;
  items: number;
  bytes: number;
}

export type DlqArea = PriorityClass | 'rejected';
/** `recovered`: open when its process was killed, about to be sealed. `damaged`: read as far as possible, then quarantined. */
export type SegmentStateName = 'open' | 'recovered' | 'sealed' | 'replaying' | 'damaged' | 'unreadable';

export interface DlqStatus {
  /** `ok`, or why the last write failed: `full`, `disk_full`, `disk_failing`, … */
  state: string;
  /** A message for people. */
  fault?: string;
  diskBytes: number;
  capacityBytes: number;
  /** The file system of the log. */
  disk?: { freeBytes: number; totalBytes: number; reserveBytes: number };
  retentionMs?: number;
  rejectedCapacityBytes?: number;
  areas: Record<
    DlqArea,
    { items: number; waitingBytes: number; diskBytes: number; segments: number; oldestReceivedAt: number }
  >;
  /** Oldest first within an area, at most `SEGMENTS_MAX`; `done` is the share of acknowledged records. */
  segments: {
    area: DlqArea;
    sequence: number;
    state: SegmentStateName;
    diskBytes: number;
    items: number;
    done: number;
  }[];
  /** Segments missing from the list. */
  segmentsLeftOut: number;
  /** Unreadable files that are kept for inspection. */
  quarantinedBytes: number;
  replay: {
    paused: boolean;
    outstanding: number;
    /** Current limit, in bytes of uncompressed payload. */
    bytesPerSecond: number;
    /** Time to empty the disk at that rate. */
    drainSeconds: number;
    /** Items put back into the queue, each time counted. */
    replayedItems: number;
    /** Of those, items that left the disk for good: delivered or rejected. Absent from older processes. */
    returnedItems?: number;
  };
}

export const TOP_LABELS = 8;
export const TOP_DAILY = 10;
export const SEGMENTS_MAX = 160;
export const NAME_MAX = 120;
export const STATUS_EVERY_MS = 2_000;
/** Maximum number of a process's unsent events. */
export const EVENTS_WAITING_MAX = 200;
