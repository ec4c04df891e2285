/** The alerts for people on call: each defined once, for Prometheus and for New Relic. */

export interface Alert {
  name: string;
  /** Written above the rule. */
  comment?: string;
  promql: string;
  /** How long the condition must hold. */
  for?: string;
  /** critical: act now; warning: act today. */
  severity: 'critical' | 'warning';
  /** As a Prometheus template. */
  summary: string;
  description: string;
  /** The condition, or why New Relic cannot have one. */
  newRelic: Condition | string;
}

/** A query over `Metric`, by pipeline, and the value that opens an incident. */
export interface Condition {
  select: string;
  where?: string;
  /** In addition to the pipeline, which is `service.namespace`. */
  facet?: readonly string[];
  /** Opens an incident above a value, by default 0, or below one. */
  above?: number;
  below?: number;
  /** Window of the query, and how often it slides if not once per window. */
  windowSeconds: number;
  slideSeconds?: number;
  /** How long the condition must hold: whole windows, by default one. */
  forSeconds?: number;
  /** Also opens an incident after so long without data. */
  lostAfterSeconds?: number;
}

type Unnamed = Omit<Alert, 'name' | 'severity'>;
const critical = (name: string, alert: Unnamed): Alert => ({ name, severity: 'critical', ...alert });
const warning = (name: string, alert: Unnamed): Alert => ({ name, severity: 'warning', ...alert });

/** By section. */
export const ALERTS: Readonly<Record<string, readonly Alert[]>> = {
  Receiving: [
    critical('NrdotDown', {
      promql: 'up{job=~".*nrdot.*"} == 0',
      for: '2m',
      summary: '{{ $labels.instance }} does not answer',
      description:
        'Prometheus has not been able to read the metrics of {{ $labels.instance }} ({{ $labels.job }}) for 2 minutes.',
      newRelic:
        'New Relic does not scrape: a process that is gone sends nothing, whether it failed or was stopped on purpose. NrdotServiceMissing fires when no process of a service is left',
    }),
    critical('NrdotServiceMissing', {
      promql: [
        'label_replace(absent(receiver_inflight_bytes), "service", "receiver", "", "")',
        'or label_replace(absent(apq_fill_ratio), "service", "scheduler", "", "")',
        'or label_replace(absent(exporter_concurrency), "service", "exporter", "", "")',
        'or label_replace(absent(dlq_utilization_ratio), "service", "dlq", "", "")',
      ].join('\n'),
      for: '5m',
      summary: 'no {{ $labels.service }} is running',
      description: 'No {{ $labels.service }} has been scraped for 5 minutes; data that depends on it waits.',
      newRelic: {
        select: 'count(*)',
        where: "metricName = 'pipeline_build_info'",
        facet: ['service.name'],
        below: 1,
        windowSeconds: 60,
        forSeconds: 300,
        lostAfterSeconds: 300,
      },
    }),
    warning('NrdotRestarting', {
      promql: 'changes(process_start_time_seconds{job=~".*nrdot.*"}[30m]) > 3',
      summary: '{{ $labels.instance }} keeps restarting',
      description: '{{ $labels.instance }} ({{ $labels.job }}) was started {{ $value }} times in 30 minutes.',
      newRelic: 'NRQL cannot count the changes of a gauge',
    }),
    critical('NrdotReceiverRefusing', {
      promql: [
        'sum by (job, namespace) (rate(receiver_requests_total{code=~"5.."}[5m]))',
        '/ sum by (job, namespace) (rate(receiver_requests_total[5m])) > 0.01',
      ].join('\n'),
      for: '5m',
      summary: 'clients are refused',
      description:
        '{{ $value | humanizePercentage }} of requests to {{ $labels.job }} get a 5xx: clients keep their data and retry, for as long as they can.',
      newRelic: {
        select: "filter(sum(receiver_requests_total), WHERE code LIKE '5%') / sum(receiver_requests_total)",
        above: 0.01,
        windowSeconds: 300,
      },
    }),
    warning('NrdotLimiterDropping', {
      promql: 'sum by (job, namespace) (rate(cl_dropped_samples_total[10m])) > 0',
      for: '10m',
      summary: 'the cardinality limiter drops points',
      description:
        '{{ $value | humanize }} points per second are dropped by the limiter of {{ $labels.job }}; their senders are informed.',
      newRelic: { select: 'sum(cl_dropped_samples_total)', windowSeconds: 600 },
    }),
    warning('NrdotDailyKeys', {
      promql: [
        'max by (job, namespace, metric) (cl_daily_keys)',
        '/ on (job, namespace) group_left () max by (job, namespace) (cl_daily_keys_limit > 0) > 0.8',
      ].join('\n'),
      for: '5m',
      summary: '{{ $labels.metric }} is close to its daily limit of series',
      description:
        '{{ $labels.metric }} of {{ $labels.job }} has had {{ $value | humanizePercentage }} of its limit of series for this UTC day. Beyond it, New Relic makes no roll-ups of the metric until midnight.',
      newRelic:
        'NRQL divides within a facet, but the limit applies to all metrics; New Relic shows it under Cardinality Management',
    }),
  ],
  'The upstream': [
    warning('NrdotBreakerOpen', {
      promql: 'max by (job, namespace, signal) (1 - apq_breaker_state{state="closed"}) == 1',
      for: '2m',
      summary: 'the upstream does not accept {{ $labels.signal }}',
      description:
        'The breaker of {{ $labels.job }} for {{ $labels.signal }} has not been closed for 2 minutes: new data of that signal goes to disk.',
      newRelic: {
        select: '1 - latest(apq_breaker_state)',
        where: "state = 'closed'",
        facet: ['signal'],
        windowSeconds: 60,
        forSeconds: 120,
      },
    }),
    critical('NrdotUpstreamAuth', {
      promql: 'sum by (job, namespace, signal) (increase(exporter_retries_total{reason="auth"}[5m])) > 0',
      summary: 'the upstream refuses the key for {{ $labels.signal }}',
      description:
        'The upstream answers {{ $labels.signal }} of {{ $labels.job }} with 401 or 403. Nothing is lost, but none of them are delivered until the key is corrected.',
      newRelic: {
        select: 'sum(exporter_retries_total)',
        where: "reason = 'auth'",
        facet: ['signal'],
        windowSeconds: 300,
      },
    }),
    critical('NrdotUpstreamPlace', {
      promql: 'sum by (job, namespace, signal) (increase(exporter_retries_total{reason="place"}[5m])) > 0',
      for: '1m',
      summary: 'the address for {{ $labels.signal }} does not answer like an upstream',
      description:
        'The address for {{ $labels.signal }} of {{ $labels.job }} does not answer like an OTLP upstream (404, a redirect, an HTML page). Nothing is lost, but none of them are delivered until that is fixed.',
      newRelic: {
        select: 'sum(exporter_retries_total)',
        where: "reason = 'place'",
        facet: ['signal'],
        windowSeconds: 300,
      },
    }),
    warning('NrdotRejected', {
      comment: 'increase() misses the first rejection of a new series; the accounting has it.',
      promql: [
        'sum by (job, namespace) (increase(exporter_rejected_items_total[15m])) > 0',
        'or max by (job, namespace) (delta(pipeline_accounting_items{state="rejected"}[15m])) > 0',
      ].join('\n'),
      summary: 'the upstream rejects data',
      description: 'The upstream rejected {{ $value | humanize }} items of {{ $labels.job }} in 15 minutes.',
      newRelic: { select: 'sum(exporter_rejected_items_total)', windowSeconds: 900, slideSeconds: 300 },
    }),
    critical('NrdotAllRejected', {
      promql: [
        'sum by (job, namespace) (increase(exporter_rejected_items_total[5m])) > 0',
        'unless sum by (job, namespace) (increase(exporter_delivered_items_total[5m])) > 0',
      ].join('\n'),
      for: '2m',
      summary: 'the upstream rejects all data',
      description:
        'The upstream rejected {{ $value | humanize }} items of {{ $labels.job }} in 5 minutes and accepted none.',
      newRelic: {
        select:
          'sum(exporter_rejected_items_total) / (sum(exporter_rejected_items_total) + sum(exporter_delivered_items_total))',
        above: 0.999999,
        windowSeconds: 300,
      },
    }),
    warning('NrdotAccountLimit', {
      promql: [
        'max by (job, namespace, of) (pipeline_account_per_minute)',
        '/ max by (job, namespace, of) (pipeline_account_limit_per_minute) > 0.8',
      ].join('\n'),
      for: '5m',
      summary: 'the account is close to its limit of {{ $labels.of }} a minute',
      description:
        '{{ $labels.job }} sends {{ $value | humanizePercentage }} of the {{ $labels.of }} a minute that the account allows (exporter.account_limits). Beyond that the upstream answers 429.',
      newRelic: {
        select: 'max(pipeline_account_per_minute) / max(pipeline_account_limit_per_minute)',
        facet: ['of'],
        above: 0.8,
        windowSeconds: 60,
        forSeconds: 300,
      },
    }),
  ],
  'The queue': [
    warning('NrdotQueueFilling', {
      promql: 'max by (job, namespace) (apq_fill_ratio) > 0.8',
      for: '10m',
      summary: 'the queue is filling up',
      description:
        'The queue of {{ $labels.job }} is {{ $value | humanizePercentage }} full. From 95 % new data goes to disk.',
      newRelic: { select: 'max(apq_fill_ratio)', above: 0.8, windowSeconds: 60, forSeconds: 600 },
    }),
    warning('NrdotSpilling', {
      promql:
        'sum by (job, namespace) (max by (job, namespace, class) (rate(apq_spill_total{reason="fill"}[5m]))) > 0',
      for: '5m',
      summary: 'more data arrives than is sent',
      description:
        '{{ $value | humanize }} items per second of {{ $labels.job }} go to disk because the queue is full.',
      newRelic: { select: 'sum(apq_spill_total)', where: "reason = 'fill'", windowSeconds: 300 },
    }),
    warning('NrdotLate', {
      promql: 'max by (job, namespace) (apq_oldest_age_seconds{class="critical", origin="live"}) > 60',
      for: '5m',
      summary: 'critical data is late',
      description: 'Critical data of {{ $labels.job }} has been waiting for {{ $value | humanizeDuration }}.',
      newRelic: {
        select: 'max(apq_oldest_age_seconds)',
        where: "class = 'critical' AND origin = 'live'",
        above: 60,
        windowSeconds: 60,
        forSeconds: 300,
      },
    }),
    critical('NrdotRedisAway', {
      promql: 'min by (job, namespace, instance) (pipeline_redis_up) == 0',
      for: '1m',
      summary: '{{ $labels.instance }} cannot use Redis',
      description:
        'A connection of {{ $labels.instance }} ({{ $labels.job }}) has had no usable Redis for a minute.',
      newRelic: {
        select: 'min(pipeline_redis_up)',
        facet: ['service.instance.id'],
        below: 1,
        windowSeconds: 60,
      },
    }),
    critical('NrdotRedisMemory', {
      promql: [
        'max by (job, namespace) (pipeline_redis_memory_bytes)',
        '/ (max by (job, namespace) (pipeline_redis_memory_limit_bytes) > 0) > 0.9',
      ].join('\n'),
      for: '5m',
      summary: 'Redis is nearly out of memory',
      description:
        'Redis of {{ $labels.job }} uses {{ $value | humanizePercentage }} of maxmemory; at 100 % it accepts no more writes.',
      newRelic: {
        select: 'max(pipeline_redis_memory_bytes) / max(pipeline_redis_memory_limit_bytes)',
        above: 0.9,
        windowSeconds: 60,
        forSeconds: 300,
      },
    }),
  ],
  'The disk': [
    warning('NrdotDlqFullIn12h', {
      promql: [
        'max by (job, namespace) (predict_linear(dlq_utilization_ratio[1h], 12 * 3600)) > 1',
        'or min by (job, namespace) (predict_linear(dlq_disk_free_bytes[1h], 12 * 3600)) < 0',
      ].join('\n'),
      for: '30m',
      summary: 'the disk will be full within 12 hours',
      description:
        'At the rate of the last hour, the dlq of {{ $labels.job }} will have no room in 12 hours.',
      newRelic:
        'New Relic does not document predictLinear for alert conditions; the page DLQ of the dashboard shows "Use in 12 h", and NrdotDlqFull fires when it is full',
    }),
    critical('NrdotDlqFullIn4h', {
      promql: [
        'max by (job, namespace) (predict_linear(dlq_utilization_ratio[30m], 4 * 3600)) > 1',
        'or min by (job, namespace) (predict_linear(dlq_disk_free_bytes[30m], 4 * 3600)) < 0',
      ].join('\n'),
      for: '10m',
      summary: 'the disk will be full within 4 hours',
      description:
        'At the rate of the last half hour, the dlq of {{ $labels.job }} will have no room in 4 hours.',
      newRelic: 'as for NrdotDlqFullIn12h',
    }),
    critical('NrdotDlqFull', {
      promql: 'max by (job, namespace) (dlq_state{state=~"full|disk_full"}) == 1',
      for: '1m',
      summary: 'the disk accepts no more data',
      description:
        'The dlq of {{ $labels.job }} is full: data to be spilled stays in Redis, and when that is full, clients are refused.',
      newRelic: { select: 'max(dlq_state)', where: "state IN ('full', 'disk_full')", windowSeconds: 60 },
    }),
    critical('NrdotDiskFailing', {
      promql: 'max by (job, namespace) (dlq_state{state="disk_failing"}) == 1',
      for: '1m',
      summary: 'the disk is failing',
      description:
        'The disk of the dlq of {{ $labels.job }} reports errors; the log of the dlq has the details.',
      newRelic: { select: 'max(dlq_state)', where: "state = 'disk_failing'", windowSeconds: 60 },
    }),
    warning('NrdotDlqOld', {
      promql: 'max by (job, namespace) (dlq_oldest_age_seconds) > 86400',
      for: '10m',
      summary: 'data has been on disk for a day',
      description:
        'The oldest batch on disk of {{ $labels.job }} is {{ $value | humanizeDuration }} old; it is dropped after dlq.retention.',
      newRelic: { select: 'max(dlq_oldest_age_seconds)', above: 86400, windowSeconds: 60, forSeconds: 600 },
    }),
    warning('NrdotReplayNotDraining', {
      promql: [
        'sum by (job, namespace) (dlq_items{area!="rejected"}) > 0',
        'and sum by (job, namespace) (rate(dlq_replayed_items_total[10m])) == 0',
        'and min by (job, namespace) (apq_breaker_state{state="closed"}) == 1',
      ].join('\n'),
      for: '10m',
      summary: 'the disk does not drain',
      description:
        '{{ $value | humanize }} items of {{ $labels.job }} are on disk and the upstream works, but none is replayed.',
      newRelic: 'it needs three values, but a condition has one; NrdotDlqOld fires later',
    }),
    critical('NrdotCorruption', {
      promql: 'sum by (job, namespace, instance) (dlq_corrupted_total) > 0',
      summary: 'data on disk is damaged',
      description:
        '{{ $labels.instance }} ({{ $labels.job }}) found {{ $value }} damaged places; their data is in quarantine.',
      newRelic: { select: 'sum(dlq_corrupted_total)', facet: ['service.instance.id'], windowSeconds: 300 },
    }),
  ],
  Certificates: [
    warning('NrdotCertificateExpires', {
      promql:
        'min by (job, namespace, instance, use) (pipeline_certificate_expiry_timestamp_seconds) - time() < 7 * 86400',
      for: '15m',
      summary: 'a certificate expires soon',
      description:
        'The certificate for {{ $labels.use }} of {{ $labels.instance }} ({{ $labels.job }}) expires in {{ $value | humanizeDuration }}.',
      newRelic: {
        select: 'min(pipeline_certificate_expiry_timestamp_seconds) - max(timestamp) / 1000',
        facet: ['service.instance.id', 'use'],
        below: 604800,
        windowSeconds: 300,
        forSeconds: 900,
      },
    }),
  ],
  'The books': [
    critical('NrdotItemsDropped', {
      promql:
        'max by (job, namespace, reason) (increase(pipeline_dropped_items_total{reason!~"partial_success|purged"}[15m])) > 0',
      summary: 'accepted data was dropped',
      description:
        '{{ $value | humanize }} items of {{ $labels.job }} were dropped in 15 minutes: {{ $labels.reason }}.',
      newRelic: {
        select: 'sum(pipeline_dropped_items_total)',
        where: "reason NOT IN ('partial_success', 'purged')",
        facet: ['reason'],
        windowSeconds: 900,
        slideSeconds: 300,
      },
    }),
    warning('NrdotDropped', {
      comment: 'For any reason, including purges by an operator and rejections in a partial success.',
      promql: 'max by (job, namespace) (delta(pipeline_accounting_items{state="dropped"}[1h])) > 0',
      summary: 'items were dropped',
      description:
        '{{ $value | humanize }} accepted items of {{ $labels.job }} were dropped in the last hour.',
      newRelic: { select: 'sum(pipeline_dropped_items_total)', windowSeconds: 3600, slideSeconds: 300 },
    }),
    critical('NrdotBooksDoNotBalance', {
      comment:
        'While data moves, the counts are read one after the other: items that move within 5 s are not a difference.',
      promql: [
        'max by (job, namespace) (abs(pipeline_accounting_items{state="difference"}))',
        '> 5 * clamp_min(max by (job, namespace) (deriv(pipeline_accounting_items{state="accepted"}[15m])), 0)',
        '+ 5 * clamp_min(max by (job, namespace) (deriv(pipeline_accounting_items{state="delivered"}[15m])), 0)',
      ].join('\n'),
      for: '15m',
      summary: 'the books do not balance',
      description: '{{ $value | humanize }} items of {{ $labels.job }} are not where the accounting says.',
      newRelic:
        'its threshold depends on how much moves, but a threshold in New Relic is constant; `nrdot status` says whether the books balance',
    }),
  ],
};
