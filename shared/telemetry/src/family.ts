import type { MetricObjectWithValues, MetricValue, MetricValueWithName } from 'prom-client';
import type { MetricType } from './catalogue.ts';

/** A metric with the values that it has now. */
export interface MetricFamily {
  type: MetricType;
  name: string;
  help: string;
  /** See `MetricSpec`. */
  whole: boolean;
  series: Series[];
}

export interface Series {
  /** In the order in which the metric has them. */
  labels: Readonly<Record<string, string | number>>;
  /** Of a histogram the sum of what was observed. */
  value: number;
  /** Of a histogram. */
  buckets?: Buckets;
}

export interface Buckets {
  /** Upper ends of all but the last. */
  bounds: number[];
  /** Of each bucket alone; one more than there are bounds. */
  counts: number[];
}

/** @param metric as prom-client has it */
export function familyOf(
  { name, help, type, values }: MetricObjectWithValues<MetricValue<string>>,
  whole: boolean,
): MetricFamily {
  if (String(type) !== 'histogram') {
    const series = values.map(({ labels, value }) => ({ labels: labels as Series['labels'], value }));
    return { type: String(type) as MetricType, name, help, whole, series };
  }
  return { type: 'histogram', name, help, whole, series: histogramSeries(values, name) };
}

/** prom-client counts in a bucket what is in those below it, too, and has them in the order of their ends. */
function histogramSeries(values: readonly MetricValueWithName<string>[], name: string): Series[] {
  const found = new Map<string, Series & { buckets: Buckets; below: number }>();
  for (const { labels, value, metricName } of values) {
    const { le, ...own } = labels as Series['labels'];
    const key = Object.values(own).join('\0');
    let series = found.get(key);
    if (!series) {
      series = { labels: own, value: 0, buckets: { bounds: [], counts: [] }, below: 0 };
      found.set(key, series);
    }
    if (metricName === `${name}_sum`) series.value = value;
    if (le === undefined) continue;
    if (le !== '+Inf') series.buckets.bounds.push(Number(le));
    series.buckets.counts.push(value - series.below);
    series.below = value;
  }
  return [...found.values()].map(({ labels, value, buckets }) => ({ labels, value, buckets }));
}
