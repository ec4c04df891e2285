export type { DailyKeys } from './admission/daily-keys.ts';
export type { Decision } from './admission/decision.ts';
export type { Dropped, DropReason } from './admission/drops.ts';
export type { Metric, SharedRule } from './admission/metric-table.ts';
export { joinedClaim } from './claim.ts';
export { packed } from './hash.ts';
export { CardinalityLimiter, type Limited, type LimiterDeps, ledgerSize } from './limiter.ts';
export type { LimiterOptions } from './options.ts';
export type { LabelReport, LimiterReport, MetricReport, Totals } from './report.ts';
