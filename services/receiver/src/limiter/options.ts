import type { Config } from '@nrdot/config';

/** Options of a limiter that is on. */
export type LimiterOptions = Omit<Config['limiter'], 'mode'> & {
  /** `observe` decides and reports but changes nothing. */
  mode: Exclude<Config['limiter']['mode'], 'off'>;
};

/**
 * Options that may be overridden per metric. For scale: with `max_keys` at 65,536, a label with 4,096 equally likely values has a
 * score of 0.75, one with about 21,600 has 0.90.
 */
export type MetricPolicy = Pick<
  LimiterOptions,
  | ('actAbove' | 'aggregateScore' | 'criticalScore' | 'criticalAction')
  | ('aggregateLabels' | 'protectedLabels' | 'gaugeReducer')
>;

export type GaugeReducer = LimiterOptions['gaugeReducer'];

/** Whether merged counts are sent as deltas. */
export function mergesToDeltas({ temporality, mergedTemporality }: LimiterOptions): boolean {
  return temporality === 'delta' || mergedTemporality === 'delta';
}

/** The policy of each metric name: all overrides that match apply, in order; later ones take precedence. */
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

/** `*` stands for anything. */
function patternOf(metric: string): RegExp {
  const parts = metric.split('*').map((part) => part.replace(/[\\^$.+?()[\]{}|/]/g, '\\$&'));
  return new RegExp(`^${parts.join('[^]*')}$`);
}
