import { defineScript, type RedisConnection } from '@nrdot/redis';
import type { Cluster, Redis } from 'ioredis';
import type { BreakerState } from './breaker-state.ts';
import { book } from './scripts/book.ts';
import { drain } from './scripts/drain.ts';
import { enqueue } from './scripts/enqueue.ts';
import { handOver } from './scripts/hand-over.ts';
import { move } from './scripts/move.ts';
import { fence, forgetOutcomes, readOutcomes } from './scripts/outcomes.ts';
import { publish } from './scripts/publish.ts';
import { release } from './scripts/release.ts';
import { report } from './scripts/report.ts';
import { reportDisk } from './scripts/report-disk.ts';
import { settle } from './scripts/settle.ts';
import { take } from './scripts/take.ts';

type Arg = string | number | Buffer;
/** A script as a command: its keys, then its arguments. Their order is in the header of each script. */
type Step<T> = (...args: Arg[]) => Promise<T>;
type Job = [id: Buffer, data: Buffer, attempts: number, payloads: (Buffer | null)[], epoch: Buffer];

/** A connection that has the scripts beside this file as commands. */
export type Scripted = (Redis | Cluster) & {
  nrdotEnqueueBuffer: Step<unknown[]>;
  nrdotReadOutcomes: Step<[first: number, given: number, ...lines: string[]]>;
  nrdotFence: Step<null>;
  nrdotForgetOutcomes: Step<number>;
  nrdotBook: Step<number>;
  nrdotPublish: Step<number>;
  nrdotReport: Step<BreakerState>;
  nrdotReportDisk: Step<
    [
      ...[state: string, epoch: string, lost: string, difference: string, at: string, paused: string],
      ...[live: string, books: string[]],
    ]
  >;
  nrdotDrain: Step<(number | string)[]>;
  nrdotMove: Step<(number | string)[]>;
  nrdotSettle: Step<[settled: number, waiting: number, breakerChanged: number]>;
  nrdotTakeBuffer: Step<
    [waiting: number, nextInMs: number, heldBack: number, odd: Buffer[], queued: number, ...jobs: Job[]]
  >;
  nrdotRelease: Step<number>;
  nrdotHandOver: Step<number>;
};

/** Defines the steps on a connection. */
export function scripted(redis: RedisConnection): Scripted {
  const steps: [name: string, numberOfKeys: number, lua: string][] = [
    ['nrdotEnqueue', 6, enqueue],
    ['nrdotReadOutcomes', 2, readOutcomes],
    ['nrdotFence', 1, fence],
    ['nrdotForgetOutcomes', 2, forgetOutcomes],
    ['nrdotBook', 2, book],
    ['nrdotPublish', 1, publish],
    ['nrdotReport', 2, report],
    ['nrdotReportDisk', 7, reportDisk],
    ['nrdotDrain', 3, drain],
    ['nrdotMove', 2, move],
    ['nrdotSettle', 4, settle],
    ['nrdotTake', 5, take],
    ['nrdotRelease', 2, release],
    ['nrdotHandOver', 4, handOver],
  ];
  for (const step of steps) defineScript(redis, ...step);
  return redis as Scripted;
}
