/**
 * The workload generator: real OTLP over HTTP, at a scheduled rate, with honest books.
 *
 * `connections` workers take batches in turn. Batch n is due at start + n × batchSize / rate, whatever happened to
 * the ones before it, and its latency counts from then: a stalled server delays the batches behind it, and they say
 * so (no coordinated omission). In flight are never more than `connections` requests.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { type Batch, BatchMaker } from './batch-maker.ts';
import { seededRandom, type TestClass, type TestSignal } from './identity.ts';
import { LatencyHistogram, type LatencySummary } from './latency.ts';
import { type Outcome, Sender } from './sender.ts';
import { SequenceSet } from './sequence-set.ts';
import { type Workload, workload } from './workload.ts';

export type GivenWorkload = Partial<Workload> & { endpoint: string };

export interface BatchReceipt {
  run: number;
  signal: TestSignal;
  class: TestClass | undefined;
  /** Sequence of the first item and number of items. */
  from: number;
  count: number;
  /** Items that the answer says were rejected; which ones is not known. */
  rejected: number;
  attempts: number;
}

export interface Progress {
  elapsedMs: number;
  sentItems: number;
  acknowledgedItems: number;
  refusedItems: number;
  unknownItems: number;
  retries: number;
  /** Attempts, and those of them that found no answer. */
  attempts: number;
  lostAttempts: number;
  inFlight: number;
  /** Acknowledged items per second since the last progress. */
  itemsPerSecond: number;
}

export interface GenerateEvents {
  /** About every half second, and once at the end. */
  progress?(progress: Progress): void;
  /** For each batch that got a 2xx, at once. */
  acknowledged?(receipt: BatchReceipt): void;
  /** Stops new batches, and waits for the answers of those in flight: no item ends as unknown by it. */
  finish?: AbortSignal;
  /** Stops new batches, and gives up those in flight. */
  signal?: AbortSignal;
}

export interface GenerateReport {
  run: number;
  startedAtMs: number;
  elapsedMs: number;
  /** Batches and items of which at least one attempt was made. */
  batches: number;
  items: number;
  bySignal: Record<TestSignal, number>;
  byClass: Record<TestClass | 'none', number>;
  /** Items in batches that got a 2xx, less those it rejected. */
  acknowledgedItems: number;
  /** The same by class and signal, not reduced by rejections. */
  acknowledgedByClass: Record<TestClass | 'none', number>;
  acknowledgedBySignal: Record<TestSignal, number>;
  rejectedItems: number;
  /** Items refused for good, by status; the server said that it did not take them. */
  refusedItems: number;
  refusedByStatus: Record<string, number>;
  /** Items given up without a final answer. They may have arrived. */
  unknownItems: number;
  attempts: number;
  retries: number;
  /** Attempts by status, or by error code for lost connections. */
  attemptsByStatus: Record<string, number>;
  /** A sample of what error answers said. */
  messages: string[];
  /** Body bytes of all attempts, as sent, and the bytes that the batches have uncompressed. */
  wireBytes: number;
  bodyBytes: number;
  /** Of acknowledged batches: from when it was due to its 2xx, retries included. */
  latency: LatencySummary;
  /** Of single attempts: from sending to answer. */
  attemptLatency: LatencySummary;
  /** Acknowledged items per second. */
  itemsPerSecond: number;
  /** Sum over the delta sums and histograms in acknowledged batches. */
  acknowledgedDeltaSum: number;
  /** Sequences by fate. `partial` are those in acknowledged batches with rejected items. */
  acknowledged: SequenceSet;
  partial: SequenceSet;
  refused: SequenceSet;
  unknown: SequenceSet;
  /** Points without an id can't be compared; then this is false and only counts can. */
  identified: boolean;
}

const PROGRESS_MS = 500;
const MAX_MESSAGES = 8;
/** The first request waits this long, so that start-up of the loop is not measured as lateness. */
const LEAD_MS = 5;

/** Runs the workload to its end. Rejects only for an invalid workload; refusals and lost connections are counted. */
export async function generate(given: GivenWorkload, on: GenerateEvents = {}): Promise<GenerateReport> {
  return new Run(workload(given), on).finish();
}

class Run {
  readonly #w: Workload;
  readonly #on: GenerateEvents;
  readonly #sender: Sender;
  readonly #maker: BatchMaker;
  readonly #report: GenerateReport;
  readonly #latency = new LatencyHistogram();
  readonly #attemptLatency = new LatencyHistogram();
  readonly #basePath: string;
  readonly #jitter: () => number;
  readonly #stop = new AbortController();
  /** Of what waits for its time to be made; `#stop` ends that too. */
  readonly #noMore: AbortSignal;
  #prepared: Batch[] = [];
  #nextBatch = 0;
  #startMs = 0;
  #inFlight = 0;
  #lostAttempts = 0;
  #lastProgress = { atMs: 0, items: 0 };

  constructor(w: Workload, on: GenerateEvents) {
    this.#w = w;
    this.#on = on;
    const url = new URL(w.endpoint);
    this.#basePath = url.pathname.replace(/\/$/, '');
    this.#sender = new Sender({
      origin: url.origin,
      connections: w.connections,
      requestTimeoutMs: w.requestTimeoutMs,
    });
    const run = w.run ?? randomBytes(4).readUInt32BE();
    this.#maker = new BatchMaker(w, run);
    this.#jitter = seededRandom(w.seed ^ 0x5bd1e995);
    this.#noMore = AbortSignal.any([this.#stop.signal, ...(on.finish ? [on.finish] : [])]);
    this.#report = emptyReport(run, w.metricIds || (w.signals.metrics ?? 0) === 0);
  }

  async finish(): Promise<GenerateReport> {
    const abort = () => this.#stop.abort();
    if (this.#on.signal?.aborted === true) abort();
    this.#on.signal?.addEventListener('abort', abort, { once: true });
    if (this.#w.prepare) this.#prepareAll();
    this.#startMs = clockMs() + LEAD_MS;
    this.#maker.startedAt(this.#startMs);
    this.#report.startedAtMs = this.#startMs;
    this.#lastProgress.atMs = this.#startMs;
    const ticker = setInterval(() => this.#progress(), PROGRESS_MS);
    try {
      await Promise.all(Array.from({ length: this.#w.connections }, () => this.#worker()));
    } finally {
      clearInterval(ticker);
      this.#on.signal?.removeEventListener('abort', abort);
      await this.#sender.close();
    }
    const report = this.#report;
    report.elapsedMs = clockMs() - this.#startMs;
    report.latency = this.#latency.summary();
    report.attemptLatency = this.#attemptLatency.summary();
    report.itemsPerSecond = Math.round((report.acknowledgedItems / report.elapsedMs) * 1000);
    this.#progress();
    return report;
  }

  async #worker(): Promise<void> {
    const { rate, batchSize, durationMs, items } = this.#w;
    while (!this.#noMore.aborted) {
      const number = this.#nextBatch;
      const left = items === undefined ? batchSize : Math.min(batchSize, items - number * batchSize);
      if (left <= 0) return;
      const dueMs = rate === 0 ? clockMs() : this.#startMs + (number * batchSize * 1000) / rate;
      if (durationMs !== undefined && dueMs >= this.#startMs + durationMs) return;
      this.#nextBatch += 1;
      await this.#until(dueMs, this.#noMore);
      if (this.#noMore.aborted) return;
      const batch = this.#prepared.length > 0 ? this.#prepared.shift()! : this.#maker.make(left, dueMs);
      this.#inFlight += 1;
      await this.#deliver(batch, dueMs);
      this.#inFlight -= 1;
    }
  }

  async #until(dueMs: number, signal: AbortSignal): Promise<void> {
    const ms = dueMs - clockMs();
    if (ms > 0) await wait(ms, undefined, { signal }).catch(() => {});
  }

  async #deliver(batch: Batch, dueMs: number): Promise<void> {
    const report = this.#report;
    report.batches += 1;
    report.items += batch.count;
    report.bySignal[batch.signal] += batch.count;
    report.byClass[batch.class ?? 'none'] += batch.count;
    report.bodyBytes += batch.bodyBytes;
    const firstMs = clockMs();
    const body = await this.#maker.compress(batch);
    let lost = false;
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#attempt(batch, body);
      lost ||= outcome.kind === 'lost';
      switch (outcome.kind) {
        case 'success':
          this.#latency.record(clockMs() - dueMs);
          return this.#acknowledge(batch, outcome.partial?.rejected ?? 0, attempt, outcome.partial?.message);
        case 'refused':
          report.refusedItems += batch.count;
          count(report.refusedByStatus, String(outcome.status), batch.count);
          this.#note(`${outcome.status} ${outcome.message}`);
          // An earlier attempt that got no answer may have been taken all the same.
          if (lost) report.unknown.addRange(batch.from, batch.count);
          else report.refused.addRange(batch.from, batch.count);
          return;
        case 'retryable':
          this.#note(`${outcome.status} ${outcome.message}`);
          break;
        case 'lost':
          this.#note(outcome.message);
          break;
      }
      const pauseMs = this.#pauseMs(outcome, attempt);
      const late = clockMs() + pauseMs - firstMs > this.#w.retryForMs;
      if (!this.#w.retry || late || this.#stop.signal.aborted) {
        // A 429 or 503 says that nothing was taken, but an earlier attempt of the same batch may have got lost.
        report.unknownItems += batch.count;
        return report.unknown.addRange(batch.from, batch.count);
      }
      report.retries += 1;
      await this.#until(clockMs() + pauseMs, this.#stop.signal);
    }
  }

  async #attempt(batch: Batch, body: Buffer): Promise<Outcome> {
    const sentMs = clockMs();
    const path = `${this.#basePath}/v1/${batch.signal}`;
    const outcome = await this.#sender.send(path, this.#maker.headers, body, this.#stop.signal);
    this.#attemptLatency.record(clockMs() - sentMs);
    const report = this.#report;
    report.attempts += 1;
    if (outcome.kind === 'lost') this.#lostAttempts += 1;
    report.wireBytes += body.length;
    count(report.attemptsByStatus, outcome.kind === 'lost' ? outcome.error : String(outcome.status), 1);
    return outcome;
  }

  #pauseMs(outcome: Outcome, attempt: number): number {
    if (outcome.kind === 'retryable' && outcome.retryAfterMs !== undefined) return outcome.retryAfterMs;
    const ceiling = Math.min(this.#w.retryMaxMs, this.#w.retryInitialMs * 2 ** (attempt - 1));
    return ceiling * (0.5 + 0.5 * this.#jitter());
  }

  #acknowledge(batch: Batch, rejected: number, attempts: number, message: string | undefined): void {
    const report = this.#report;
    report.acknowledgedItems += batch.count - rejected;
    report.acknowledgedByClass[batch.class ?? 'none'] += batch.count;
    report.acknowledgedBySignal[batch.signal] += batch.count;
    report.acknowledgedDeltaSum += batch.deltaSum;
    report.rejectedItems += rejected;
    if (message !== undefined && message !== '') this.#note(`200 ${message}`);
    report.acknowledged.addRange(batch.from, batch.count);
    if (rejected > 0) report.partial.addRange(batch.from, batch.count);
    const { signal, from } = batch;
    this.#on.acknowledged?.({
      run: report.run,
      signal,
      class: batch.class,
      from,
      count: batch.count,
      rejected,
      attempts,
    });
  }

  #prepareAll(): void {
    const { items, batchSize, maxPreparedBytes } = this.#w;
    let bytes = 0;
    for (let left = items!; left > 0 && bytes < maxPreparedBytes; left -= batchSize) {
      const batch = this.#maker.make(Math.min(batchSize, left), clockMs());
      batch.body = this.#maker.compressNow(batch);
      batch.compressed = true;
      bytes += batch.body.length;
      this.#prepared.push(batch);
    }
  }

  #progress(): void {
    const report = this.#report;
    const nowMs = clockMs();
    const sinceMs = nowMs - this.#lastProgress.atMs;
    const gained = report.acknowledgedItems - this.#lastProgress.items;
    this.#lastProgress = { atMs: nowMs, items: report.acknowledgedItems };
    this.#on.progress?.({
      elapsedMs: nowMs - this.#startMs,
      sentItems: report.items,
      acknowledgedItems: report.acknowledgedItems,
      refusedItems: report.refusedItems,
      unknownItems: report.unknownItems,
      retries: report.retries,
      attempts: report.attempts,
      lostAttempts: this.#lostAttempts,
      inFlight: this.#inFlight,
      itemsPerSecond: sinceMs > 0 ? Math.round((gained / sinceMs) * 1000) : 0,
    });
  }

  #note(message: string): void {
    const { messages } = this.#report;
    if (messages.length < MAX_MESSAGES && !messages.includes(message)) messages.push(message);
  }
}

/** Wall clock with the resolution of the monotonic one, comparable between processes on a machine. */
export function clockMs(): number {
  return performance.timeOrigin + performance.now();
}

function count(into: Record<string, number>, key: string, by: number): void {
  into[key] = (into[key] ?? 0) + by;
}

function emptyReport(run: number, identified: boolean): GenerateReport {
  return {
    run,
    startedAtMs: 0,
    elapsedMs: 0,
    batches: 0,
    items: 0,
    bySignal: { traces: 0, metrics: 0, logs: 0 },
    byClass: { critical: 0, high: 0, normal: 0, none: 0 },
    acknowledgedItems: 0,
    acknowledgedByClass: { critical: 0, high: 0, normal: 0, none: 0 },
    acknowledgedBySignal: { traces: 0, metrics: 0, logs: 0 },
    rejectedItems: 0,
    refusedItems: 0,
    refusedByStatus: {},
    unknownItems: 0,
    attempts: 0,
    retries: 0,
    attemptsByStatus: {},
    messages: [],
    wireBytes: 0,
    bodyBytes: 0,
    latency: new LatencyHistogram().summary(),
    attemptLatency: new LatencyHistogram().summary(),
    itemsPerSecond: 0,
    acknowledgedDeltaSum: 0,
    acknowledged: new SequenceSet(),
    partial: new SequenceSet(),
    refused: new SequenceSet(),
    unknown: new SequenceSet(),
    identified,
  };
}
