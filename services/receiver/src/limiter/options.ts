/** How points of a gauge that become equal are merged. */
export type GaugeReducer = 'last' | 'min' | 'max' | 'mean' | 'sum';

/** Options that may be overridden per metric. */
export interface MetricPolicy {
  /** Share of the budget above which the limiter acts; below it everything is admitted. */
  actAbove: number;
  /** Score above which a label is stripped. 0.75 is 4,096 equally likely values with 65,536 keys. */
  aggregateScore: number;
  /** Score above which `criticalAction` applies instead. 0.90 is about 21,600 values. */
  criticalScore: number;
  criticalAction: 'drop' | 'overflow';
  /** Labels to strip first, on points or resources. */
  aggregateLabels: readonly string[];
  /** Labels that are never stripped, and never a cause for dropping. */
  protectedLabels: readonly string[];
  gaugeReducer: GaugeReducer;
}

export interface MetricOverride extends Partial<MetricPolicy> {
  /** Pattern of names: a RegExp, or a text in which `*` stands for anything. */
  metric: RegExp | string;
}

export interface LimiterOptions extends MetricPolicy {
  /** `observe` decides and reports but changes nothing. */
  mode: 'enforce' | 'observe';
  maxKeys: number;
  /** A key-set not seen for so long may be evicted. */
  keyTtlMs: number;
  /** `delta`: all cumulative counts are sent as deltas, merged or not. */
  temporality: 'as-received' | 'delta';
  /** Temporality of merged counts. Levels stay cumulative, since an increment of a level says nothing by itself. */
  mergedTemporality: 'cumulative' | 'delta';
  /** Interval in which merged points of a stream are sent; 0 for with each request. */
  mergeIntervalMs: number;
  /** Maximum distinct series per metric and UTC day; 0 turns counting off. */
  dailyKeys: number;
  /** `enforce`: beyond the limit, new key-sets of the metric are treated as if the table were full. */
  dailyMode: 'observe' | 'enforce';
  /** All that match apply, in this order; later ones take precedence. */
  overrides: readonly MetricOverride[];
}

export const DEFAULT_OPTIONS: LimiterOptions = Object.freeze({
  mode: 'enforce' as const,
  maxKeys: 65_536,
  actAbove: 0.5,
  aggregateScore: 0.75,
  criticalScore: 0.9,
  criticalAction: 'overflow' as const,
  keyTtlMs: 600_000,
  aggregateLabels: [],
  protectedLabels: [],
  gaugeReducer: 'last' as const,
  temporality: 'as-received' as const,
  mergedTemporality: 'cumulative' as const,
  mergeIntervalMs: 0,
  dailyKeys: 0,
  dailyMode: 'observe' as const,
  overrides: [],
});

export class LimiterOptionError extends Error {
  readonly code = 'limiter_option';
}

/** Valid values of an option, and how they are described. */
type Check = [isValid: (value: unknown) => boolean, expected: string];

const inRange = (from: number, to: number) => (value: unknown) =>
  Number(value) >= from && Number(value) <= to;
const isWhole = (from: number, to: number) => (value: unknown) =>
  Number.isInteger(value) && inRange(from, to)(value);
const oneOf = (...values: string[]): Check => [
  (value) => values.includes(value as string),
  `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`,
];
const SHARE: Check = [inRange(0, 1), 'between 0 and 1'];

const POLICY_CHECKS: Partial<Record<string, Check>> = {
  actAbove: SHARE,
  aggregateScore: SHARE,
  criticalScore: SHARE,
  criticalAction: oneOf('drop', 'overflow'),
  gaugeReducer: oneOf('last', 'min', 'max', 'mean', 'sum'),
};
const CHECKS: Partial<Record<string, Check>> = {
  maxKeys: [isWhole(16, 2 ** 22), 'an integer between 16 and 4194304'],
  keyTtlMs: [inRange(1000, Number.POSITIVE_INFINITY), 'at least 1000'],
  mode: oneOf('enforce', 'observe'),
  mergedTemporality: oneOf('cumulative', 'delta'),
  temporality: oneOf('as-received', 'delta'),
  mergeIntervalMs: [inRange(0, Number.POSITIVE_INFINITY), '0 or more'],
  dailyKeys: [isWhole(0, Number.POSITIVE_INFINITY), '0 or more'],
  dailyMode: oneOf('observe', 'enforce'),
  ...POLICY_CHECKS,
};

/** @throws LimiterOptionError naming the option, its value and what was expected */
export function completeOptions(options: Partial<LimiterOptions>): LimiterOptions {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const complete: LimiterOptions = { ...DEFAULT_OPTIONS, ...given };
  check('', complete, CHECKS);
  complete.overrides.forEach((override, i) => {
    const where = `overrides[${i}].`;
    if (typeof override.metric !== 'string' && !(override.metric instanceof RegExp))
      throw wrong(`${where}metric`, override.metric, 'a text or a RegExp');
    check(where, override, POLICY_CHECKS);
  });
  return complete;
}

function check(where: string, options: object, checks: typeof CHECKS): void {
  for (const [name, value] of Object.entries(options)) {
    const [isValid, expected] = checks[name] ?? [];
    if (value !== undefined && isValid && !isValid(value)) throw wrong(where + name, value, expected);
  }
}

function wrong(option: string, value: unknown, expected = ''): LimiterOptionError {
  return new LimiterOptionError(`limiter.${option} is ${JSON.stringify(value)}; expected ${expected}`);
}

/** Whether merged counts are sent as deltas. */
export function mergesToDeltas({ temporality, mergedTemporality }: LimiterOptions): boolean {
  return temporality === 'delta' || mergedTemporality === 'delta';
}

/** The policy of each metric name. */
export function policyOf(options: LimiterOptions): (metric: string) => MetricPolicy {
  const overrides = options.overrides.map(({ metric, ...policy }) => ({
    pattern: patternOf(metric),
    policy,
  }));
  return (metric) => {
    let policy: MetricPolicy = options;
    for (const override of overrides) {
      if (override.pattern.test(metric)) policy = { ...policy, ...override.policy };
    }
    return policy;
  };
}

function patternOf(metric: RegExp | string): RegExp {
  if (typeof metric !== 'string') return new RegExp(metric.source, metric.flags.replace(/[gy]/g, ''));
  const parts = metric.split('*').map((part) => part.replace(/[\\^$.+?()[\]{}|/]/g, '\\$&'));
  return new RegExp(`^${parts.join('[^]*')}$`);
}
