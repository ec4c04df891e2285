import { randomInt } from 'node:crypto';
import { hostname } from 'node:os';
import type { Config } from '@nrdot/config';
import { KeyBudget, type LimiterStatus, NAME_MAX, type Store, TOP_LABELS } from '@nrdot/queue';
import type { Host } from '@nrdot/service';
import { type Limited, unavailable } from './ingest.ts';
import {
  CardinalityLimiter,
  completeOptions,
  type Decision,
  type Dropped,
  type LimiterOptions,
} from './limiter/index.ts';

/** What a dead receiver held goes back after this. */
const LEASE_MS = 15_000;
const RENEW_MS = 2_000;
/** Of the budget, while Redis has never been there to ask. */
const UNLEASED_SHARE = 1 / 16;
const MESSAGE_REASONS = 5;
const TOP = 20;

/** The limiter in its place: options, the shared budget of keys, metrics, the admin route, words for clients. */
export class Limiting {
  readonly #limiter: CardinalityLimiter;
  readonly #budget: KeyBudget;
  readonly #host: Host;
  #renewal: NodeJS.Timeout | undefined;
  #leased: number | undefined;

  constructor(config: Config, host: Host, store: Store, now: () => number) {
    this.#host = host;
    this.#limiter = new CardinalityLimiter(optionsOf(config), {
      now,
      seed: randomInt(2 ** 31),
      onDecision: (decision) => {
        host.log.debug({ decision }, 'the limiter decided');
        host.transitions.happened('limiter_policy', decisionText(decision));
      },
    });
    this.#limiter.setBudget(Math.floor(config.limiter.maxKeys * UNLEASED_SHARE));
    this.#budget = new KeyBudget(store.redis, {
      key: store.keys.leases,
      holder: holderName(config.receiver.listen),
      budget: config.limiter.maxKeys,
      leaseMs: LEASE_MS,
    });
    host.live.follow((next) => {
      const options = completeOptions(optionsOf(next));
      return () => this.#limiter.configure(options);
    });
    this.#publish();
    host.admin.route('GET', '/api/limiter', () => this.#limiter.report(TOP));
  }

  /** Leases its part of the budget, and keeps it. */
  async start(): Promise<void> {
    await this.#renew();
    this.#renewal = setInterval(() => void this.#renew(), RENEW_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#renewal);
    await this.#budget.release().catch(() => {}); // it expires by itself
  }

  /**
   * Takes the points of one request. They are counted when it is said that the request was acknowledged.
   * @throws OtlpError, retryable, while the other receivers have not yet given this one its share
   */
  limit(body: Buffer): Limited {
    const { metrics } = this.#host;
    if (this.#leased === 0)
      throw unavailable('no_keys', 'this receiver waits for its share of limiter.max_keys', 'nothing');
    const startedAt = performance.now();
    const limited = this.#limiter.process(body);
    metrics.clLatencySeconds.observe((performance.now() - startedAt) / 1000);
    const { body: out, dropped, droppedPoints, aggregatedPoints, overflowPoints } = limited;
    return {
      body: out === body ? body : Buffer.from(out.buffer, out.byteOffset, out.byteLength),
      dropped: droppedPoints,
      message: droppedPoints > 0 ? explain(dropped) : '',
      count: () => {
        this.#limiter.count(limited);
        for (const { reason, count } of dropped) metrics.clDroppedSamples.inc({ reason }, count);
        if (aggregatedPoints > 0) metrics.clAggregatedSamples.inc(aggregatedPoints);
        if (overflowPoints > 0) metrics.clOverflowSamples.inc(overflowPoints);
      },
    };
  }

  /** For the console: in short. */
  status(): LimiterStatus {
    const { mode, keysUsed, keysLimit, maxKeys, totals, topLabels } = this.#limiter.report(TOP_LABELS);
    return {
      mode,
      keysUsed,
      keysLimit,
      maxKeys,
      points: totals.points,
      droppedPoints: Object.values(totals.dropped).reduce((sum, points) => sum + points, 0),
      aggregatedPoints: totals.aggregated,
      overflowPoints: totals.overflow,
      topLabels: topLabels.map(({ metric, label, score, bits, removed, isProtected }) => ({
        metric: metric.slice(0, NAME_MAX),
        label: label.slice(0, NAME_MAX),
        score,
        bits,
        state: removed ? 'removed' : isProtected ? 'protected' : 'kept',
      })),
    };
  }

  async #renew(): Promise<void> {
    try {
      const keys = await this.#budget.lease();
      if (keys === this.#leased) return;
      this.#leased = keys;
      this.#limiter.setBudget(keys);
      this.#host.log.info({ keys }, 'key-sets leased for the limiter');
    } catch (error) {
      // It goes on with what it holds.
      this.#host.log.debug({ err: (error as Error).message }, 'the lease of key-sets was not renewed');
    }
  }

  #publish(): void {
    const { registry, metrics } = this.#host;
    const seen = { keys: 0, sources: 0, outputs: 0, metrics: 0 };
    registry.onScrape(() => {
      metrics.clKeysUsed.set(this.#limiter.keysUsed);
      metrics.clKeysLimit.set(this.#limiter.keysLimit);
      const { evictions } = this.#limiter.report(0);
      for (const table of Object.keys(seen) as (keyof typeof seen)[]) {
        metrics.clEvictions.inc({ table }, evictions[table] - seen[table]);
        seen[table] = evictions[table];
      }
    });
  }
}

function optionsOf({ limiter: { mode, ...options } }: Config): Partial<LimiterOptions> {
  return { ...options, mode: mode === 'observe' ? 'observe' : 'enforce' };
}

/** Names come from clients, and are as long as those like. */
function decisionText({ metric, label, kind, why, enforced }: Decision): string {
  const short = (name: string) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX)}…` : name);
  const what = label
    ? `${kind}: label "${short(label)}" of "${short(metric)}"`
    : `${kind}: "${short(metric)}"`;
  return `The limiter ${enforced ? 'decided' : 'would decide (it only observes)'} ${what}; ${why}.`;
}

/** What the client is told about points that were dropped. */
function explain(dropped: readonly Dropped[]): string {
  const shown = dropped
    .slice(0, MESSAGE_REASONS)
    .map(
      ({ metric, label, reason, count }) => `${count} of ${metric} (${reason}${label ? `: ${label}` : ''})`,
    );
  const more = dropped.length > MESSAGE_REASONS ? `, and ${dropped.length - MESSAGE_REASONS} more` : '';
  return `the cardinality limiter dropped points: ${shown.join(', ')}${more}`;
}

/** The same after a restart, so that a receiver takes up its own lease again. */
function holderName({ port }: { port: number }): string {
  return `${hostname()}:${port === 0 ? `any:${process.pid}` : port}`;
}
