/** What the store's steps take and give. */
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
 * relied on is not so any more. `taken`: it went past the queues to the exporter of this process.
 */
export type EnqueueResult = 'queued' | 'held' | 'spilled' | 'taken' | 'lost' | 'full' | 'again' | 'no_memory';

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
  /** Jobs that the export queue could still take. */
  room: number;
  breaker: BreakerState;
  /** Until the earliest probe, in ms, while the breaker is open. */
  probeInMs: number;
}

/** How a batch leaves Redis for good. */
export type Settlement =
  | { outcome: 'delivered'; refusedItems?: number } // refused: by a partial success; counted, not kept
  | { outcome: 'stored' } // on the dlq's disk
  | { outcome: 'rejected' } // on the dlq's disk, in the area that is replayed only on command
  | { outcome: 'dropped'; reason: string }
  | { outcome: 'returned' }; // came from the dlq's disk and stays there

/** A job to be made by a hand-over. `old` names the payload it takes over; without it the payload is new. */
export interface HandOverJob {
  queue: 'spill' | 'export';
  data: JobData;
  payloads: { key: string; old: string }[] | { key: string; bytes: Uint8Array }[];
}

/** A job that a consumer of ours holds. `ended` is set by the step that ends it. */
export interface Held {
  queue: 'export';
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
  /** Gives back what consumers hold that are gone, first. */
  lookForLost: boolean;
}

export interface Taken {
  jobs: { id: string; data: string; attempts: number; payloads: (Buffer | null)[] }[];
  /** Jobs that still wait. */
  waiting: number;
  /** Until the next delayed job, in ms; negative when there is none. */
  nextInMs: number;
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
