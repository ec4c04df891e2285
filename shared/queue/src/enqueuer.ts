import type { Batch } from './batch.ts';
import type { EnqueueResult } from './store.ts';

const COMMIT_MAX_BATCHES = 256;
const COMMIT_MAX_BYTES = 16 * 1024 * 1024;

interface Waiting {
  batch: Batch;
  resolve(result: EnqueueResult): void;
  reject(error: unknown): void;
}

/**
 * Group commit. A batch that arrives while no commit is under way goes at once; those that arrive while one is
 * under way share the next. No timer, no latency when idle, few round trips when busy. What waits here is bounded
 * by the receiver's limit on bytes in flight.
 */
export class Enqueuer {
  readonly #commit: (batches: readonly Batch[], nowMs: number) => Promise<EnqueueResult[]>;
  readonly #now: () => number;
  #waiting: Waiting[] = [];
  #busy = false;

  constructor(
    commit: (batches: readonly Batch[], nowMs: number) => Promise<EnqueueResult[]>,
    now: () => number = Date.now,
  ) {
    this.#commit = commit;
    this.#now = now;
  }

  /** @throws whatever the commit threw, for every batch that was in it */
  enqueue(batch: Batch): Promise<EnqueueResult> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, resolve, reject });
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
          group.map((waiting) => waiting.batch),
          this.#now(),
        );
        group.forEach((waiting, i) => {
          waiting.resolve(results[i] ?? 'lost');
        });
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
      }
    }
    this.#busy = false;
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    let n = 0;
    while (n < this.#waiting.length && n < COMMIT_MAX_BATCHES) {
      bytes += this.#waiting[n]!.batch.payload.byteLength;
      if (n > 0 && bytes > COMMIT_MAX_BYTES) break;
      n++;
    }
    return this.#waiting.splice(0, n);
  }
}
