import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { type Metrics, type MetricsRegistry, oneRun, type Transitions, WELL } from '@nrdot/telemetry';
import type { OwnMetrics } from './own-metrics.ts';

const SUBJECT = 'telemetry';
/** Maximum time for the last request when the process stops. */
const LAST_MS = 2_000;

/** Result of a request. */
export interface Delivery {
  kind: 'delivered' | 'retry' | 'hold' | 'too-large' | 'rejected';
  /** Points that the other side rejected. */
  refusedItems?: number;
  /** Message of the other side, or why it is unreachable; for people, without secrets. */
  message: string;
}

export interface MetricSenderDeps {
  registry: Pick<MetricsRegistry, 'families'>;
  own: OwnMetrics;
  /** Sends one request, with a timeout of its own. Never throws. */
  send(body: Buffer): Promise<Delivery>;
  /** The destination, for people. */
  where: string;
  metrics: Pick<Metrics, 'telemetryRequests' | 'telemetryPoints'>;
  transitions: Transitions;
  /** Unix ms. */
  now(): number;
}

/**
 * Sends the metrics of this process once per interval. At most one request is in flight, and none is retried: the next one
 * includes what was not accepted.
 */
export class MetricSender {
  readonly #deps: MetricSenderDeps;
  readonly #timer: NodeJS.Timeout;
  /** Sends the current values, or waits for the request in flight. */
  readonly turn = oneRun(() => this.#send());

  constructor(intervalMs: number, deps: MetricSenderDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => void this.turn(), intervalMs).unref();
  }

  /** Sends for the last time, while the destination still runs. */
  async stop(withinMs: number): Promise<void> {
    clearInterval(this.#timer);
    const before = this.turn.current;
    const last = async () => {
      await before;
      await this.turn();
    };
    await Promise.race([last(), wait(Math.min(LAST_MS, withinMs), undefined, { ref: false })]);
  }

  async #send(): Promise<void> {
    const { registry, own, metrics, now } = this.#deps;
    try {
      const request = own.request(await registry.families(), now());
      const { refusedItems = 0, ...said } = await this.#deps.send(await promisify(gzip)(request.body));
      const delivery = { ...said, refusedItems: Math.min(refusedItems, request.points) };
      metrics.telemetryRequests.inc({ outcome: delivery.kind });
      if (delivery.kind === 'delivered') {
        request.delivered();
        metrics.telemetryPoints.inc(request.points - delivery.refusedItems);
      }
      this.#tell(delivery, request.points);
    } catch (error) {
      this.#tell({ kind: 'rejected', message: (error as Error).message }, 0);
    }
  }

  #tell({ kind, refusedItems = 0, message }: Delivery, points: number): void {
    const { transitions, where } = this.#deps;
    if (kind !== 'delivered') {
      transitions.to(SUBJECT, 'failing', {
        message: `${where} does not accept the metrics of this process: ${message}. Their counts are included in the next request.`,
      });
    } else if (refusedItems > 0) {
      transitions.to(SUBJECT, 'refused', {
        message: `${where} rejected ${refusedItems} of ${points} points of this process: ${message}.`,
      });
    } else {
      transitions.to(SUBJECT, WELL, {
        message: (lasted) => `${where} accepts the metrics of this process again after ${lasted}.`,
      });
    }
  }
}
