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
    parts: metric.split('*'),
    policy,
  }));
  return (metric) => {
    let policy: MetricPolicy = options;
    for (const override of overrides) {
      if (matches(override.parts, metric)) policy = { ...policy, ...override.policy };
    }
    return policy;
  };
}

/**
 * Whether a name matches a pattern, in which `*` stands for anything. Each part is looked for after the one before and never
 * again, unlike in a regular expression: names come from senders.
 * @param parts the pattern between its `*`
 */
function matches(parts: readonly string[], name: string): boolean {
  const first = parts[0]!;
  if (parts.length === 1) return name === first;
  const last = parts.at(-1)!;
  if (!name.startsWith(first) || !name.endsWith(last)) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= name.length - last.length;
}
