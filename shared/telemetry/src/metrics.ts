import { setTimeout as wait } from 'node:timers/promises';
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import { CATALOGUE, type MetricName, type MetricSpec, PROCESS_METRICS, type Service } from './catalogue.ts';
import { eventLoopLag, NEVER_MS } from './event-loop-lag.ts';
import { familyOf, type MetricFamily } from './family.ts';
import { Counter, Gauge, Histogram } from './instruments.ts';
import { labelSets } from './label-values.ts';

type Instrument<S> =
  S extends MetricSpec<infer L, infer T>
    ? T extends 'counter'
      ? Counter<L>
      : T extends 'gauge'
        ? Gauge<L>
        : Histogram<L>
    : never;

/** The metrics of one process, by their keys in the catalogue. */
export type Metrics = { readonly [K in MetricName]: Instrument<(typeof CATALOGUE)[K]> };

/** Maximum time that a scrape waits for values from elsewhere, such as Redis. */
const COLLECT_TIMEOUT_MS = 2_000;

/** The documented metrics, and whether every instance reports the total. */
const PUBLISHED = new Map<string, boolean>([
  ...Object.values<MetricSpec>(CATALOGUE).map(({ name, whole }) => [name, whole ?? false] as const),
  ...PROCESS_METRICS.map(([name]) => [name, false] as const),
]);

/** The metrics that a process publishes on `/metrics`. */
export class MetricsRegistry {
  readonly metrics: Metrics;
  readonly #registry = new Registry();
  readonly #collectors: (() => Promise<void> | void)[] = [];

  /** @param services the services of this process; metrics of others exist but are not published */
  constructor(services: readonly Exclude<Service, 'every'>[]) {
    const published = new Set<Service>([...services, 'every']);
    const metrics: Record<string, unknown> = {};
    for (const [key, spec] of Object.entries<MetricSpec>(CATALOGUE)) {
      const isHere = published.has(spec.service) || (spec.partOf !== undefined && published.has(spec.partOf));
      const made = instrument(spec);
      metrics[key] = made;
      // The registry only uses the name and `get` of a metric; its type is a union of its own classes.
      if (isHere) this.#registry.registerMetric(made as unknown as Metric);
    }
    this.metrics = metrics as Metrics;
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: NEVER_MS });
    this.onScrape(eventLoopLag(this.#registry));
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** `collect` runs before each scrape to set gauges. If it throws, its values are missing in that scrape. */
  onScrape(collect: () => Promise<void> | void): void {
    this.#collectors.push(collect);
  }

  /** The exposition. */
  async text(): Promise<string> {
    await this.#collect();
    return this.#registry.metrics();
  }

  /** The metrics on `/metrics` from the catalogue and of the process, as numbers. */
  async families(): Promise<MetricFamily[]> {
    await this.#collect();
    // Reads all of them, since some of Node's are set while another one is read.
    const metrics = await this.#registry.getMetricsAsJSON();
    return metrics.flatMap((metric) => {
      const whole = PUBLISHED.get(metric.name);
      return whole === undefined ? [] : [familyOf(metric, whole)];
    });
  }

  async #collect(): Promise<void> {
    const all = Promise.allSettled(this.#collectors.map(async (collect) => collect()));
    await Promise.race([all, wait(COLLECT_TIMEOUT_MS, undefined, { ref: false })]);
  }
}

/** A counter's values since the process started, by the values of one label. */
export async function countsBy<L extends string>(counter: Counter<L>, label: L) {
  const counts: Record<string, number> = {};
  for (const { labels, value } of (await counter.get()).values) {
    const key = String(labels[label] ?? '');
    if (value > 0) counts[key] = (counts[key] ?? 0) + value;
  }
  return counts;
}

export async function countOf<L extends string>(counter: Counter<L>): Promise<number> {
  const { values } = await counter.get();
  return values.reduce((sum, { value }) => sum + value, 0);
}

function instrument(spec: MetricSpec): Counter | Gauge | Histogram {
  const { type, name, help, labels: labelNames, buckets = [] } = spec;
  if (type === 'gauge') return new Gauge({ name, help, labelNames });
  if (type === 'histogram') return new Histogram({ name, help, labelNames, buckets });
  const counter = new Counter({ name, help, labelNames });
  // A counter that first appears with its first event hides that event from `increase`, so it starts at 0. One that follows
  // a total in Redis must not, or the whole total would look like an event.
  if (!spec.whole) for (const labels of labelSets(name, labelNames) ?? []) counter.inc(labels, 0);
  return counter;
}
