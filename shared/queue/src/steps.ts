import type { ClaimAnswer, Claimant, LimiterClaim } from '@nrdot/key-budget';
import type { Signal } from '@nrdot/otlp';
import type { Batch, JobData } from './batch.ts';
import type { BreakerState } from './breaker-state.ts';
import type { TakenQueue } from './keys.ts';
import type { PriorityClass } from './priority-class.ts';

/** The batches of one request, which are accepted or rejected together. */
export interface Group {
  batches: readonly Batch[];
  claim?: { claim: LimiterClaim; claimant: Claimant } | undefined;
}

export interface GroupResult {
  results: EnqueueResult[];
  /** If there was a claim and it was evaluated. */
  answer?: ClaimAnswer;
}

/** In the order of the enqueue script's numbers, from 1, which never answers the last one. */
export const ENQUEUE_RESULTS = [
  'queued', // waits in its class queue
  'held', // Redis had it already
  'lost', // not kept: the payload was gone
  'full', // not kept: the queue is at its limit
  'spilled', // in the spill queue
  'taken', // handed off to the exporter of this process
  'again', // not kept: the limiter's claim is out of date, so the request must be prepared again
  'moved', // straight to the export queue
  'no_memory', // not kept: Redis is out of memory
] as const;
export type EnqueueResult = (typeof ENQUEUE_RESULTS)[number];

export interface MoveOptions {
  windowBatches: number;
  windowBytes: number;
  mergeBytes: number;
  weights: Record<PriorityClass, number>;
  maxPicks: number;
  /** Length of the time slots in which live and replayed batches alternate, in ms. */
  slotMs: number;
}

export interface MoveResult {
  jobs: number;
  items: Record<PriorityClass, number>;
  waiting: { live: Record<PriorityClass, number>; replay: Record<PriorityClass, number> };
  /** Jobs that still fit into the export queue, for the signal with the most room. */
  room: number;
  /** The worst state among the signals. */
  breaker: BreakerState;
  /** Time until the earliest probe, in ms; meaningful while a breaker is open. */
  probeInMs: number;
  more: boolean;
}

/** For a replayed batch that the upstream did not accept: attempts since it was read, and the upstream's last error. */
export interface Failed {
  attempts: number;
  message: string;
}

/** The end of a replayed batch: if `done`, its record may be deleted; otherwise it stays, after failed attempts or none. */
export interface ReplayOutcome {
  key: string;
  done: boolean;
  failed?: Failed;
}

export type Settlement =
  | { outcome: 'delivered'; refusedItems?: number } // `refusedItems` by a partial success: counted as dropped
  | { outcome: 'stored' } // on the dlq's disk
  | { outcome: 'rejected' } // on the dlq's disk, in the area that is replayed only on command
  | { outcome: 'dropped'; reason: string }
  | { outcome: 'returned'; failed: Failed }; // replayed, failed in every attempt, and stays on the disk

/** A job that a hand-over creates. `old` is the key of the payload that it takes over; without it the payload is new. */
export interface HandOverJob {
  queue: TakenQueue | PriorityClass;
  data: JobData;
  payloads: { key: string; old: string }[] | { key: string; bytes: Uint8Array }[];
}

/** A consumer's lock on a job that it has taken. The step that completes or releases the job sets `ended`. */
export interface JobLock {
  queue: TakenQueue;
  /** The breaker's epoch at the time of sending: the answer counts only while the breaker is still in it. */
  epoch?: string;
  id: string;
  token: string;
  ended: boolean;
  /** Other slots are free, so the settlement may be deferred until the next command. */
  mayDefer?: boolean;
}

export interface TakeLimits {
  token: string;
  lockMs: number;
  maxJobs: number;
  maxBytes: number;
  /** Whether one job may be larger than `maxBytes`. */
  alone: boolean;
  signals?: Partial<Record<Signal, { jobs: number; bytes: number; alone: boolean }>>;
  /** First requeues jobs whose consumer has died. */
  lookForLost: boolean;
}

export interface Taken {
  jobs: { id: string; data: string; attempts: number; payloads: (Buffer | null)[]; epoch: string }[];
  /** Jobs that are still waiting and may be sent. */
  waiting: number;
  /** Of those: jobs that did not fit. */
  heldBack: number;
  /** No batch waits for the room of these jobs, so their settlements may be deferred. */
  mayDefer: boolean;
  /** Time until the next delayed job, in ms; negative if there is none. */
  nextInMs: number;
  /** Resolves when enough replicas have acknowledged; absent if none are required. @throws NotReplicated */
  onReplicas?: () => Promise<void>;
}

/** One script each; one call is one round trip. */
export const STEPS = [
  ...(['enqueue', 'move', 'take', 'settle', 'leave', 'hand_over', 'report', 'report_disk'] as const),
  ...(['drain', 'book', 'publish', 'read_outcomes', 'forget_outcomes', 'lease'] as const),
];
export type Step = (typeof STEPS)[number];

export interface StepEvents {
  /** Redis answered after so many seconds. */
  took?(step: Step, seconds: number): void;
  /** Redis refused the step, or the call failed. */
  failed?(step: Step, error: Error): void;
  /** A job that is not the pipeline's was moved away. `line` has its queue, id and reason. */
  odd?(line: string): void;
}
