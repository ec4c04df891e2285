/** Sends requests of metrics as OTLP clients do, each try to another receiver, and keeps account of what must have arrived. */
import { setTimeout as wait } from 'node:timers/promises';
import { Sender } from '../sender.ts';
import { MetricLedger } from './ledger.ts';

export interface MetricClientOptions {
  /** Origins of the receivers. Each try goes to one of them that is drawn anew, as behind a load balancer. */
  receivers: readonly string[];
  random(): number;
  requestTimeoutMs?: number;
}

const RETRY_MS = 20;
const RETRY_MAX_MS = 500;
const REQUEST_TIMEOUT_MS = 5_000;

export class MetricClient {
  /** What was acknowledged, once. */
  readonly counted = new MetricLedger();
  /** That, and every try that was not: it may have been kept all the same. */
  readonly atMost = new MetricLedger();
  readonly #options: MetricClientOptions;
  readonly #senders: Sender[];
  requests = 0;
  retries = 0;
  /** Points that an answer said were dropped. */
  rejected = 0;

  constructor(options: MetricClientOptions) {
    this.#options = options;
    const requestTimeoutMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    this.#senders = options.receivers.map(
      (origin) => new Sender({ origin, connections: 8, requestTimeoutMs }),
    );
  }

  /**
   * Sends one request until it is acknowledged. Those of one producer go one after the other.
   * @throws Error when it is refused for good, or the signal ends it
   */
  async send(body: Buffer, signal?: AbortSignal): Promise<void> {
    const headers = { 'content-type': 'application/x-protobuf' };
    this.requests += 1;
    for (let pause = RETRY_MS; ; pause = Math.min(RETRY_MAX_MS, pause * 2)) {
      const sender = this.#senders[Math.floor(this.#options.random() * this.#senders.length)]!;
      const outcome = await sender.send('/v1/metrics', headers, body, signal);
      this.atMost.take(body);
      if (outcome.kind === 'success') {
        this.counted.take(body);
        this.rejected += outcome.partial?.rejected ?? 0;
        return;
      }
      if (outcome.kind === 'refused') throw new Error(`refused with ${outcome.status}: ${outcome.message}`);
      this.retries += 1;
      await wait(pause, undefined, { signal });
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#senders.map((sender) => sender.close()));
  }
}
