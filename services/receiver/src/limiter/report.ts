import type { Decision } from './admission/decision.ts';
import type { MetricTable } from './admission/metric-table.ts';
import type { Parts } from './merge/routing.ts';
import type { LimiterOptions } from './options.ts';

/** Totals of acknowledged requests: of one, or of all so far. */
export type Totals = ReturnType<typeof emptyTotals>;

export const emptyTotals = () => ({
  requests: 0,
  /** Points received. */
  points: 0,
  /** By reason. */
  dropped: {} as Record<string, number>,
  aggregated: 0,
  overflow: 0,
  /** What `enforce` would have dropped, counted in mode `observe`. */
  observedDropped: 0,
  observedAggregated: 0,
  observedOverflow: 0,
});

export function addTotals(to: Totals, { dropped, ...sums }: Totals): void {
  for (const [reason, count] of Object.entries(dropped))
    to.dropped[reason] = (to.dropped[reason] ?? 0) + count;
  for (const name of Object.keys(sums) as (keyof typeof sums)[]) to[name] += sums[name];
}

export interface MetricReport {
  metric: string;
  keys: number;
  /** Stripped labels. */
  removed: string[];
  overflowed: boolean;
}

export interface LabelReport {
  metric: string;
  label: string;
  place: 'point' | 'resource';
  /** 0 to 1: its entropy relative to a full table. */
  score: number;
  bits: number;
  removed: boolean;
  isProtected: boolean;
}

export interface LimiterReport {
  mode: 'enforce' | 'observe';
  /** Effective options. */
  options: LimiterOptions;
  keysUsed: number;
  keysLimit: number;
  maxKeys: number;
  memoryBytes: number;
  /** For metrics with at least √maxKeys key-sets; others are not scored, since they cannot do harm. */
  topLabels: LabelReport[];
  topMetrics: MetricReport[];
  /** The last 256, oldest first. */
  decisions: Decision[];
  totals: Totals;
  evictions: { keys: number; sources: number; outputs: number; metrics: number };
  tracker: { sources: number; outputs: number };
}

export function makeReport(
  top: number,
  { options, table, tracker, admission }: Parts,
  metrics: MetricTable,
  totals: Totals,
  memoryBytes: number,
): LimiterReport {
  const topMetrics: MetricReport[] = [];
  const topLabels: LabelReport[] = [];
  for (const metric of metrics.all()) {
    const labels = metric.allLabels();
    if (metric.keys > 0 || metric.rule) {
      topMetrics.push({
        metric: metric.name,
        keys: metric.keys,
        removed: labels.filter(({ removed }) => removed).map(({ name }) => name),
        overflowed: metric.overflowed,
      });
    }
    for (const label of labels) {
      if (!label.sketch) continue;
      topLabels.push({
        metric: metric.name,
        label: label.name,
        place: label.place,
        score: admission.score(label),
        bits: label.sketch.bits(),
        removed: label.removed,
        isProtected: label.isProtected,
      });
    }
  }
  topMetrics.sort((a, b) => b.keys - a.keys);
  topLabels.sort((a, b) => b.score - a.score || b.bits - a.bits);
  return {
    mode: options.mode,
    options,
    keysUsed: table.used,
    keysLimit: admission.limit,
    maxKeys: options.maxKeys,
    memoryBytes,
    topMetrics: topMetrics.slice(0, top),
    topLabels: topLabels.slice(0, top),
    decisions: admission.decisions.slice(),
    totals: { ...totals, dropped: { ...totals.dropped } },
    evictions: {
      keys: admission.evictions,
      sources: tracker.sourceEvictions,
      outputs: tracker.outputEvictions,
      metrics: metrics.evictions,
    },
    tracker: { sources: tracker.sources.used, outputs: tracker.outputs.used },
  };
}
