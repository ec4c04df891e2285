const words = (text: string): readonly string[] => text.split(' ');

const SPILL = words('fill breaker:failures breaker:quota breaker:auth breaker:place retries_exhausted');
const REFUSED_FOR_GOOD = words('too_large status_400 status_409 status_422 status_<code>');
const STEPS = [
  ...words('enqueue move take settle leave hand_over report report_disk drain book publish'),
  ...words('read_outcomes forget_outcomes lease'),
];
const CHECKED_SIGNALS = words('traces metrics logs');
const FIXED_RULES = [
  ...words('attribute_type attribute_array attribute_bytes attribute_named_as_metric'),
  ...words('attributes_too_many exemplar span_link attribute_name attribute_value'),
];
const BREAKER_STATES = words('closed open half_open');
const BREAKER_REASONS = words('failures quota auth place');

/**
 * The values of each label: by the name of the label, or of metric and label where it means something else. Counters whose
 * labels all have fixed values are on `/metrics` from the start, at 0. `<…>` stands for bounded values that are not known
 * beforehand, such as a status code.
 */
const LABEL_VALUES: Readonly<Record<string, readonly string[]>> = {
  signal: words('traces metrics logs profiles'),
  class: words('critical high normal'),
  origin: words('live replay'),
  area: words('critical high normal rejected'),
  kind: words('wire body'),
  table: words('keys sources outputs metrics'),
  rule: [
    ...words('metric_too_old metric_too_new log_too_old not_finite delta_level span_incomplete'),
    ...FIXED_RULES,
  ],
  'check_items_total.signal': CHECKED_SIGNALS,
  'check_fixed_items_total.rule': FIXED_RULES,
  'check_fixed_items_total.signal': CHECKED_SIGNALS,
  'check_sampled_items_total.signal': CHECKED_SIGNALS,
  metric: ['<name>'],
  of: words('requests points records bytes'),
  connection: words('receiver scheduler exporter dlq'),
  use: words('receiver admin dlq dlq_client upstream redis telemetry'),
  step: STEPS,
  script: STEPS,
  version: ['<version>'],
  node: ['<version>'],
  outcome: words('delivered retry hold too-large rejected'),
  'receiver_requests_total.code': words('200 400 401 405 413 415 500 503 <code>'),
  'receiver_refused_total.reason': [
    ...words(
      'malformed too_large content_type content_encoding transfer_encoding method unauthorized client_gone',
    ),
    ...words('inflight_bytes too_slow queue_full not_kept redis_full redis_unavailable nowhere_durable'),
    ...words('limiter_starting limiter_contended no_writer no_ledger bad_request internal'),
  ],
  'cl_dropped_samples_total.reason': words(
    'critical full daily unmergeable not_finite tracker_full histogram_bounds',
  ),
  'apq_spill_total.reason': [...SPILL, ...REFUSED_FOR_GOOD.map((reason) => `rejected:${reason}`)],
  'apq_breaker_state.state': BREAKER_STATES,
  'apq_breaker_reason.reason': BREAKER_REASONS,
  'apq_breaker_transitions_total.state': BREAKER_STATES,
  'apq_breaker_transitions_total.reason': [...BREAKER_REASONS, 'probe', 'time'],
  'exporter_rejected_items_total.reason': ['partial_success', ...REFUSED_FOR_GOOD],
  'exporter_retries_total.reason': words('throttled unavailable server_error connection timeout auth place'),
  'dlq_state.state': words('ok full disk_full disk_failing'),
  'pipeline_accounting_items.state': words('accepted delivered queued on_disk rejected dropped difference'),
  'pipeline_dropped_items_total.reason': [
    ...words('partial_success too_old corrupted retention capacity rejected_retention rejected_capacity'),
    ...words('purged redis_lost unaccounted'),
  ],
};

/** The values of a label of a metric, placeholders included. */
export function labelValues(metric: string, label: string): readonly string[] {
  return LABEL_VALUES[`${metric}.${label}`] ?? LABEL_VALUES[label] ?? [];
}

/** Every combination of label values; undefined if one of them is a placeholder. */
export function labelSets(metric: string, labels: readonly string[]): Record<string, string>[] | undefined {
  let sets: Record<string, string>[] = [{}];
  for (const label of labels) {
    const values = labelValues(metric, label).filter((value) => !value.includes('<'));
    if (values.length === 0) return undefined;
    sets = sets.flatMap((set) => values.map((value) => ({ ...set, [label]: value })));
  }
  return sets;
}
