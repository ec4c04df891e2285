import type { ClaimAnswer } from '@nrdot/key-budget';
import type { Batch } from './batch.ts';
import type { EnqueueResult, Group, GroupResult } from './steps.ts';

const COMMIT_MAX_REQUESTS = 256;
const COMMIT_MAX_BYTES = 16 * 1024 * 1024;
/** Maximum time for preparing requests without a pause; then those that are ready are committed. */
const PREPARE_MAX_MS = 10;
/** How often a request is prepared after refused claims. Each refusal means that another receiver has made progress. */
const TRIES = 10;

type Commit = (groups: readonly Group[]) => Promise<GroupResult[]>;

/**
 * State that prepared requests share and change: the limiter's. A request's changes stay revocable until its commit is
 * answered.
 */
export interface SharedState {
  /** Makes the changes of the oldest open request final. */
  keep(answer: ClaimAnswer | undefined): void;
  /** Reverts the changes of all open requests. */
  undo(): void;
  /** Reverts the changes of the request that was prepared last. */
  undoLast(): void;
  /** Applies what the refusal of a claim tells, so that the request can be prepared again. */
  learn(answer: ClaimAnswer): Promise<void>;
  /** Called when a commit may or may not have happened: reverted changes may be in Redis all the same. */
  lost(): void;
  /** To be called before requests are prepared: synchronises with Redis after `lost`. Never rejects. */
  catchUp(): Promise<void>;
}

/** A request whose batches are decided on only when its turn has come. */
export interface Preparation {
  /**
   * Called at once if nothing is in flight, and again if another receiver changed the state that the first result relied on.
   * @throws the error that rejects the request
   */
  prepare(): Group | Promise<Group>;
}

interface Waiting {
  request: Preparation | readonly Batch[];
  tries: number;
  timer: NodeJS.Timeout | undefined;
  /** It timed out, and its client has been answered. */
  isOver: boolean;
  resolve(results: EnqueueResult[]): void;
  reject(error: unknown): void;
}

/** A commit that did not reach Redis: nothing of it was kept. After any other error it may have been. */
export class NotSent extends Error {
  override readonly name = 'NotSent';
}

/** Other receivers changed the shared state in every attempt: nothing of the request was kept. */
export class Contended extends Error {
  constructor() {
    super(`other receivers changed the state that the limiter relied on, ${TRIES} times in a row`);
    this.name = 'Contended';
  }
}

/**
 * Group commit: a request that arrives while no commit is in flight is committed at once; those that arrive meanwhile share the
 * next commit. No timer, no latency when idle, few round trips under load. The queue is bounded by the receiver's limit on
 * bytes in flight. With one commit at a time, the next request sees the result of the one before.
 */
export class Enqueuer {
  readonly #commit: Commit;
  readonly #limitMs: number;
  readonly #state: SharedState | undefined;
  #waiting: Waiting[] = [];
  #busy = false;

  /** @param limitMs time limit of a request, which includes waiting for earlier commits */
  constructor(commit: Commit, limitMs = Number.POSITIVE_INFINITY, state?: SharedState) {
    this.#commit = commit;
    this.#limitMs = limitMs;
    this.#state = state;
  }

  /** Whether a request that came now would have to wait. */
  get busy(): boolean {
    return this.#busy;
  }

  /**
   * Commits the batches of one request together.
   * @returns no results if the request had nothing to commit
   * @throws the error of the commit, for every request in it; Contended; the error of `prepare`; NotSent after a timeout before
   *   the request's turn, Error after a timeout during its commit
   */
  enqueue(request: Preparation | readonly Batch[]): Promise<EnqueueResult[]> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { request, tries: 0, timer: undefined, isOver: false, resolve, reject };
      if (Number.isFinite(this.#limitMs))
        waiting.timer = setTimeout(() => this.#giveUp(waiting), this.#limitMs);
      this.#waiting.push(waiting);
      if (!this.#busy) void this.#run();
    });
  }

  /** Resolves when the queue is empty and nothing is in flight. */
  async idle(): Promise<void> {
    while (this.#busy) await new Promise((resolve) => setImmediate(resolve));
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.length > 0) {
      const commit = await this.#prepareNext();
      if (commit.length > 0) await this.#send(commit);
      await this.#state?.catchUp();
    }
    this.#busy = false;
  }

  async #prepareNext(): Promise<{ waiting: Waiting; group: Group }[]> {
    const commit: { waiting: Waiting; group: Group }[] = [];
    const startedAt = performance.now();
    let bytes = 0;
    while (this.#waiting.length > 0 && commit.length < COMMIT_MAX_REQUESTS) {
      const waiting = this.#waiting[0]!;
      const { request } = waiting;
      let group: Group;
      if ('prepare' in request) {
        if (commit.length > 0 && performance.now() - startedAt > PREPARE_MAX_MS) break;
        try {
          // Not awaited unless it is a promise: an extra turn of the event loop would delay everybody behind it.
          const prepared = request.prepare();
          group = prepared instanceof Promise ? await prepared : prepared;
        } catch (error) {
          this.#take(waiting);
          this.#end(waiting, () => waiting.reject(error));
          continue;
        }
        if (waiting.isOver) {
          if (group.claim) this.#state?.undoLast();
          continue;
        }
        if (group.batches.length === 0 && !needsStep(group)) {
          this.#state?.undoLast();
          this.#take(waiting);
          this.#end(waiting, () => waiting.resolve([]));
          continue;
        }
      } else group = { batches: request };
      for (const { payload } of group.batches) bytes += payload.byteLength;
      if (commit.length > 0 && bytes > COMMIT_MAX_BYTES) {
        if (group.claim) this.#state?.undoLast();
        break;
      }
      this.#take(waiting);
      commit.push({ waiting, group });
    }
    return commit;
  }

  async #send(commit: readonly { waiting: Waiting; group: Group }[]): Promise<void> {
    let answers: GroupResult[];
    try {
      answers = await this.#commit(commit.map(({ group }) => group));
    } catch (error) {
      if (commit.some(({ group }) => group.claim)) {
        this.#state?.undo();
        if (!(error instanceof NotSent)) this.#state?.lost();
      }
      for (const { waiting } of commit) this.#end(waiting, () => waiting.reject(error));
      return;
    }
    const again: Waiting[] = [];
    let refused = false;
    for (const [i, { waiting, group }] of commit.entries()) {
      const { results, answer } = answers[i] ?? { results: group.batches.map((): EnqueueResult => 'lost') };
      if (group.claim) {
        if (!refused && answer?.kind === 'kept') this.#state?.keep(answer);
        else {
          if (!refused) this.#state?.undo();
          refused = true;
          if (results.every((result) => result === 'again')) {
            if (answer && answer.kind !== 'later') await this.#state?.learn(answer);
            // A claim behind a refused one was not evaluated: that does not count as an attempt.
            if (answer?.kind !== 'later' && ++waiting.tries >= TRIES)
              this.#end(waiting, () => waiting.reject(new Contended()));
            else if (!waiting.isOver) again.push(waiting);
            continue;
          }
        }
      }
      this.#end(waiting, () => waiting.resolve(results));
    }
    this.#waiting.unshift(...again);
  }

  /** Takes a request off the queue. @returns false if it was not there any more */
  #take(waiting: Waiting): boolean {
    const at = this.#waiting.indexOf(waiting);
    if (at >= 0) this.#waiting.splice(at, 1);
    return at >= 0;
  }

  #end(waiting: Waiting, say: () => void): void {
    clearTimeout(waiting.timer);
    say();
  }

  #giveUp(waiting: Waiting): void {
    const reason = `Redis did not answer within ${this.#limitMs / 1000} s`;
    waiting.isOver = true;
    waiting.reject(this.#take(waiting) ? new NotSent(reason) : new Error(reason));
  }
}

/** Whether a group without batches has changes to store, or a decision that another receiver may contradict. */
function needsStep({ claim }: Group): boolean {
  if (!claim) return false;
  const { hasRefused, sources, held } = claim.claim;
  return hasRefused || sources.length > 0 || held.length > 0;
}
