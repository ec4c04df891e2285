import { oneRun } from '@nrdot/telemetry';
import { type IngestDeps, type IngestLimits, type MetricsLimit, sendHeld } from './ingest.ts';
import type { Limiting } from './limiting.ts';

const CHECK_MS = 250;

/** Called with the number of points sent, or with the error; failures are retried. */
interface Events {
  sent(points: number): void;
  failed(error: Error): void;
}

type Holding = Pick<Limiting, 'isHeldDue' | 'sendHeld' | 'left' | 'limitLeft'>;

/**
 * Sends deferred points when their interval ends and no request has carried them: this receiver's, and those of former ones.
 */
export class MergeInterval {
  readonly #holding: Holding;
  readonly #limits: IngestLimits;
  readonly #deps: IngestDeps & { limit: MetricsLimit };
  readonly #events: Events;
  #timer: NodeJS.Timeout | undefined;
  readonly #sendDue = oneRun(() => this.#send());

  constructor(
    holding: Holding,
    limits: IngestLimits,
    deps: IngestDeps & { limit: MetricsLimit },
    events: Events,
  ) {
    this.#holding = holding;
    this.#limits = limits;
    this.#deps = deps;
    this.#events = events;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#sendDue(), CHECK_MS);
  }

  /** Sends all deferred points, due or not. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sendDue.current;
    this.#holding.sendHeld();
    await this.#sendDue();
  }

  async #send(): Promise<void> {
    try {
      for (const name of this.#holding.left) {
        const limit = await this.#holding.limitLeft(name);
        this.#events.sent(await sendHeld(this.#limits, this.#deps, { ...this.#deps.limit, limit }));
      }
      if (this.#holding.isHeldDue)
        this.#events.sent(await sendHeld(this.#limits, this.#deps, this.#deps.limit));
    } catch (error) {
      this.#events.failed(error as Error);
    }
  }
}
