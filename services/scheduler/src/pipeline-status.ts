import type {
  Accounting,
  Breaker,
  CheckStatus,
  DlqStatus,
  ExporterStatus,
  LimiterStatus,
  PriorityClass,
  ReceiverStatus,
  ServiceName,
} from '@nrdot/queue';
import type { Transition } from '@nrdot/telemetry';
import type { Finding, Summary } from './findings.ts';

/**
 * The whole pipeline as one JSON: what `GET /api/status` gives, the console draws and `nrdot status` prints. Times: Unix
 * ms, ages in ms, rates per second over the last few seconds. Where Redis or a service is away, what it alone knows is
 * absent: `queue`, `books`, `breaker`, `breakers` without Redis, `limiter` without a receiver, `dlq` without a dlq.
 */
export interface PipelineStatus {
  at: number;
  /** What a person should know first, the gravest first; never empty. */
  findings: Finding[];
  /** Where the data is, and whether any was lost, in a sentence each. */
  summary: Summary;
  redis: {
    /** Where it is, without credentials. */
    address?: string;
    /** "nrdot up" runs it. */
    isOwn?: boolean;
    problem?: string;
    usedBytes?: number;
    limitBytes?: number;
    /** When it was last found to have lost what it held, items that are nowhere since, and when it was seen last before. */
    lost?: { at: number; items: number; seenAt: number };
  };
  /** Every service of every process that has spoken in the last ten seconds. */
  services: ServiceLine[];
  /** Items per second on the edges of the path; `requests` and `refusedRequests` are requests. */
  rates: Rates;
  queue?: QueueStatus;
  /** Of the signal that most needs a look. */
  breaker?: Breaker;
  /** Of each signal. */
  breakers?: Breaker[];
  receiver?: Omit<ReceiverStatus, 'limiter' | 'check'>;
  limiter?: LimiterStatus;
  check?: CheckStatus;
  exporter?: ExporterStatus;
  /** What was sent in the last minute by all exporters, beside what the account may be sent; absent where no limit is set. */
  account?: AccountLimitStatus[];
  dlq?: DlqStatus;
  /** How far the disk is emptied: the most items it held since it was last empty, and those still there. */
  drain?: { fromItems: number; leftItems: number };
  /** In items: accepted = delivered + queued + on_disk + rejected + dropped + difference. */
  books?: Accounting;
  /** How long their difference has been what it is. While items move it changes with every look. */
  differenceMs?: number;
  /** Items by why they were dropped, those reasons that occurred. */
  dropped?: Record<string, number>;
  /** How long ago, in ms, the books were seen to grow there; absent when that was not seen since this scheduler started. */
  lately?: { droppedMs?: number; rejectedMs?: number; deliveredMs?: number; allRejected?: boolean };
}

/** What `GET /api/events` answers: the last events of the pipeline, oldest first. */
export interface Events {
  events: Transition[];
  /** Why these are only those of the scheduler's process; absent when they are those of all. */
  problem?: string;
}

export interface ServiceLine {
  service: ServiceName;
  /** `host:pid`. */
  instance: string;
  /** How old what it says is. */
  ageMs: number;
  upMs: number;
  version: string;
  rssBytes: number;
  problem?: string;
  /** What it does now, in words: `ready`, or what it waits for. */
  state: string;
}

export interface Rates {
  requests: number;
  refusedRequests: number;
  received: number;
  /** Into Redis. */
  accepted: number;
  limiterDropped: number;
  /** From Redis to the exporters, by class: from clients and from disk, tries among them. */
  moved: Record<PriorityClass, number>;
  delivered: number;
  /** Onto the disk, rejected ones among them. */
  stored: number;
  /** Accepted, and given up for good: loss. */
  dropped: number;
  /** From the disk, and settled by the upstream: a probe in vain is none of them. */
  replayed: number;
}

export interface AccountLimitStatus {
  of: 'requests' | 'points' | 'records' | 'bytes';
  /** Of requests: the signal with most of them. */
  signal?: 'traces' | 'metrics' | 'logs';
  perMinute: number;
  limitPerMinute: number;
}

export interface QueueStatus {
  /** 0 to 1, by whichever of bytes and items is nearer its limit. */
  fill: number;
  maxBytes: number;
  maxItems: number;
  items: number;
  bytes: number;
  classes: Record<PriorityClass, ClassStatus>;
  /** Which kind of work has the present slot. */
  slot: 'live' | 'replay';
}

export interface ClassStatus {
  /** Waiting for the scheduler. */
  waiting: Amount;
  /** The same, back from disk. */
  replay: Amount;
  /** With the exporters, waiting for a retry among them. */
  exporting: Amount;
  /** On the way to disk. */
  spilling: Amount;
  /** What it holds of the queue's room, 0 to 1. */
  fill: number;
  /** New arrivals go to disk, for want of room. */
  spills: boolean;
  /** Of the oldest batch that waits for the scheduler; 0 when none does. */
  oldestAgeMs: number;
  weight: number;
  /** Of the items moved: what it is to have while all classes wait, and what it had in the last seconds. */
  wantedShare: number;
  achievedShare: number;
}

export interface Amount {
  batches: number;
  items: number;
  bytes: number;
}
