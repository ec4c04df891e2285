import { type ContentEncoding, decodeContent, encodeContent, splitRequest, walk } from '@nrdot/otlp';
import {
  type BatchRef,
  type Bell,
  type DirectLane,
  type ExporterStatus,
  type HandOverJob,
  type Held,
  type JobData,
  MESSAGE_MAX,
  RetryLater,
  type Store,
  type TakenJob,
  Taker,
} from '@nrdot/queue';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { ConcurrencyLimit } from './concurrency-limit.ts';
import { type Outcome, verdictOf } from './outcome.ts';
import { type RetryPolicy, retryDelayMs } from './retry.ts';
import type { Upstream } from './upstream.ts';

export interface ExporterOptions {
  /** Requests at once: the limit adapts between these. */
  minConcurrency: number;
  maxConcurrency: number;
  /** Payload bytes in memory at once, all requests together. */
  maxInflightBytes: number;
  /** What leaves compressed: as it came, or all of it. */
  compression: 'as-received' | 'none' | 'gzip' | 'zstd';
  retry: RetryPolicy;
  /** Largest request after decompression, for splitting and recompressing. */
  maxBodyBytes: number;
}

export interface ExporterDeps {
  store: Store;
  /** Rung when there may be something to send, in a process that runs the whole pipeline. */
  bell?: Bell | undefined;
  /** By which batches come that need not wait. */
  lane?: DirectLane | undefined;
  upstream: Upstream;
  log: Logger;
  metrics: Metrics;
  now(): number;
  random(): number;
}

const FAULT_DELAY_MS = 1_000;

type Delivered = Extract<Outcome, { kind: 'delivered' }>;

/** Takes jobs from the export queue, sends them, and settles, retries, splits or hands over what became of them. */
export class Exporter {
  readonly #options: ExporterOptions;
  readonly #deps: ExporterDeps;
  readonly #taker: Taker;
  readonly #limit: ConcurrencyLimit;
  #inflight = 0;
  #lastProblem: ExporterStatus['lastProblem'];
  #inflightBytes = 0;
  #trouble: string | undefined;

  constructor(options: ExporterOptions, deps: ExporterDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#limit = new ConcurrencyLimit(options.minConcurrency, options.maxConcurrency);
    this.#taker = new Taker({
      store: deps.store,
      concurrency: this.#limit.current,
      maxBytes: options.maxInflightBytes,
      bell: deps.bell,
      faultDelayMs: FAULT_DELAY_MS,
      handle: (job) => this.#handle(job),
      onError: (error) => deps.log.warn({ err: error.message }, 'export queue'),
    });
    deps.lane?.open(this.#taker);
  }

  /** Requests that may be under way now. */
  get concurrency(): number {
    return this.#limit.current;
  }

  /** Requests under way, and the last answer that was not a success. */
  get state(): Pick<ExporterStatus, 'inflight' | 'concurrency' | 'lastProblem'> {
    return {
      inflight: this.#inflight,
      concurrency: this.concurrency,
      ...(this.#lastProblem ? { lastProblem: this.#lastProblem } : {}),
    };
  }

  /** How the last request went wrong at the upstream; undefined when it did not. What the upstream said is in the log. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Stops taking jobs and waits for requests under way; what is left in Redis is another exporter's, or the next start's. */
  async stop(timeoutMs: number): Promise<void> {
    await this.#taker.close(timeoutMs);
    await this.#deps.upstream.close();
  }

  async #handle({ id, data: job, attempts, payloads, held: hold }: TakenJob): Promise<void> {
    const { metrics, now } = this.#deps;
    // Missing: settled or handed over before a crash kept the job from being completed.
    const held = job.batches.flatMap((batch, i) => {
      const payload = payloads[i];
      return payload ? [{ batch, payload }] : [];
    });
    if (held.length === 0) return;
    const sent = { ...job, batches: held.map(({ batch }) => batch) };
    const bodies = held.map(({ payload }) => payload);
    const bytes = bytesOf(bodies);
    this.#underWay(1, bytes);
    // One observation a request: of what was merged into it, that which has waited longest.
    const oldest = held.reduce((min, { batch }) => Math.min(min, batch.receivedAt), Number.POSITIVE_INFINITY);
    metrics.exporterWaitSeconds.observe(
      { class: job.class, origin: job.origin },
      Math.max(0, now() - oldest) / 1000,
    );
    let outcome: Outcome;
    try {
      outcome = await this.#send(job, bodies);
    } finally {
      // What comes after the answer is Redis' part, and may take its time: the upstream has room for another.
      this.#underWay(-1, -bytes);
    }
    metrics.exporterRequests.inc({ signal: job.signal, outcome: outcome.kind });
    await this.#conclude(id, sent, bodies, attempts + 1, outcome, hold);
  }

  #underWay(requests: number, bytes: number): void {
    const { metrics } = this.#deps;
    this.#inflight += requests;
    this.#inflightBytes += bytes;
    metrics.exporterInflight.set(this.#inflight);
    metrics.exporterInflightBytes.set(this.#inflightBytes);
  }

  async #send(job: JobData, bodies: Buffer[]): Promise<Outcome> {
    const { upstream, metrics } = this.#deps;
    const { body, encoding } = await this.#encode(job.encoding, bodies);
    const sentAt = performance.now();
    const outcome = await upstream.send(job.signal, body, encoding);
    const tookMs = performance.now() - sentAt;
    metrics.exporterRequestSeconds.observe({ signal: job.signal }, tookMs / 1000);
    metrics.exporterSentBytes.inc({ signal: job.signal }, bytesOf(body));
    this.#adapt(outcome, tookMs);
    this.#trouble =
      outcome.kind === 'retry'
        ? `the upstream: ${outcome.reason}${outcome.status ? ` (${outcome.status})` : ''}`
        : undefined;
    return outcome;
  }

  #adapt(outcome: Outcome, tookMs: number): void {
    const before = this.#limit.current;
    const crowded = this.#inflight >= before;
    const after = this.#limit.observe(
      outcome.kind === 'retry' ? 'overload' : 'ok',
      tookMs,
      crowded,
      this.#deps.now(),
    );
    if (after === before) return;
    this.#taker.setConcurrency(after);
    this.#deps.metrics.exporterConcurrency.set(after);
  }

  async #encode(
    encoding: ContentEncoding,
    bodies: Buffer[],
  ): Promise<{ body: Buffer[] | Buffer; encoding: ContentEncoding }> {
    const { compression, maxBodyBytes } = this.#options;
    const wanted = compression === 'none' ? 'identity' : compression;
    if (wanted === 'as-received' || wanted === encoding) return { body: bodies, encoding };
    const plain = await Promise.all(
      bodies.map((body) => decodeContent(body, encoding, { maxBytes: maxBodyBytes })),
    );
    return { body: await encodeContent(Buffer.concat(plain), wanted), encoding: wanted };
  }

  async #conclude(
    id: string,
    job: JobData,
    bodies: Buffer[],
    attempts: number,
    outcome: Outcome,
    held: Held,
  ): Promise<void> {
    if (outcome.kind === 'delivered') return this.#deliver(id, job, outcome, held);
    this.#lastProblem = {
      at: this.#deps.now(),
      reason: outcome.kind === 'too-large' ? 'too_large' : outcome.reason,
      message: outcome.message.slice(0, MESSAGE_MAX),
    };
    await Promise.all([this.#report(outcome), this.#act(id, job, bodies, attempts, outcome)]);
  }

  /** Settles it, completes its job and tells the breaker, in one step. */
  async #deliver(id: string, job: JobData, outcome: Delivered, held: Held): Promise<void> {
    const { store, metrics, log, now } = this.#deps;
    const { refusedItems } = outcome;
    const deliveredAt = now();
    const settled = await store.settle(job, 'export', { outcome: 'delivered', refusedItems }, held);
    if (settled === 0) {
      metrics.duplicateHandOvers.inc();
      return;
    }
    metrics.exporterDeliveredItems.inc(
      { signal: job.signal, class: job.class },
      Math.max(0, settled - refusedItems),
    );
    if (refusedItems > 0) {
      metrics.exporterRejectedItems.inc({ signal: job.signal, reason: 'partial_success' }, refusedItems);
      log.warn(
        { job: id, items: refusedItems, said: outcome.message },
        'the upstream refused part of a request; a partial success is not retried',
      );
    }
    for (const batch of job.batches) {
      metrics.pipelineEndToEndSeconds.observe(
        { signal: job.signal, class: job.class, origin: job.origin },
        (deliveredAt - batch.receivedAt) / 1000,
      );
    }
  }

  /** Tells the breaker. It learns later when Redis is away; the batch's own fate does not depend on it. */
  async #report(outcome: Outcome): Promise<void> {
    const verdict = verdictOf(outcome);
    const retryAfterMs = outcome.kind === 'retry' ? (outcome.retryAfterMs ?? 0) : 0;
    try {
      await this.#deps.store.report(verdict, Math.min(retryAfterMs, this.#options.retry.maxRetryAfterMs));
    } catch (error) {
      this.#deps.log.debug({ err: (error as Error).message }, 'an answer was not reported to the breaker');
    }
  }

  async #act(
    id: string,
    job: JobData,
    bodies: Buffer[],
    attempts: number,
    outcome: Exclude<Outcome, Delivered>,
  ): Promise<void> {
    const { store, metrics, log, now } = this.#deps;
    switch (outcome.kind) {
      case 'retry': {
        metrics.exporterRetries.inc({ reason: outcome.reason });
        if (attempts >= this.#options.retry.maxAttempts) {
          return this.#spill(id, job, attempts, 'retries_exhausted', outcome);
        }
        const delayMs = retryDelayMs(
          this.#options.retry,
          attempts,
          outcome.retryAfterMs,
          this.#deps.random(),
        );
        log.debug(
          { job: id, attempts, delayMs, reason: outcome.reason, said: outcome.message },
          'will try again',
        );
        throw new RetryLater(delayMs, `${outcome.reason}: ${outcome.message}`);
      }
      case 'too-large': {
        const pieces = job.batches.length > 1 ? apart(job) : await this.#halves(job, bodies[0]!);
        if (pieces) {
          await store.handOver(job, pieces, 'next', now());
          return;
        }
        return this.#reject(id, job, attempts, 'too_large', outcome);
      }
      case 'rejected':
        // One bad batch must not take those it was merged with down: each is tried by itself.
        if (job.batches.length > 1) {
          await store.handOver(job, apart(job), 'next', now());
          return;
        }
        return this.#reject(id, job, attempts, outcome.reason, outcome);
    }
  }

  async #reject(
    id: string,
    job: JobData,
    attempts: number,
    reason: string,
    outcome: { status: number; message: string },
  ): Promise<void> {
    this.#deps.metrics.exporterRejectedItems.inc({ signal: job.signal, reason }, job.items);
    this.#deps.log.warn(
      { job: id, items: job.items, status: outcome.status, said: outcome.message },
      'the upstream refused a batch for good; it goes to the rejected area of the dlq',
    );
    await this.#spill(id, job, attempts, `rejected:${reason}`, outcome);
  }

  async #spill(
    id: string,
    job: JobData,
    attempts: number,
    reason: string,
    outcome: { status?: number; message: string },
  ): Promise<void> {
    const { store, now, log } = this.#deps;
    if (job.origin === 'replay' && !reason.startsWith('rejected:')) {
      await store.settle(job, 'export', { outcome: 'returned' }); // it is on the dlq's disk already
      return;
    }
    const jobs: HandOverJob[] = apart(job, 's').map((piece) => ({
      ...piece,
      queue: 'spill',
      data: {
        ...piece.data,
        reason,
        attempts,
        message: outcome.message,
        ...(outcome.status === undefined ? {} : { status: outcome.status }),
      },
    }));
    await store.handOver(job, jobs, 'last', now());
    log.debug({ job: id, reason, items: job.items }, 'handed to the dlq');
  }

  /** Two jobs out of one batch that is too large, cut between items; undefined when it is a single item. */
  async #halves(job: JobData, payload: Buffer): Promise<HandOverJob[] | undefined> {
    const plain = await decodeContent(payload, job.encoding, { maxBytes: this.#options.maxBodyBytes });
    const halves = job.signal === 'profiles' ? undefined : splitRequest(job.signal, plain);
    if (!halves) return undefined;
    const [batch] = job.batches;
    return Promise.all(
      halves.map(async (half, i) => {
        const bytes = await encodeContent(half, job.encoding);
        const key = nextKey(batch!.key, i === 0 ? 'a' : 'b');
        const items = walk(job.signal, half).items;
        return {
          queue: 'export' as const,
          data: pieceOf(job, { key, items, bytes: bytes.byteLength, receivedAt: batch!.receivedAt }),
          payloads: [{ key, bytes }],
        };
      }),
    );
  }
}

/** One job per batch. `suffix` makes the new keys: whoever holds the old ones finds nothing. */
function apart(job: JobData, suffix = 'm'): HandOverJob[] {
  return job.batches.map((batch) => {
    const key = nextKey(batch.key, suffix);
    return {
      queue: 'export' as const,
      data: pieceOf(job, { ...batch, key }),
      payloads: [{ key, old: batch.key }],
    };
  });
}

/** What is handed over belongs to Redis from here on, wherever it came from. */
function pieceOf(job: JobData, batch: BatchRef): JobData {
  return { ...job, origin: 'live', items: batch.items, bytes: batch.bytes, batches: [batch] };
}

function bytesOf(body: Buffer[] | Buffer): number {
  return Array.isArray(body) ? body.reduce((sum, part) => sum + part.byteLength, 0) : body.byteLength;
}

function nextKey(key: string, suffix: string): string {
  return key.includes('-') ? key + suffix : `${key}-${suffix}`;
}
