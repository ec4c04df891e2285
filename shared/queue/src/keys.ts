import type { Signal } from '@nrdot/otlp';
import type { Origin } from './batch.ts';
import { CLASSES, type PriorityClass } from './priority-class.ts';

const REPLAY_QUEUES = ['replay-critical', 'replay-high', 'replay-normal'] as const;
/** Every queue of the pipeline, by its BullMQ name. */
export const QUEUES = [...CLASSES, ...REPLAY_QUEUES, 'export', 'spill'] as const;
export type QueueName = (typeof QUEUES)[number];
/** The queues whose jobs consumers take: to the upstream, and to the disk. */
export type TakenQueue = 'export' | 'spill';

/** The queue in which live or replayed batches of a class wait for the scheduler. */
export function classQueue(priorityClass: PriorityClass, origin: Origin): QueueName {
  return origin === 'replay' ? `replay-${priorityClass}` : priorityClass;
}

/** The stages of a batch in Redis, each of which is counted. */
export const STAGES = ['queued', 'replay', 'export', 'replay-export', 'spill'] as const;
export type Stage = (typeof STAGES)[number];

export type Keys = ReturnType<typeof keysOf>;

/**
 * All key names below one prefix. The prefix has a hash tag (`{nrdot}`), so that on a Cluster they share a slot and a script
 * may use any of them.
 */
export function keysOf(prefix: string) {
  return {
    prefix,
    /** A part of a BullMQ queue: `wait`, `active`, `delayed`, `meta`, `marker`, … or a job id. */
    queue: (queue: QueueName, part: string) => `${prefix}:${queue}:${part}`,
    payload: (key: string) => `${prefix}:payload:${key}`,
    /** Hash: what Redis holds now, by stage, class and unit. */
    depth: `${prefix}:depth`,
    /** Hash: the accounting, in items since the prefix was first used. */
    books: `${prefix}:books`,
    /** List: ids of the last ledger entries of the dlq that were added to the accounting. */
    booked: `${prefix}:booked`,
    /** Written to before waiting for replicas: WAIT covers only writes on its own connection. */
    fence: `${prefix}:fence`,
    /** List of `done KEY`, `returned KEY` and `failed KEY ATTEMPTS MESSAGE` for the dlq. */
    outcomes: `${prefix}:replay-outcomes`,
    /** How many lines before the first outcome were deleted. */
    outcomesForgotten: `${prefix}:replay-outcomes-forgotten`,
    /** Hash: items on the dlq's disk and the accounting, as of its last report. */
    disk: `${prefix}:disk`,
    /** Hash: when Redis was last found to have lost data, and how many items were lost. */
    losses: `${prefix}:losses`,
    /** Hash: the slots of receivers as writers of merged streams, with their expiry. */
    leases: `${prefix}:leases`,
    /** Sorted set: distinct series by metric of a UTC day. `:names` and a HyperLogLog for each metric are below it. */
    daily: (day: string) => `${prefix}:limiter:daily:${day}`,
    /** Sorted set that the scheduler blocks on: any member wakes it. */
    wake: `${prefix}:wake`,
    /** Hash: the state of the weighted pick. */
    scheduler: `${prefix}:scheduler`,
    /** Hash: state, reason, times and window of a signal's breaker. */
    breaker: (signal: Signal) => `${prefix}:breaker:${signal}`,
    /** Hash, by signal: jobs that wait, that were set aside so that others pass, and in the export queue, with their bytes. */
    signals: `${prefix}:signals`,
    /** Hash: the status of each process, by host and process id. */
    status: `${prefix}:status`,
    /** List: the last events as JSON, oldest first. */
    events: `${prefix}:events`,
    /** Which scheduler reports the events of the whole pipeline. */
    teller: `${prefix}:events-teller`,
  };
}
