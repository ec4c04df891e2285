import type { Config } from '@nrdot/config';
import type { ContentEncoding, Signal } from '@nrdot/otlp';
import {
  type BatchRef,
  bySignal,
  type HandOverJob,
  type InProcessHandOff,
  type JobData,
  type JobLock,
  MESSAGE_MAX,
  RetryLater,
  type Store,
  type TakenJob,
  Taker,
  type WakeSignal,
} from '@nrdot/queue';
import type { ExporterStatus } from '@nrdot/status';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { Bodies, type Request } from './bodies.ts';
import { ConcurrencyLimit } from './concurrency-limit.ts';
import { Destination } from './destination.ts';
import { type Outcome, verdictOf } from './outcome.ts';
import { apart, jobOf } from './pieces.ts';
import { retryDelayMs } from './retry.ts';
import type { Upstream } from './upstream.ts';

export type ExporterOptions = Pick<
  Config['exporter'],
  'minConcurrency' | 'concurrency' | 'inflightBytes' | 'compression' | 'retry'
> & {
  /** Maximum age by signal; older batches are dropped. No limit if absent. */
  maxAgeMs?: Partial<Record<Signal, number | undefined>>;
  /** Maximum size of a request after decompression, for splitting and recompressing. */
  maxBodyBytes: number;
  /** Maximum size of a request on the wire; if undefined, learned from the upstream. */
  maxRequestBytes?: number | undefined;
};

export interface ExporterDeps {
  store: Store;
  /** Notified when there may be batches to send. Set in a process that runs the whole pipeline. */
  wakeSignal?: WakeSignal | undefined;
  /** Source of batches that bypass the queue. */
  handOff?: InProcessHandOff | undefined;
  upstream: Upstream;
  log: Logger;
  metrics: Metrics;
  now(): number;
  /** Unix ms by the machine's clock, by which batches were received. Default: `now`. */
  wallNow?(): number;
  random(): number;
}

const FAULT_DELAY_MS = 1_000;
/** A larger request that has timed out twice is split, since the link may be too slow for it. */
const SLOW_MIN_BYTES = 64 * 1024;

/** A request's outcome, and how it was sent. */
interface Answered {
  outcome: Outcome;
  encoding: ContentEncoding;
  wireBytes: number;
}

/** A job whose request was answered. */
interface Attempt extends Answered {
  id: string;
  job: JobData;
  bodies: Buffer[];
  /** This one included. */
  attempts: number;
  lock: JobLock;
}

type Delivered = Extract<Outcome, { kind: 'delivered' }>;

interface FailedAttempt extends Attempt {
  outcome: Exclude<Outcome, Delivered>;
}

/**
 * After so many consecutive rejections the cause is neither a single item nor its size, and further splitting would send two
 * requests per item. Finding one bad item among a million takes 20 rejections.
 */
const REFUSED_IN_A_ROW_MAX = 64;

/** Takes jobs from the export queue, sends them, and settles, retries, splits or spills them by the outcome. */
export class Exporter {
  readonly #options: ExporterOptions;
  readonly #deps: ExporterDeps;
  readonly #taker: Taker;
  /** Per signal, so that one that fails or is slow does not limit the others. */
  readonly #limits: Record<Signal, ConcurrencyLimit>;
  readonly #destinations: Record<Signal, Destination>;
  #inflight = 0;
  readonly #inflightOf = bySignal(() => 0);
  readonly #sent = bySignal(() => ({ requests: 0, items: 0, bytes: 0 }));
  #lastProblem: ExporterStatus['lastProblem'];
  #inflightBytes = 0;
  #upstreamFailure: string | undefined;
  /** Consecutive refusals because of the data or its size, by signal. */
  readonly #refusedInARow = new Map<Signal, number>();
  readonly #bodies: Bodies;

  constructor(options: ExporterOptions, deps: ExporterDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#limits = bySignal(() => new ConcurrencyLimit(options.minConcurrency, options.concurrency));
    this.#destinations = bySignal(() => new Destination(options.maxRequestBytes));
    this.#bodies = new Bodies(options.maxBodyBytes, options.inflightBytes, () => this.#showInFlight());
    this.#taker = new Taker({
      store: deps.store,
      queue: 'export',
      concurrency: options.concurrency,
      maxBytes: options.inflightBytes,
      wakeSignal: deps.wakeSignal,
      faultDelayMs: FAULT_DELAY_MS,
      handle: (job) => this.#handle(job),
      onError: (error) => deps.log.warn({ err: error.message }, 'export queue'),
    });
    if (deps.handOff) deps.handOff.owner = this.#taker;
  }

  /** The lowest concurrency limit among the signals. */
  get concurrency(): number {
    return Math.min(...Object.values(this.#limits).map(({ current }) => current));
  }

  /** Requests in flight, totals sent, and the last failure. */
  get state(): Pick<ExporterStatus, 'inflight' | 'concurrency' | 'sent' | 'lastProblem'> {
    return {
      inflight: this.#inflight,
      concurrency: this.concurrency,
      sent: this.#sent,
      ...(this.#lastProblem ? { lastProblem: this.#lastProblem } : {}),
    };
  }

  /** How the last request failed; undefined if it did not. The upstream's message is in the log only. */
  get upstreamFailure(): string | undefined {
    return this.#upstreamFailure;
  }

  /** Stops taking jobs and waits for requests in flight. What is left in Redis is for other exporters or the next start. */
  async stop(timeoutMs: number): Promise<void> {
    await this.#taker.close(timeoutMs);
    await this.#bodies.stop();
    await this.#deps.upstream.close();
  }

  async #handle({ id, data: job, attempts, payloads, lock }: TakenJob): Promise<void> {
    const { metrics, now } = this.#deps;
    // A payload is missing if its batch was settled or handed over before a crash kept the job from completing.
    const there = job.batches.flatMap((batch, i) => {
      const payload = payloads[i];
      return payload ? [{ batch, payload }] : [];
    });
    const fresh = await this.#withoutTooOld(job, there);
    if (fresh.length === 0) return;
    const batches = fresh.map(({ batch }) => batch);
    const sent = jobOf(job, batches);
    const bodies = fresh.map(({ payload }) => payload);
    const bytes = bytesOf(bodies);
    this.#countInFlight(job.signal, 1, bytes);
    // One observation per request, of the batch in it that has waited longest.
    const oldest = batches.reduce((min, { receivedAt }) => Math.min(min, receivedAt), Infinity);
    metrics.exporterWaitSeconds.observe(
      { class: job.class, origin: job.origin },
      Math.max(0, now() - oldest) / 1000,
    );
    let answered: Answered | undefined;
    try {
      answered = await this.#send(sent, bodies);
    } finally {
      // The rest waits only for Redis, so another request may already be sent.
      this.#countInFlight(job.signal, -1, -bytes);
      this.#bodies.release(bodies);
    }
    try {
      if (answered) await this.#settle({ ...answered, id, job: sent, bodies, attempts: attempts + 1, lock });
    } finally {
      this.#bodies.release(bodies); // it may have been split
    }
  }

  /** Drops batches that are too old for the upstream and returns the others. */
  async #withoutTooOld<T extends { batch: BatchRef }>(job: JobData, all: T[]): Promise<T[]> {
    const maxAgeMs = this.#options.maxAgeMs?.[job.signal];
    if (maxAgeMs === undefined) return all;
    const { store, log, now, wallNow = now } = this.#deps;
    // A clock that was ahead when this process started, or is now, must not make new batches old.
    const since = Math.min(now(), wallNow()) - maxAgeMs;
    const old = all.filter(({ batch }) => batch.receivedAt < since).map(({ batch }) => batch);
    if (old.length === 0) return all;
    const items = await store.settle(jobOf(job, old), 'export', { outcome: 'dropped', reason: 'too_old' });
    log.warn({ signal: job.signal, items }, 'dropped: older than exporter.max_age');
    return all.filter(({ batch }) => batch.receivedAt >= since);
  }

  #countInFlight(signal: Signal, requests: number, bytes: number): void {
    this.#inflightOf[signal] += requests;
    this.#inflight += requests;
    this.#inflightBytes += bytes;
    this.#showInFlight();
  }

  #showInFlight(): void {
    const { metrics } = this.#deps;
    metrics.exporterInflight.set(this.#inflight);
    metrics.exporterInflightBytes.set(this.#inflightBytes + this.#bodies.inflatedBytes);
  }

  /** Sends batches as one request. @returns undefined if they were split instead, into jobs of their own */
  async #send(job: JobData, bodies: Buffer[]): Promise<Answered | undefined> {
    const { now } = this.#deps;
    const destination = this.#destinations[job.signal];
    const doubted: ContentEncoding[] = [];
    let wanted = destination.encodingFor(this.#wanted(job));
    // Terminates: each encoding is tried at most once, and a body that cannot be decoded is sent as it is.
    while (true) {
      const composed = this.#bodies.compose(job, bodies, wanted);
      const request = composed instanceof Promise ? await composed : composed;
      if (!request) {
        await this.#handOn(job, apart(job));
        return undefined;
      }
      const { body, encoding } = request;
      const maxBytes = destination.maxBytes(now());
      // What can't be split (a single item, profiles, what can't be decoded) is sent all the same: the upstream rejects it.
      const parts =
        body.byteLength > maxBytes
          ? await this.#bodies.divided(job, bodies, body.byteLength, maxBytes)
          : undefined;
      if (parts) {
        await this.#handOn(job, parts);
        return undefined;
      }
      const outcome = await this.#exchange(job, request);
      const other =
        encoding === wanted ? this.#otherEncoding(job.signal, encoding, outcome, doubted) : undefined;
      if (other === undefined || other === encoding) return { outcome, encoding, wireBytes: body.byteLength };
      wanted = other;
    }
  }

  async #exchange(job: JobData, { body, encoding }: Request): Promise<Outcome> {
    const { upstream, metrics } = this.#deps;
    const sent = this.#sent[job.signal];
    sent.requests += 1;
    sent.items += job.items;
    sent.bytes += body.byteLength;
    const sentAt = performance.now();
    const outcome = await upstream.send(job.signal, body, encoding);
    const tookMs = performance.now() - sentAt;
    metrics.exporterRequests.inc({ signal: job.signal, outcome: outcome.kind });
    metrics.exporterRequestSeconds.observe({ signal: job.signal }, tookMs / 1000);
    metrics.exporterSentBytes.inc({ signal: job.signal }, body.byteLength);
    this.#adapt(job.signal, outcome, tookMs);
    this.#upstreamFailure =
      outcome.kind === 'retry' || outcome.kind === 'hold'
        ? `the upstream: ${outcome.reason}${outcome.status ? ` (${outcome.status})` : ''}`
        : undefined;
    return outcome;
  }

  /**
   * Learns from an answer which encodings the upstream accepts.
   * @param doubted encodings in which this request got a 400, perhaps because the upstream can't decode them
   * @returns the encoding in which to send the request again
   */
  #otherEncoding(
    signal: Signal,
    encoding: ContentEncoding,
    outcome: Outcome,
    doubted: ContentEncoding[],
  ): ContentEncoding | undefined {
    const destination = this.#destinations[signal];
    const status = outcome.kind === 'rejected' || outcome.kind === 'hold' ? outcome.status : 0;
    if (status === 415 && encoding !== 'identity') {
      this.#refusedEncoding(signal, encoding);
      return destination.encodingFor(encoding);
    }
    if (status === 400) {
      const other = destination.doubts(encoding);
      if (other) doubted.push(encoding);
      return other;
    }
    if (outcome.kind === 'delivered') for (const each of doubted) this.#refusedEncoding(signal, each);
    return undefined;
  }

  #refusedEncoding(signal: Signal, encoding: ContentEncoding): void {
    const destination = this.#destinations[signal];
    destination.refuses(encoding);
    this.#deps.log.warn(
      { signal, encoding, instead: destination.encodingFor(encoding) },
      'the upstream does not accept this encoding; another is used from now on',
    );
  }

  #wanted(job: JobData): ContentEncoding {
    const { compression } = this.#options;
    if (compression === 'as-received') return job.encoding;
    return compression === 'none' ? 'identity' : compression;
  }

  #adapt(signal: Signal, outcome: Outcome, tookMs: number): void {
    const limit = this.#limits[signal];
    const before = limit.current;
    const crowded = this.#inflightOf[signal] >= before;
    const after = limit.observe(
      outcome.kind === 'retry' || outcome.kind === 'hold' ? 'overload' : 'ok',
      tookMs,
      crowded,
      this.#deps.now(),
    );
    if (after === before) return;
    this.#taker.setConcurrency(after, signal);
    this.#deps.metrics.exporterConcurrency.set(this.concurrency);
  }

  async #settle(attempt: Attempt): Promise<void> {
    const { job, outcome, encoding, wireBytes } = attempt;
    const destination = this.#destinations[job.signal];
    if (outcome.kind === 'delivered') {
      destination.took(encoding, wireBytes);
      return this.#deliver(attempt, outcome);
    }
    if (outcome.kind === 'too-large') destination.tooLarge(wireBytes, this.#deps.now());
    this.#lastProblem = {
      at: this.#deps.now(),
      reason: outcome.kind === 'too-large' ? 'too_large' : outcome.reason,
      message: outcome.message.slice(0, MESSAGE_MAX),
    };
    const failed = { ...attempt, outcome };
    await Promise.all([this.#report(failed), this.#act(failed)]);
  }

  /** Settles the batches, completes their job and reports the success to the breaker, in one step. */
  async #deliver({ id, job, lock }: Attempt, outcome: Delivered): Promise<void> {
    const { store, metrics, log, now } = this.#deps;
    this.#refusedInARow.delete(job.signal);
    const deliveredAt = now();
    const settled = await store.settle(
      job,
      'export',
      { outcome: 'delivered', refusedItems: outcome.refusedItems },
      lock,
    );
    if (settled === 0) {
      metrics.duplicateHandOvers.inc();
      return;
    }
    const refusedItems = Math.min(outcome.refusedItems, settled);
    metrics.exporterDeliveredItems.inc({ signal: job.signal, class: job.class }, settled - refusedItems);
    if (refusedItems > 0) {
      metrics.exporterRejectedItems.inc({ signal: job.signal, reason: 'partial_success' }, refusedItems);
      log.warn(
        { job: id, items: refusedItems, said: outcome.message },
        'the upstream rejected part of a request; a partial success is not retried',
      );
    }
    const endToEnd = metrics.pipelineEndToEndSeconds.labels({
      signal: job.signal,
      class: job.class,
      origin: job.origin,
    });
    for (const { receivedAt } of job.batches) endToEnd.observe((deliveredAt - receivedAt) / 1000);
  }

  /** Reports to the breaker. While Redis is away the call waits; any other error is only logged, as the batch does not depend on it. */
  async #report({ job, outcome, attempts, lock }: FailedAttempt): Promise<void> {
    const { store, log } = this.#deps;
    const askedMs = 'retryAfterMs' in outcome ? (outcome.retryAfterMs ?? 0) : 0;
    const retryAfterMs = Math.min(askedMs, this.#options.retry.maxRetryAfterMs);
    const why = { said: outcome.message, epoch: lock.epoch };
    try {
      // A batch that came back from the spill queue had attempts before that. Those of a replay are the dlq's to judge.
      const before = job.origin === 'live' ? (job.attempts ?? 0) : 0;
      await store.report(job.signal, verdictOf(outcome, before + attempts), retryAfterMs, why);
    } catch (error) {
      log.debug({ err: (error as Error).message }, 'could not report an answer to the breaker');
    }
  }

  async #act(attempt: FailedAttempt): Promise<void> {
    const { id, job, bodies, attempts, outcome, wireBytes } = attempt;
    const { metrics, log, random } = this.#deps;
    const { retry } = this.#options;
    switch (outcome.kind) {
      case 'hold':
      case 'retry': {
        metrics.exporterRetries.inc({ signal: job.signal, reason: outcome.reason });
        if (outcome.reason === 'timeout' && attempts > 1 && wireBytes > SLOW_MIN_BYTES) {
          const parts = await this.#bodies.divided(job, bodies, wireBytes, wireBytes / 2);
          if (parts) return this.#handOn(job, parts);
        }
        if (attempts >= retry.maxAttempts) {
          await this.#spill(attempt, 'retries_exhausted');
          return;
        }
        const delayMs = retryDelayMs(retry, attempts, outcome.retryAfterMs, random());
        const { reason, message: said } = outcome;
        log.debug({ job: id, attempts, delayMs, reason, said }, 'will retry');
        throw new RetryLater(delayMs, `${reason}: ${said}`);
      }
      case 'too-large':
      case 'rejected': {
        const pieces = await this.#smaller(attempt, outcome.kind);
        if (pieces) return this.#handOn(job, pieces);
        return this.#reject(attempt, outcome.kind === 'too-large' ? 'too_large' : outcome.reason);
      }
    }
  }

  /** Replaces a job by others. */
  async #handOn(job: JobData, jobs: HandOverJob[]): Promise<void> {
    await this.#deps.store.handOver(job, jobs, 'next', this.#deps.now());
  }

  /**
   * Splits a request that was rejected for its data, so that one bad item does not affect the others.
   * @returns undefined if it can't be split, or after `REFUSED_IN_A_ROW_MAX` refusals in a row
   */
  async #smaller(
    { job, bodies, wireBytes }: FailedAttempt,
    kind: 'too-large' | 'rejected',
  ): Promise<HandOverJob[] | undefined> {
    const inARow = (this.#refusedInARow.get(job.signal) ?? 0) + 1;
    this.#refusedInARow.set(job.signal, inARow);
    if (kind === 'too-large') {
      if (inARow > REFUSED_IN_A_ROW_MAX && job.batches.length === 1) return undefined;
      const limit = this.#destinations[job.signal].maxBytes(this.#deps.now());
      return this.#bodies.divided(job, bodies, wireBytes, Math.min(limit, wireBytes / 2));
    }
    if (job.batches.length > 1) return apart(job);
    if (inARow > REFUSED_IN_A_ROW_MAX || job.signal === 'profiles') return undefined;
    return this.#bodies.halved(job, bodies);
  }

  async #reject(attempt: FailedAttempt, reason: string): Promise<void> {
    const { id, job, outcome } = attempt;
    if (!(await this.#spill(attempt, `rejected:${reason}`))) return; // another exporter was faster
    this.#deps.metrics.exporterRejectedItems.inc({ signal: job.signal, reason }, job.items);
    this.#deps.log.warn(
      { job: id, items: job.items, status: outcome.status, said: outcome.message },
      'the upstream rejected a batch; it goes to the rejected area of the dlq',
    );
  }

  /** @returns false if the batch had already been handed over or settled */
  async #spill({ id, job, attempts, outcome }: FailedAttempt, reason: string): Promise<boolean> {
    const { message, status } = outcome;
    const { store, now, log } = this.#deps;
    if (job.origin === 'replay' && !reason.startsWith('rejected:')) {
      // It is on the dlq's disk already.
      const settlement = { outcome: 'returned', failed: { attempts, message } } as const;
      return (await store.settle(job, 'export', settlement)) > 0;
    }
    const jobs: HandOverJob[] = apart(job, 's').map((piece) => ({
      ...piece,
      queue: 'spill',
      data: {
        ...piece.data,
        reason,
        attempts: attempts + (job.attempts ?? 0),
        message,
        ...(status === undefined ? {} : { status }),
      },
    }));
    const made = await store.handOver(job, jobs, 'last', now());
    log.debug({ job: id, reason, items: job.items }, 'handed to the dlq');
    return made > 0;
  }
}

function bytesOf(bodies: readonly Buffer[]): number {
  return bodies.reduce((sum, body) => sum + body.byteLength, 0);
}
