import type { Batch } from './batch.ts';
import type { EnqueueResult } from './steps.ts';

const COMMIT_MAX_REQUESTS = 256;
const COMMIT_MAX_BYTES = 16 * 1024 * 1024;

type Commit = (groups: readonly (readonly Batch[])[], nowMs: number) => Promise<EnqueueResult[][]>;

interface Waiting {
  batches: readonly Batch[];
  timer: NodeJS.Timeout | undefined;
  resolve(results: EnqueueResult[]): void;
  reject(error: unknown): void;
}

/** A commit that did not reach Redis: nothing of it was kept. After any other error that is not known. */
export class NotSent extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NotSent';
  }
}

/**
 * Group commit. A batch that arrives while no commit is under way goes at once; those that arrive while one is
 * under way share the next. No timer, no latency when idle, few round trips when busy. What waits here is bounded
 * by the receiver's limit on bytes in flight.
 */
export class Enqueuer {
  readonly #commit: Commit;
  readonly #now: () => number;
  readonly #limitMs: number;
  #waiting: Waiting[] = [];
  #busy = false;

  /** @param limitMs how long a request may take, what it waits for commits before it included */
  constructor(commit: Commit, now: () => number = Date.now, limitMs = Number.POSITIVE_INFINITY) {
    this.#commit = commit;
    this.#now = now;
    this.#limitMs = limitMs;
  }

  /**
   * Commits the batches of one request together.
   * @throws whatever the commit threw, for every request that was in it; NotSent when its time was up before its turn came,
   *   and Error when its commit had begun
   */
  enqueue(batches: readonly Batch[]): Promise<EnqueueResult[]> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { batches, resolve, reject, timer: undefined };
      if (Number.isFinite(this.#limitMs))
        waiting.timer = setTimeout(() => this.#giveUp(waiting), this.#limitMs);
      this.#waiting.push(waiting);
      if (!this.#busy) void this.#run();
    });
  }

  /** Resolves when nothing waits and nothing is under way. */
  async idle(): Promise<void> {
    while (this.#busy) await new Promise((resolve) => setImmediate(resolve));
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        const results = await this.#commit(
          group.map((waiting) => waiting.batches),
          this.#now(),
        );
        group.forEach((waiting, i) => {
          waiting.resolve(results[i] ?? waiting.batches.map(() => 'lost'));
        });
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
      }
      for (const { timer } of group) clearTimeout(timer);
    }
    this.#busy = false;
  }

  #giveUp(waiting: Waiting): void {
    const at = this.#waiting.indexOf(waiting);
    const why = `Redis did not answer within ${this.#limitMs / 1000} s`;
    if (at >= 0) this.#waiting.splice(at, 1);
    waiting.reject(at >= 0 ? new NotSent(why) : new Error(why));
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    let n = 0;
    while (n < this.#waiting.length && n < COMMIT_MAX_REQUESTS) {
      for (const { payload } of this.#waiting[n]!.batches) bytes += payload.byteLength;
      if (n > 0 && bytes > COMMIT_MAX_BYTES) break;
      n++;
    }
    return this.#waiting.splice(0, n);
  }
}
