/**
 * The values of each label: by the name of the label, or of metric and label where it means something else. Counters whose
 * labels all have fixed values are on `/metrics` from the start, at 0. `<…>` stands for bounded values that are not known
 * beforehand, such as a status code.
 */
const SPILL = [
  'fill',
  'breaker:failures',
  'breaker:quota',
  'breaker:auth',
  'breaker:place',
  'retries_exhausted',
];
const REFUSED_FOR_GOOD = ['too_large', 'status_400', 'status_409', 'status_422', 'status_<code>'];

const STEPS = [
  ...[
    'enqueue',
    'move',
    'take',
    'settle',
    'leave',
    'hand_over',
    'report',
    'report_disk',
    'drain',
    'sift',
    'book',
    'publish',
  ],
  ...['read_outcomes', 'forget_outcomes'],
];

const LABEL_VALUES: Readonly<Record<string, readonly string[]>> = {
  signal: ['traces', 'metrics', 'logs', 'profiles'],
  class: ['critical', 'high', 'normal'],
  origin: ['live', 'replay'],
  area: ['critical', 'high', 'normal', 'rejected'],
  kind: ['wire', 'body'],
  table: ['keys', 'sources', 'outputs', 'metrics'],
  rule: [
    ...['metric_too_old', 'metric_too_new', 'log_too_old', 'not_finite', 'delta_level', 'span_incomplete'],
    ...['attribute_type', 'attribute_array', 'attribute_bytes', 'attribute_named_as_metric'],
    ...['attributes_too_many', 'exemplar', 'span_link', 'attribute_name', 'attribute_value'],
  ],
  'check_items_total.signal': ['traces', 'metrics', 'logs'],
  'check_fixed_items_total.rule': [
    ...['attribute_type', 'attribute_array', 'attribute_bytes', 'attribute_named_as_metric'],
    ...['attributes_too_many', 'exemplar', 'span_link', 'attribute_name', 'attribute_value'],
  ],
  'check_fixed_items_total.signal': ['traces', 'metrics', 'logs'],
  'check_sampled_items_total.signal': ['traces', 'metrics', 'logs'],
  metric: ['<name>'],
  of: ['requests', 'points', 'records', 'bytes'],
  connection: ['receiver', 'scheduler', 'scheduler-wait', 'exporter', 'dlq', 'dlq-worker'],
  use: ['receiver', 'admin', 'dlq', 'upstream', 'redis'],
  step: STEPS,
  script: STEPS,
  version: ['<version>'],
  node: ['<version>'],
  outcome: ['delivered', 'retry', 'hold', 'too-large', 'rejected'],
  'receiver_requests_total.code': ['200', '400', '401', '405', '413', '415', '500', '503', '<code>'],
  'receiver_refused_total.reason': [
    'malformed',
    'too_large',
    'content_type',
    'content_encoding',
    'method',
    'unauthorized',
    'client_gone',
    'inflight_bytes',
    'too_slow',
    'queue_full',
    'not_kept',
    'redis_full',
    'redis_unavailable',
    'nowhere_durable',
    'limiter_starting',
    'limiter_contended',
    'no_writer',
    'no_ledger',
    'bad_request',
    'internal',
  ],
  'cl_dropped_samples_total.reason': [
    'critical',
    'full',
    'daily',
    'unmergeable',
    'not_finite',
    'tracker_full',
    'histogram_bounds',
  ],
  'apq_spill_total.reason': [...SPILL, ...REFUSED_FOR_GOOD.map((reason) => `rejected:${reason}`)],
  'apq_breaker_state.state': ['closed', 'open', 'half_open'],
  'apq_breaker_reason.reason': ['failures', 'quota', 'auth', 'place'],
  'apq_breaker_transitions_total.state': ['closed', 'open', 'half_open'],
  'apq_breaker_transitions_total.reason': ['failures', 'quota', 'auth', 'place', 'probe', 'time'],
  'exporter_rejected_items_total.reason': ['partial_success', ...REFUSED_FOR_GOOD],
  'exporter_retries_total.reason': [
    'throttled',
    'unavailable',
    'server_error',
    'connection',
    'timeout',
    'auth',
    'place',
  ],
  'dlq_state.state': ['ok', 'full', 'disk_full', 'disk_failing'],
  'pipeline_accounting_items.state': [
    'accepted',
    'delivered',
    'queued',
    'on_disk',
    'rejected',
    'dropped',
    'difference',
  ],
  'pipeline_dropped_items_total.reason': [
    ...['partial_success', 'too_old', 'corrupted', 'retention', 'capacity'],
    ...['rejected_retention', 'rejected_capacity', 'purged'],
    ...['redis_lost', 'unaccounted'],
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

/** Whether a label may have this value. */
export function isLabelValue(metric: string, label: string, value: string): boolean {
  return labelValues(metric, label).some(
    (known) =>
      known === value || (known.includes('<') && value.startsWith(known.slice(0, known.indexOf('<')))),
  );
}
