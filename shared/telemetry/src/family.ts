import type { MetricObjectWithValues, MetricValue, MetricValueWithName } from 'prom-client';
import type { MetricType } from './catalogue.ts';

/** A metric with its current values. */
export interface MetricFamily {
  type: MetricType;
  name: string;
  help: string;
  /** See `MetricSpec`. */
  whole: boolean;
  series: Series[];
}

export interface Series {
  /** In the metric's order of labels. */
  labels: Readonly<Record<string, string | number>>;
  /** For a histogram, the sum of the observations. */
  value: number;
  /** For a histogram. */
  buckets?: Buckets;
}

export interface Buckets {
  /** Upper bounds of all buckets but the last. */
  bounds: number[];
  /** Count per bucket; one more than there are bounds. */
  counts: number[];
}

/** @param metric in prom-client's format */
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

/** prom-client's buckets are cumulative and in order of their bounds. */
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
