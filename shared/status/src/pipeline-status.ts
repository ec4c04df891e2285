import type { Accounting, Amount, Breaker, PriorityClass } from '@nrdot/queue';
import type { Transition } from '@nrdot/telemetry';
import type { Finding, Summary } from './findings.ts';
import type {
  CheckStatus,
  DlqStatus,
  ExporterStatus,
  LimiterStatus,
  ReceiverStatus,
  ServiceName,
} from './process-status.ts';

/**
 * The status of the whole pipeline: `GET /api/status` returns it, the console and `nrdot status` show it. Times: Unix ms, ages
 * in ms, rates per second over the last few seconds. If Redis or a service is away, what only it knows is absent: `queue`,
 * `books`, `breaker`, `breakers` without Redis, `limiter` without a receiver, `dlq` without a dlq.
 */
export interface PipelineStatus {
  at: number;
  /** What to know first, the most severe first; never empty. */
  findings: Finding[];
  /** Where the data is, and whether any was lost, in one sentence each. */
  summary: Summary;
  redis: {
    /** Its address, without credentials. */
    address?: string;
    isOwn?: boolean;
    problem?: string;
    usedBytes?: number;
    limitBytes?: number;
    /** When it was last found to have lost data, items lost, and the time of the last snapshot before. */
    lost?: { at: number; items: number; seenAt: number };
    /** When it last came back with an older state. */
    olderAt?: number;
  };
  /** Every service of every process that has reported in the last ten seconds. */
  services: ServiceLine[];
  /** Items per second along the path; `requests` and `refusedRequests` count requests. */
  rates: Rates;
  queue?: QueueStatus;
  breaker?: Breaker;
  breakers?: Breaker[];
  receiver?: Omit<ReceiverStatus, 'limiter' | 'check'>;
  limiter?: LimiterStatus;
  check?: CheckStatus;
  exporter?: ExporterStatus;
  /** What all exporters sent in the last minute, against the account's limits; absent without limits. */
  account?: AccountLimitStatus[];
  dlq?: DlqStatus;
  /** Progress of emptying the disk: the maximum number of items since it was last empty, and those left. */
  drain?: { fromItems: number; leftItems: number };
  /** In items: accepted = delivered + queued + on_disk + rejected + dropped + difference. */
  books?: Accounting;
  /** Redis has not been usable for long enough that every process has reported: `services` may be incomplete or old. */
  unheard?: true;
  /** No dlq has reported since Redis came back: `dlq` is absent, or the disk's part of `books` is from before. */
  diskIsOld?: true;
  /** How long the difference has been the same. While items move it changes all the time. */
  differenceMs?: number;
  /** Dropped items by reason; reasons that have not occurred are absent. */
  dropped?: Record<string, number>;
  /** Ms since these totals of the accounting last grew; absent if they have not since this scheduler started. */
  lately?: { droppedMs?: number; rejectedMs?: number; deliveredMs?: number; allRejected?: boolean };
}

/** Answer of `GET /api/events`: the last events of the pipeline, oldest first. */
export interface Events {
  events: Transition[];
  /** Why these are only the events of the scheduler's process; absent if they are complete. */
  problem?: string;
}

export interface ServiceLine {
  service: ServiceName;
  instance: string;
  ageMs: number;
  upMs: number;
  version: string;
  rssBytes: number;
  problem?: string;
  /** For people: `ready`, or what it waits for. */
  state: string;
}

export interface Rates {
  requests: number;
  refusedRequests: number;
  received: number;
  accepted: number;
  limiterDropped: number;
  /** Moved to the exporters, by class, live and replayed, retries included. */
  moved: Record<PriorityClass, number>;
  delivered: number;
  /** Stored on disk, rejected ones included. */
  stored: number;
  dropped: number;
  /** Replayed from disk and settled by the upstream; failed probes do not count. */
  replayed: number;
}

export interface AccountLimitStatus {
  of: 'requests' | 'points' | 'records' | 'bytes';
  /** For requests: the signal with the most. */
  signal?: 'traces' | 'metrics' | 'logs';
  perMinute: number;
  limitPerMinute: number;
}

export interface QueueStatus {
  /** 0 to 1, of bytes or items, whichever is nearer its limit. */
  fill: number;
  maxBytes: number;
  maxItems: number;
  items: number;
  bytes: number;
  classes: Record<PriorityClass, ClassStatus>;
  slot: 'live' | 'replay';
}

export interface ClassStatus {
  waiting: Amount;
  replay: Amount;
  /** With the exporters, including those waiting for a retry. */
  exporting: Amount;
  /** Spilled and not yet on disk. */
  spilling: Amount;
  fill: number;
  /** New batches spill because the queue is too full. */
  spills: boolean;
  /** Age of the oldest batch waiting for the scheduler; 0 if there is none. */
  oldestAgeMs: number;
  weight: number;
  /** Share of the items moved: the target while all classes wait, and the share in the last seconds. */
  wantedShare: number;
  achievedShare: number;
}
