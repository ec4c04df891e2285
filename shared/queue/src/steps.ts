/** What the store's steps take and give. */
import type { Signal } from '@nrdot/otlp';
import type { Batch, JobData } from './batch.ts';
import type { BreakerState } from './breaker-state.ts';
import type { ClaimAnswer, Claimant, LimiterClaim } from './limiter-state.ts';
import type { PriorityClass } from './priority-class.ts';

/** The batches of one request, which stand or fall together, and what its limiter claims. */
export interface Group {
  batches: readonly Batch[];
  claim?: { claim: LimiterClaim; claimant: Claimant } | undefined;
}

export interface GroupResult {
  /** One per batch. */
  results: EnqueueResult[];
  /** What the step said to the claim, when there was one and it was heard. */
  answer?: ClaimAnswer;
}

/**
 * What became of a batch: it waits in its queue, was there before, went to the spill queue; or it was not kept: its
 * payload was gone, there is no room by the limits of the queue, Redis has no memory for it, or (`again`) what its limiter
 * relied on is not so any more. `taken`: it went past the queues to the exporter of this process; `moved`: past those of the
 * scheduler to that of the exporters.
 */
export type EnqueueResult =
  | 'queued'
  | 'held'
  | 'spilled'
  | 'taken'
  | 'moved'
  | 'lost'
  | 'full'
  | 'again'
  | 'no_memory';

export interface MoveOptions {
  windowBatches: number;
  windowBytes: number;
  mergeBytes: number;
  weights: Record<PriorityClass, number>;
  maxPicks: number;
  /** How long live and replayed work take turns, in ms. */
  slotMs: number;
}

export interface MoveResult {
  jobs: number;
  items: Record<PriorityClass, number>;
  waiting: { live: Record<PriorityClass, number>; replay: Record<PriorityClass, number> };
  /** Jobs that the export queue could still take, of the signal that has most room. */
  room: number;
  /** The worst of the signals'. */
  breaker: BreakerState;
  /** Until the earliest probe, in ms, while one is open. */
  probeInMs: number;
  /** Whether there may be more to move. */
  more: boolean;
}

/** What the dlq is told of a replayed batch that the upstream did not take. */
export interface Failed {
  /** Tries since it left the disk. */
  attempts: number;
  /** What the upstream said last. */
  message: string;
}

/** What became of a replayed batch: it may go from the disk, or it stays there, tried in vain or not tried. */
export interface ReplayOutcome {
  key: string;
  done: boolean;
  failed?: Failed;
}

/** How a batch leaves Redis for good. */
export type Settlement =
  | { outcome: 'delivered'; refusedItems?: number } // refused: by a partial success; counted, not kept
  | { outcome: 'stored' } // on the dlq's disk
  | { outcome: 'rejected' } // on the dlq's disk, in the area that is replayed only on command
  | { outcome: 'dropped'; reason: string }
  | { outcome: 'returned'; failed: Failed }; // came from the dlq's disk and stays there: all its tries were in vain

/** A job to be made by a hand-over. `old` names the payload it takes over; without it the payload is new. */
export interface HandOverJob {
  queue: 'spill' | 'export';
  data: JobData;
  payloads: { key: string; old: string }[] | { key: string; bytes: Uint8Array }[];
}

/** A job that a consumer of ours holds. `ended` is set by the step that ends it. */
export interface Held {
  queue: 'export';
  /** State of its signal's breaker in which it is sent; its answer counts in no other. */
  epoch?: string;
  id: string;
  token: string;
  ended: boolean;
  /** Others have places without it, so its end may wait for the next batch that comes by. */
  unhurried?: boolean;
}

export interface TakeLimits {
  /** Names the consumer on the locks of its jobs. */
  token: string;
  lockMs: number;
  maxJobs: number;
  maxBytes: number;
  /** Whether one job may be larger than `maxBytes`. */
  alone: boolean;
  /** The same for single signals. */
  signals?: Partial<Record<Signal, { jobs: number; bytes: number; alone: boolean }>>;
  /** Gives back what consumers hold that are gone, first. */
  lookForLost: boolean;
}

export interface Taken {
  jobs: { id: string; data: string; attempts: number; payloads: (Buffer | null)[]; epoch: string }[];
  /** Jobs that still wait and may be sent. */
  waiting: number;
  /** Of those: what there was no room for. */
  heldBack: number;
  /** Until the next delayed job, in ms; negative when there is none. */
  nextInMs: number;
  /**
   * Resolves when as many replicas have all of this as are asked for, if any are.
   * @throws NotReplicated
   */
  onReplicas?: () => Promise<void>;
}

/** What a script does; each call is one round trip. */
export const STEPS = [
  'enqueue',
  'move',
  'take',
  'settle',
  'leave',
  'hand_over',
  'report',
  'report_disk',
  'drain',
  'sift',
  'book',
  'publish',
  'read_outcomes',
  'forget_outcomes',
] as const;
export type Step = (typeof STEPS)[number];

/** What is told of the steps. */
export interface StepEvents {
  /** Redis has answered. */
  took?(step: Step, seconds: number): void;
  /** Redis has refused it, or it failed. */
  failed?(step: Step, error: Error): void;
  /** A job that is none of the pipeline's was put away: queue, id and reason. */
  odd?(line: string): void;
}
