export type { Decision } from './decision.ts';
export type { Dropped, DropReason } from './drops.ts';
export { CardinalityLimiter, type Claim, type Limited, type LimiterDeps, ledgerSize } from './limiter.ts';
export type { SharedRule } from './metric-table.ts';
export {
  completeOptions,
  DEFAULT_OPTIONS,
  type GaugeReducer,
  LimiterOptionError,
  type LimiterOptions,
  type MetricOverride,
  type MetricPolicy,
} from './options.ts';
export type { LabelReport, LimiterReport, MetricReport, Totals } from './report.ts';
export { sourceClaims, TextWriter } from './source-claims.ts';
