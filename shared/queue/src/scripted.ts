import type { RedisConnection } from '@nrdot/redis';
import { Cluster, type Redis } from 'ioredis';
import type { BreakerState } from './breaker-state.ts';
import { book } from './scripts/book.ts';
import { drain } from './scripts/drain.ts';
import { enqueue } from './scripts/enqueue.ts';
import { handOver } from './scripts/hand-over.ts';
import { move } from './scripts/move.ts';
import { inOneSlot } from './scripts/one-slot.ts';
import { forgetOutcomes, readOutcomes } from './scripts/outcomes.ts';
import { publish } from './scripts/publish.ts';
import { release } from './scripts/release.ts';
import { report } from './scripts/report.ts';
import { reportDisk } from './scripts/report-disk.ts';
import { settle } from './scripts/settle.ts';
import { sift } from './scripts/sift.ts';
import { take } from './scripts/take.ts';

/** A connection that has the scripts beside this file as commands. */
export type Scripted = (Redis | Cluster) & {
  nrdotEnqueueBuffer(
    depth: string,
    books: string,
    wake: string,
    scheduler: string,
    outcomes: string,
    outcomesForgotten: string,
    ...args: (string | number | Buffer)[]
  ): Promise<unknown[]>;
  nrdotReadOutcomes(
    outcomes: string,
    forgotten: string,
    from: number,
    limit: number,
  ): Promise<[number, number, ...string[]]>;
  nrdotForgetOutcomes(outcomes: string, forgotten: string, upTo: number): Promise<number>;
  nrdotBook(books: string, booked: string, ...args: (string | number)[]): Promise<number>;
  nrdotPublish(status: string, instance: string, json: string, keptMs: number): Promise<number>;
  nrdotReport(breaker: string, wake: string, ...args: (string | number)[]): Promise<BreakerState>;
  nrdotReportDisk(
    books: string,
    depth: string,
    disk: string,
    outcomes: string,
    outcomesForgotten: string,
    scheduler: string,
    losses: string,
    ...args: (string | number)[]
  ): Promise<
    [
      state: string,
      epoch: string,
      lost: string,
      difference: string,
      at: string,
      paused: string,
      live: string,
      books: string[],
    ]
  >;
  nrdotDrain(
    depth: string,
    books: string,
    outcomes: string,
    ...args: (string | number)[]
  ): Promise<(number | string)[]>;
  nrdotMove(depth: string, scheduler: string, ...args: (string | number)[]): Promise<(number | string)[]>;
  nrdotSift(wait: string, active: string, ...args: (string | number)[]): Promise<string[]>;
  nrdotSettle(
    depth: string,
    books: string,
    wake: string,
    outcomes: string,
    ...args: (string | number)[]
  ): Promise<[settled: number, waiting: number, breakerChanged: number]>;
  nrdotTakeBuffer(
    wait: string,
    active: string,
    delayed: string,
    meta: string,
    marker: string,
    ...args: (string | number)[]
  ): Promise<
    [number, number, number, Buffer[], number, ...[Buffer, Buffer, number, (Buffer | null)[], Buffer][]]
  >;
  nrdotRelease(delayed: string, marker: string, ...args: (string | number)[]): Promise<number>;
  nrdotHandOver(
    depth: string,
    books: string,
    outcomes: string,
    wake: string,
    ...args: (string | number)[]
  ): Promise<number>;
};

/** Defines the scripts on a connection; on a Cluster they refuse to run while their slot is being migrated. */
export function scripted(redis: RedisConnection): Scripted {
  const define = (name: string, numberOfKeys: number, lua: string) =>
    redis.defineCommand(name, { numberOfKeys, lua: redis instanceof Cluster ? inOneSlot(lua) : lua });
  define('nrdotEnqueue', 6, enqueue);
  define('nrdotReadOutcomes', 2, readOutcomes);
  define('nrdotForgetOutcomes', 2, forgetOutcomes);
  define('nrdotBook', 2, book);
  define('nrdotPublish', 1, publish);
  define('nrdotReport', 2, report);
  define('nrdotReportDisk', 7, reportDisk);
  define('nrdotDrain', 3, drain);
  define('nrdotMove', 2, move);
  define('nrdotSettle', 4, settle);
  define('nrdotTake', 5, take);
  define('nrdotSift', 2, sift);
  define('nrdotRelease', 2, release);
  define('nrdotHandOver', 4, handOver);
  return redis as Scripted;
}
