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

/** The queue in which live or replayed batches of a class wait for the scheduler. */
export function classQueue(priorityClass: PriorityClass, origin: Origin): QueueName {
  return origin === 'replay' ? `replay-${priorityClass}` : priorityClass;
}

/** The stages of a batch in Redis, and the units in which each stage is counted. */
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
 * All key names below one prefix. The prefix has a hash tag (`{nrdot}`), so that on a Cluster they share a slot and a script
 * may use any of them.
 */
export interface Keys {
  prefix: string;
  /** A part of a BullMQ queue: `wait`, `active`, `delayed`, `meta`, `marker`, … or a job id. */
  queue(queue: QueueName, part: string): string;
  /** The payload of one batch. */
  payload(key: string): string;
  /** Hash: what Redis holds now, by stage, class and unit. */
  depth: string;
  /** Hash: the accounting, in items since the prefix was first used. */
  books: string;
  /** List: ids of the last ledger entries of the dlq that were added to the accounting. */
  booked: string;
  /** Written to before waiting for replicas: WAIT covers only writes on its own connection. */
  fence: string;
  /**
   * List of `done KEY`, `returned KEY` and `failed KEY ATTEMPTS MESSAGE` for the dlq; and how many lines before its first were
   * deleted.
   */
  outcomes: string;
  outcomesForgotten: string;
  /** Hash: items on the dlq's disk and the accounting, as of its last report. */
  disk: string;
  /** Hash: when Redis was last found to have lost data, and how many items were lost. */
  losses: string;
  /** Hash: the slots of receivers as writers of merged streams, with their expiry. */
  leases: string;
  /** Sorted set: distinct series by metric of a UTC day. `:names` and a HyperLogLog for each metric are below it. */
  daily(day: string): string;
  /** Sorted set that the scheduler blocks on: any member wakes it. */
  wake: string;
  /** Hash: the state of the weighted pick. */
  scheduler: string;
  /** Hash: state, reason, times and window of a signal's breaker. */
  breaker(signal: Signal): string;
  /**
   * Hash: jobs by signal that wait, that were set aside so that others pass, and that are in the export queue, with their
   * bytes.
   */
  signals: string;
  /** Hash: the status of each process, by host and process id. */
  status: string;
  /** List: the last events as JSON, oldest first; and which scheduler reports those of the whole pipeline. */
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
