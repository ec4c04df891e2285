import type { Signal } from '@nrdot/otlp';
import type { PriorityClass } from './priority-class.ts';

/**
 * What each process says about itself in Redis every two seconds, so that one page shows all services wherever they
 * run: counts and states, no payloads, no secrets, a few KiB at most. Times: Unix ms. Counters: since the process began.
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

/** The services of a process. Each may say why it cannot do its work now. */
export interface ServiceParts {
  receiver?: ReceiverStatus & Readiness;
  scheduler?: Readiness;
  exporter?: ExporterStatus & Readiness;
  dlq?: DlqStatus & Readiness;
}

export type ServiceName = keyof ServiceParts;

export interface Readiness {
  /** In words for a person; absent when it can. */
  problem?: string;
}

export interface ReceiverStatus {
  requests: number;
  refusedRequests: number;
  /** Items in requests that were acknowledged. */
  items: number;
  /** Requests refused, by reason, those that occurred. */
  refused: Record<string, number>;
  /** Absent where `limiter.mode` is `off`. */
  limiter?: LimiterStatus;
  /** Absent where nothing is held against the backend's rules. */
  check?: CheckStatus;
}

/** What the backend would not keep as it is, of the items that were looked at. */
export interface CheckStatus {
  /** Share of the batches that are looked at. */
  sample: number;
  /** Items that were looked at. */
  items: number;
  /** The worst effect first, at most one for each rule and signal. */
  broken: { rule: string; effect: 'dropped' | 'pruned' | 'shortened'; signal: string; items: number }[];
}

export interface LimiterStatus {
  mode: 'enforce' | 'observe';
  keysUsed: number;
  /** This receiver's share of `maxKeys`. */
  keysLimit: number;
  /** Of all receivers together. */
  maxKeys: number;
  points: number;
  droppedPoints: number;
  aggregatedPoints: number;
  overflowPoints: number;
  /** The highest scores first, at most `TOP_LABELS`. */
  topLabels: LabelStatus[];
  /** Absent while series of the day are not counted, or Redis has not said how many there are. */
  daily?: DailyStatus;
}

/** Distinct series of this UTC day. */
export interface DailyStatus {
  /** `2026-11-29` */
  day: string;
  /** `limiter.daily_keys` */
  limit: number;
  mode: 'observe' | 'enforce';
  /** Of all metrics together. */
  sum: number;
  /** Most series first, at most `TOP_DAILY`. */
  metrics: DailyMetricStatus[];
}

export interface DailyMetricStatus {
  /** Cut as those of labels. */
  metric: string;
  keys: number;
  /** At the day's end, by the last hour's growth; absent while there is too little to go by. */
  forecast?: number;
}

export interface LabelStatus {
  /** Names are cut to `NAME_MAX` characters. They come from clients. */
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
  /** Requests that may be in flight now. */
  concurrency: number;
  retries: number;
  /** Requests as they left, tries in vain among them; absent in what an older process says. */
  sent?: Record<Signal, SentStatus>;
  /** The last answer that was not a success: cut to `MESSAGE_MAX` characters. */
  lastProblem?: { at: number; reason: string; message: string };
}

/** Bytes are those of bodies, compressed as they went. */
export interface SentStatus {
  requests: number;
  items: number;
  bytes: number;
}

export type DlqArea = PriorityClass | 'rejected';
/** `recovered`: open when its process was killed, about to be sealed. `damaged`: read as far as it can be, then quarantined. */
export type SegmentStateName = 'open' | 'recovered' | 'sealed' | 'replaying' | 'damaged' | 'unreadable';

export interface DlqStatus {
  /** `ok`, or why the last write failed, such as `full`, `disk_full`, `disk_failing`. */
  state: string;
  /** The same in words. */
  fault?: string;
  diskBytes: number;
  capacityBytes: number;
  /** The file system that it is on; absent in what an older process says, as is `retentionMs`. */
  disk?: { freeBytes: number; totalBytes: number; reserveBytes: number };
  /** After so long on disk a batch is dropped. */
  retentionMs?: number;
  /** Of the rejected area; absent in what an older process says. */
  rejectedCapacityBytes?: number;
  areas: Record<
    DlqArea,
    { items: number; waitingBytes: number; diskBytes: number; segments: number; oldestReceivedAt: number }
  >;
  /** Oldest first within an area, at most `SEGMENTS_MAX`; `done` is the share of its records that is acknowledged. */
  segments: {
    area: DlqArea;
    sequence: number;
    state: SegmentStateName;
    diskBytes: number;
    items: number;
    done: number;
  }[];
  /** Segments that are not in the list. */
  segmentsLeftOut: number;
  /** Files that can't be read, kept for people. */
  quarantinedBytes: number;
  replay: {
    paused: boolean;
    /** Batches from the disk that are in Redis. */
    outstanding: number;
    /** What the rate may be now, in uncompressed payload. */
    bytesPerSecond: number;
    /** At that rate. */
    drainSeconds: number;
    /** Put back into the queue, each time anew. */
    replayedItems: number;
    /** Those of them that left the disk for good: taken by the upstream, or refused for good. Absent as above. */
    returnedItems?: number;
  };
}

export const TOP_LABELS = 8;
export const TOP_DAILY = 10;
export const SEGMENTS_MAX = 160;
export const NAME_MAX = 120;
export const MESSAGE_MAX = 200;
/** How often a process says how it is, and how long what it has said counts. */
export const STATUS_EVERY_MS = 2_000;
export const STATUS_COUNTS_MS = 10_000;

/** Events that are kept in Redis, and those of a process that wait for it. */
export const EVENTS_MAX = 1_000;
export const EVENTS_WAITING_MAX = 200;
/** A scheduler that has told nothing for so long is not the one that tells any more. */
export const TELLER_MS = 15_000;
