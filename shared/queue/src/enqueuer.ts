import type { Batch } from './batch.ts';
import type { ClaimAnswer } from './limiter-state.ts';
import type { EnqueueResult, Group, GroupResult } from './steps.ts';

const COMMIT_MAX_REQUESTS = 256;
const COMMIT_MAX_BYTES = 16 * 1024 * 1024;
/** Requests are prepared one after the other without a pause: so long at most, then what there is goes. */
const PREPARE_MAX_MS = 10;
/** How often a request whose claim was refused is prepared again. Each time another receiver has made progress. */
const TRIES = 10;

type Commit = (groups: readonly Group[], nowMs: number) => Promise<GroupResult[]>;

/**
 * The state that prepared requests share: here, the limiter. What a request changes there is open until its step is heard of.
 */
export interface SharedState {
  /** Makes the oldest open request final. */
  keep(answer: ClaimAnswer | undefined): void;
  /** Takes back all that is open. */
  undo(): void;
  /** Takes back the request that was prepared last. */
  undoLast(): void;
  /** Hears why a claim was refused, so that the request can be prepared again. */
  learn(answer: ClaimAnswer): Promise<void>;
  /** A step may have happened or not: what was open and is undone may be true all the same. */
  lost(): void;
  /** To be called before requests are prepared: catches up with what `lost` and others left. Never rejects. */
  catchUp(): Promise<void>;
}

/** A request in which something is decided only when its turn has come. */
export interface Preparation {
  /**
   * Decides. Called at once when nothing is under way, and again when what it relied on has changed.
   * @throws what the request is refused with
   */
  prepare(): Group | Promise<Group>;
}

interface Waiting {
  request: Preparation | readonly Batch[];
  tries: number;
  timer: NodeJS.Timeout | undefined;
  /** Its time was up, and its client has been told. */
  isOver: boolean;
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

/** Other receivers changed what a request relied on, again and again: nothing of it was kept. */
export class Contended extends Error {
  constructor() {
    super(`other receivers changed what the limiter relied on, ${TRIES} times in a row`);
    this.name = 'Contended';
  }
}

/**
 * Group commit. A request that arrives while no commit is in flight goes at once; those that arrive while one is
 * in flight share the next. No timer, no latency when idle, few round trips when busy. What waits here is bounded
 * by the receiver's limit on bytes in flight. One commit at a time, so what one decided upon the other is settled.
 */
export class Enqueuer {
  readonly #commit: Commit;
  readonly #now: () => number;
  readonly #limitMs: number;
  readonly #state: SharedState | undefined;
  #waiting: Waiting[] = [];
  #busy = false;

  /** @param limitMs how long a request may take, what it waits for commits before it included */
  constructor(
    commit: Commit,
    now: () => number = Date.now,
    limitMs = Number.POSITIVE_INFINITY,
    state?: SharedState,
  ) {
    this.#commit = commit;
    this.#now = now;
    this.#limitMs = limitMs;
    this.#state = state;
  }

  /** A request that comes now waits for another. */
  get busy(): boolean {
    return this.#busy;
  }

  /**
   * Commits the batches of one request together.
   * @returns none when the request had nothing to be kept
   * @throws whatever the commit threw, for every request that was in it; Contended; what `prepare` throws; NotSent when its time
   *   was up before its turn came, and Error when its commit had begun
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

  /** Resolves when nothing waits and nothing is in flight. */
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

  /** Takes requests off the queue, prepared, until a commit is full. */
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
          // At once, unless it is too large for that: what others wait for must not wait for a turn of the event loop.
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
          // So nothing has happened.
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
      answers = await this.#commit(
        commit.map(({ group }) => group),
        this.#now(),
      );
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
            // One that stands behind another has not been looked at: that is no try of its own.
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

  /** Takes it off the queue, if its time was not up meanwhile. */
  #take(waiting: Waiting): void {
    const at = this.#waiting.indexOf(waiting);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  #end(waiting: Waiting, say: () => void): void {
    clearTimeout(waiting.timer);
    say();
  }

  #giveUp(waiting: Waiting): void {
    const at = this.#waiting.indexOf(waiting);
    const reason = `Redis did not answer within ${this.#limitMs / 1000} s`;
    if (at >= 0) this.#waiting.splice(at, 1);
    waiting.isOver = true;
    waiting.reject(at >= 0 ? new NotSent(reason) : new Error(reason));
  }
}

/** Whether something has to be kept of a request without batches, or another receiver may know better than what was decided about it. */
function needsStep({ claim }: Group): boolean {
  if (!claim) return false;
  const { hasRefused, sources, held } = claim.claim;
  return hasRefused || sources.length > 0 || held.length > 0;
}
