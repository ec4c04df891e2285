import type { Signal } from '@nrdot/otlp';
import type { Origin } from './batch.ts';
import { CLASSES, type PriorityClass } from './priority-class.ts';

/** Every queue of the pipeline, by its BullMQ name. */
export const QUEUES = [
  'critical',
  'high',
  'normal',
  'replay-critical',
  'replay-high',
  'replay-normal',
  'export',
  'spill',
] as const;
export type QueueName = (typeof QUEUES)[number];

/** The queue in which a batch of this class and origin waits for the scheduler. */
export function classQueue(priorityClass: PriorityClass, origin: Origin): QueueName {
  return origin === 'replay' ? `replay-${priorityClass}` : priorityClass;
}

/** Where a batch can be while Redis holds it; the units in which each place is counted. */
export const STAGES = ['queued', 'replay', 'export', 'replay-export', 'spill'] as const;
export type Stage = (typeof STAGES)[number];
export const UNITS = ['batches', 'items', 'bytes'] as const;
export type Unit = (typeof UNITS)[number];

/** Field of the depth hash. */
export function depthField(stage: Stage, priorityClass: PriorityClass, unit: Unit): string {
  return `${stage}:${priorityClass}:${unit}`;
}

export const DEPTH_FIELDS = STAGES.flatMap((stage) =>
  CLASSES.flatMap((priorityClass) => UNITS.map((unit) => depthField(stage, priorityClass, unit))),
);

/**
 * The names of all keys below one prefix. The prefix carries a hash tag (`{nrdot}`), so on a Cluster all of
 * them live in one slot and a script may touch any of them.
 */
export interface Keys {
  prefix: string;
  /** A part of a BullMQ queue: `wait`, `active`, `delayed`, `meta`, `marker`, … or a job id. */
  queue(queue: QueueName, part: string): string;
  /** The bytes of one batch. */
  payload(key: string): string;
  /** Hash: what Redis holds now, by stage, class and unit. */
  depth: string;
  /** Hash: the books, items counted since the prefix was first used. */
  books: string;
  /** List: names of the last entries of the dlq's ledger that are in the books. */
  booked: string;
  /** Written to before replicas are awaited, since WAIT looks at the writes of its own connection only. */
  fence: string;
  /** List of `done KEY`, `returned KEY` and `failed KEY ATTEMPTS MESSAGE` lines for the dlq, and how many of them were forgotten before its first. */
  outcomes: string;
  outcomesForgotten: string;
  /** Hash: items on the dlq's disk, as it last said; how the books stood then. */
  disk: string;
  /** Hash: when Redis was last found to have lost what it held, and how much of that is nowhere. */
  losses: string;
  /** Hash: which receiver has which slot as a writer of merged streams, and until when. */
  leases: string;
  /** Sorted set: distinct series by metric of a UTC day. `:names` and a HyperLogLog for each metric are below it. */
  daily(day: string): string;
  /** Sorted set the scheduler blocks on: a member means there is something to decide. */
  wake: string;
  /** Hash: the weighted pick's state. */
  scheduler: string;
  /** Hash: the state, reason, times and window of a signal's breaker. */
  breaker(signal: Signal): string;
  /** Hash: jobs by signal that wait, that were set aside for others to pass, and that are in the export queue, with their bytes. */
  signals: string;
  /** Hash: what each process says about itself, by host and process id. */
  status: string;
  /** List: the last events, JSON, oldest first; and which scheduler tells those of the whole pipeline. */
  events: string;
  teller: string;
}

export function keysOf(prefix: string): Keys {
  return {
    prefix,
    queue: (queue, part) => `${prefix}:${queue}:${part}`,
    payload: (key) => `${prefix}:payload:${key}`,
    depth: `${prefix}:depth`,
    books: `${prefix}:books`,
    booked: `${prefix}:booked`,
    fence: `${prefix}:fence`,
    outcomes: `${prefix}:replay-outcomes`,
    outcomesForgotten: `${prefix}:replay-outcomes-forgotten`,
    disk: `${prefix}:disk`,
    losses: `${prefix}:losses`,
    leases: `${prefix}:leases`,
    daily: (day) => `${prefix}:limiter:daily:${day}`,
    wake: `${prefix}:wake`,
    scheduler: `${prefix}:scheduler`,
    breaker: (signal) => `${prefix}:breaker:${signal}`,
    signals: `${prefix}:signals`,
    status: `${prefix}:status`,
    events: `${prefix}:events`,
    teller: `${prefix}:events-teller`,
  };
}
