import type { Config } from '@nrdot/config';
import {
  asOneStream,
  type ContentEncoding,
  encodeContent,
  Inflation,
  OtlpError,
  type Signal,
} from '@nrdot/otlp';
import {
  type BatchRef,
  foldKey,
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
import { ConcurrencyLimit } from './concurrency-limit.ts';
import { Destination } from './destination.ts';
import { Divider, type Part } from './divider.ts';
import { type Outcome, verdictOf } from './outcome.ts';
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
/** Maximum number of parts per split; parts that are still too large are split again in their turn. */
const MAX_PARTS = 128;
/** Target size of a part, as a share of the limit: parts compress a little worse than the whole. */
const PART_FILL = 0.9;
/** A larger request that has timed out twice is split, since the link may be too slow for it. */
const SLOW_MIN_BYTES = 64 * 1024;

/** A request as sent. */
interface Request {
  body: Buffer;
  encoding: ContentEncoding;
}

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
 * After so many rejections without a success, single items are not the cause, nor is their size, and splitting on would send
 * two requests per item. To find one bad item among a million takes 20 rejections.
 */
const REFUSED_IN_A_ROW_MAX = 64;

/** Takes jobs from the export queue, sends them, and settles, retries, splits or spills them by the outcome. */
export class Exporter {
  readonly #options: ExporterOptions;
  readonly #deps: ExporterDeps;
  readonly #taker: Taker;
  /** Per signal, so that one that fails or is slow does not limit the others. */
  readonly #limits: Record<Signal, ConcurrencyLimit>;
  readonly #destinations = new Map<Signal, Destination>();
  #inflight = 0;
  readonly #inflightOf: Record<Signal, number> = { traces: 0, metrics: 0, logs: 0, profiles: 0 };
  readonly #sent: NonNullable<ExporterStatus['sent']>;
  #lastProblem: ExporterStatus['lastProblem'];
  #inflightBytes = 0;
  #upstreamFailure: string | undefined;
  /** Consecutive refusals because of the data or its size, by signal. */
  readonly #refusedInARow = new Map<Signal, number>();
  readonly #divider = new Divider();
  readonly #inflation: Inflation;
  readonly #bodyLimit: { maxBytes: number };

  constructor(options: ExporterOptions, deps: ExporterDeps) {
    this.#options = options;
    this.#deps = deps;
    const nothing = () => ({ requests: 0, items: 0, bytes: 0 });
    this.#sent = { traces: nothing(), metrics: nothing(), logs: nothing(), profiles: nothing() };
    const limit = () => new ConcurrencyLimit(options.minConcurrency, options.concurrency);
    this.#limits = { traces: limit(), metrics: limit(), logs: limit(), profiles: limit() };
    this.#bodyLimit = { maxBytes: options.maxBodyBytes };
    this.#inflation = new Inflation(options.inflightBytes, () => this.#showInFlight());
    this.#taker = new Taker({
      store: deps.store,
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
    await this.#divider.stop();
    await this.#deps.upstream.close();
  }

  async #handle({ id, data: job, attempts, payloads, lock }: TakenJob): Promise<void> {
    const { metrics, now } = this.#deps;
    // A payload is missing if its batch was settled or handed over before a crash kept the job from completing.
    const there: { batch: BatchRef; payload: Buffer }[] = [];
    job.batches.forEach((batch, i) => {
      const payload = payloads[i];
      if (payload) there.push({ batch, payload });
    });
    const fresh = await this.#withoutTooOld(job, there);
    if (fresh.length === 0) return;
    const batches = fresh.map(({ batch }) => batch);
    const sent = jobOf(job, batches);
    const bodies = fresh.map(({ payload }) => payload);
    const bytes = bytesOf(bodies);
    this.#countInFlight(job.signal, 1, bytes);
    // One observation per request: that of the batch in it that has waited longest.
    const oldest = fresh.reduce(
      (min, { batch }) => Math.min(min, batch.receivedAt),
      Number.POSITIVE_INFINITY,
    );
    metrics.exporterWaitSeconds.observe(
      { class: job.class, origin: job.origin },
      Math.max(0, now() - oldest) / 1000,
    );
    let answered: Answered | undefined;
    try {
      answered = await this.#send(sent, bodies);
    } finally {
      // From here on only Redis is waited for, so the upstream has room for another request.
      this.#countInFlight(job.signal, -1, -bytes);
      this.#inflation.release(bodies);
    }
    try {
      if (answered) await this.#settle({ ...answered, id, job: sent, bodies, attempts: attempts + 1, lock });
    } finally {
      this.#inflation.release(bodies); // it may have been split
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
    metrics.exporterInflightBytes.set(this.#inflightBytes + this.#inflation.usedBytes);
  }

  /** Sends batches as one request. @returns undefined if they were split instead, into jobs of their own */
  async #send(job: JobData, bodies: Buffer[]): Promise<Answered | undefined> {
    const { now } = this.#deps;
    const destination = this.#destinationOf(job.signal);
    const doubted: ContentEncoding[] = [];
    let wanted = destination.encodingFor(this.#wanted(job));
    // Terminates, since each encoding is tried at most once.
    while (true) {
      const composed = this.#compose(job, bodies, wanted);
      const request = composed instanceof Promise ? await composed : composed;
      if (!request) {
        await this.#handOn(job, apart(job));
        return undefined;
      }
      const { body, encoding } = request;
      const maxBytes = destination.maxBytes(now());
      // What can't be split (a single item, profiles, what can't be decoded) is sent all the same: the upstream rejects it.
      const parts =
        body.byteLength > maxBytes ? await this.#divided(job, bodies, body.byteLength, maxBytes) : undefined;
      if (parts) {
        await this.#handOn(job, parts);
        return undefined;
      }
      const outcome = await this.#exchange(job, request);
      const other = this.#otherEncoding(job.signal, encoding, outcome, doubted);
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
    const destination = this.#destinationOf(signal);
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
    const destination = this.#destinationOf(signal);
    destination.refuses(encoding);
    this.#deps.log.warn(
      { signal, encoding, instead: destination.encodingFor(encoding) },
      'the upstream does not accept this encoding; another is used from now on',
    );
  }

  #destinationOf(signal: Signal): Destination {
    let destination = this.#destinations.get(signal);
    if (!destination) {
      destination = new Destination(this.#options.maxRequestBytes);
      this.#destinations.set(signal, destination);
    }
    return destination;
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

  /**
   * One body for all batches: the received bytes, unless another encoding is needed.
   * @returns undefined if they cannot be one request
   */
  #compose(
    job: JobData,
    bodies: Buffer[],
    encoding: ContentEncoding,
  ): Request | undefined | Promise<Request | undefined> {
    // Profiles refer to a dictionary in their own request.
    if (bodies.length > 1 && job.signal === 'profiles') return undefined;
    const body =
      encoding === job.encoding
        ? asOneStream(bodies, encoding, this.#bodyLimit)
        : this.#recoded(job, bodies, encoding);
    if (!(body instanceof Promise)) return { body, encoding };
    return body.then(
      (made) => ({ body: made, encoding }),
      (error) => {
        if (!(error instanceof OtlpError)) throw error;
        // Too large together, or damaged: send each by itself, as received.
        return bodies.length > 1 ? undefined : { body: bodies[0]!, encoding: job.encoding };
      },
    );
  }

  async #recoded(job: JobData, bodies: Buffer[], encoding: ContentEncoding): Promise<Buffer> {
    const plain = await this.#inflation.decode(bodies, job.encoding, this.#bodyLimit);
    return encodeContent(plain, encoding);
  }

  async #settle(attempt: Attempt): Promise<void> {
    const { job, outcome, encoding, wireBytes } = attempt;
    const destination = this.#destinationOf(job.signal);
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
      await store.report(job.signal, verdictOf(outcome, attempts), retryAfterMs, why);
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
          const parts = await this.#divided(job, bodies, wireBytes, wireBytes / 2);
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
      const limit = this.#destinationOf(job.signal).maxBytes(this.#deps.now());
      return this.#divided(job, bodies, wireBytes, Math.min(limit, wireBytes / 2));
    }
    if (job.batches.length > 1) return apart(job);
    if (inARow > REFUSED_IN_A_ROW_MAX || job.signal === 'profiles') return undefined;
    const plain = await this.#plainOf(job, bodies);
    const halves = plain ? await this.#divide(job, plain) : [];
    return halves.length < 2 ? undefined : partsOf(job, halves, ['a', 'b']);
  }

  async #reject(attempt: FailedAttempt, reason: string): Promise<void> {
    const { id, job, outcome } = attempt;
    if (!(await this.#spill(attempt, `rejected:${reason}`))) return; // somebody else did
    this.#deps.metrics.exporterRejectedItems.inc({ signal: job.signal, reason }, job.items);
    this.#deps.log.warn(
      { job: id, items: job.items, status: outcome.status, said: outcome.message },
      'the upstream rejected a batch; it goes to the rejected area of the dlq',
    );
  }

  /** @returns whether the batch was still there to be handed over */
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
      data: { ...piece.data, reason, attempts, message, ...(status === undefined ? {} : { status }) },
    }));
    const made = await store.handOver(job, jobs, 'last', now());
    log.debug({ job: id, reason, items: job.items }, 'handed to the dlq');
    return made > 0;
  }

  /**
   * Jobs of up to `maxBytes` per request on the wire, all created in one step: groups of batches of a merged job, or parts of a
   * single batch.
   * @param wireBytes size of all batches together
   * @returns undefined if there is nothing to split
   */
  async #divided(
    job: JobData,
    bodies: Buffer[],
    wireBytes: number,
    maxBytes: number,
  ): Promise<HandOverJob[] | undefined> {
    const share = maxBytes / wireBytes;
    if (job.batches.length > 1) return grouped(job, job.bytes * share);
    if (job.signal === 'profiles') return undefined;
    const plain = await this.#plainOf(job, bodies);
    if (!plain) return undefined;
    const target = Math.ceil(plain.byteLength * Math.max(share * PART_FILL, 1 / MAX_PARTS));
    const parts = await this.#divide(job, plain, target);
    if (parts.length < 2) return undefined;
    // The name contains the target size: a split that is repeated after a crash has the same name only if it has the same
    // parts.
    const names = parts.map((_, i) => `${target.toString(36)}c${i.toString(36)}`);
    return partsOf(job, parts, names);
  }

  #divide({ signal, encoding }: JobData, plain: Buffer, maxBytes?: number): Promise<Part[]> {
    return this.#divider.divide({ signal, plain, encoding, maxBytes });
  }

  async #plainOf(job: JobData, bodies: Buffer[]): Promise<Buffer | undefined> {
    try {
      return await this.#inflation.decode(bodies, job.encoding, this.#bodyLimit);
    } catch (error) {
      if (error instanceof OtlpError) return undefined;
      throw error;
    }
  }
}

/** Jobs for the parts of a job's only batch. */
function partsOf(job: JobData, parts: readonly Part[], names: readonly string[]): HandOverJob[] {
  const [batch] = job.batches;
  return parts.map(({ bytes, items }, i) => {
    const key = nextKey(batch!.key, names[i]!);
    return {
      queue: 'export' as const,
      data: pieceOf(job, [{ key, items, bytes: bytes.byteLength, receivedAt: batch!.receivedAt }]),
      payloads: [{ key, bytes }],
    };
  });
}

/** One job per batch. `suffix` is added to the keys, so that whoever has the old keys finds nothing. */
function apart(job: JobData, suffix = 'm'): HandOverJob[] {
  return grouped(job, 0, suffix);
}

/** Jobs of as many batches as fit into `maxBytes`, at least one each. */
function grouped(job: JobData, maxBytes: number, suffix = 'm'): HandOverJob[] {
  const groups: BatchRef[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const batch of job.batches) {
    if (bytes + batch.bytes > maxBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(batch);
    bytes += batch.bytes;
  }
  return groups.map((batches) => {
    const renamed = batches.map((batch) => ({ ...batch, key: nextKey(batch.key, suffix) }));
    return {
      queue: 'export' as const,
      data: pieceOf(job, renamed),
      payloads: renamed.map(({ key }, i) => ({ key, old: batches[i]!.key })),
    };
  });
}

/** The same job with some of its batches. */
function jobOf(job: JobData, batches: BatchRef[]): JobData {
  const sum = (unit: 'items' | 'bytes') => batches.reduce((all, batch) => all + batch[unit], 0);
  return { ...job, batches, items: sum('items'), bytes: sum('bytes') };
}

/** After a hand-over the batch belongs to Redis, whatever its origin. */
function pieceOf(job: JobData, batches: BatchRef[]): JobData {
  return { ...jobOf(job, batches), origin: 'live' };
}

function bytesOf(bodies: readonly Buffer[]): number {
  return bodies.reduce((sum, body) => sum + body.byteLength, 0);
}

function nextKey(key: string, suffix: string): string {
  return foldKey(key.includes('-') ? key + suffix : `${key}-${suffix}`);
}
