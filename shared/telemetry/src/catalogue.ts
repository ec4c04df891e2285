/**
 * Every metric of the product: the single source of names, types, units, help and labels. The registry is built from it,
 * `docs/metrics.md` is generated from it, dashboards and alerts are tested against it.
 *
 * Label values are from small fixed sets, which `label-values.ts` lists. Nothing that clients send becomes a label value,
 * except names of metrics in `cl_daily_keys`, ten at a time.
 */

export type MetricType = 'counter' | 'gauge' | 'histogram';
export type Service = 'receiver' | 'scheduler' | 'exporter' | 'dlq' | 'every';

export interface MetricSpec<L extends string = string, T extends MetricType = MetricType> {
  type: T;
  /** As on `/metrics`; counters end in `_total`, and units are part of the name. */
  name: string;
  help: string;
  /** The service that reports it. */
  service: Service;
  labels: readonly L[];
  buckets?: readonly number[];
  /**
   * Set if the value belongs to the whole pipeline: it is read from Redis or from the dlq's disk, so all instances report the
   * same one, and queries take its `max`, never its `sum`.
   */
  whole?: true;
  /** Another service that counts a part of it, and so has it too. */
  partOf?: Service;
}

/** Metrics of prom-client that dashboards and alerts use. */
export const PROCESS_METRICS = [
  ['process_resident_memory_bytes', [], 'Memory of the process (RSS).'],
  ['process_cpu_seconds_total', [], 'CPU time of the process.'],
  ['process_start_time_seconds', [], 'Start time, Unix time.'],
  ['process_open_fds', [], 'Open files and sockets.'],
  ['process_max_fds', [], 'Maximum number of open files.'],
  ['nodejs_heap_size_used_bytes', [], 'JavaScript heap in use.'],
  ['nodejs_external_memory_bytes', [], 'Memory of buffers, including payloads.'],
  ['nodejs_eventloop_lag_p99_seconds', [], 'Event loop lag between two scrapes, 99th percentile.'],
  ['nodejs_eventloop_lag_max_seconds', [], 'Event loop lag between two scrapes, maximum.'],
  ['nodejs_gc_duration_seconds', ['kind'], 'Time of garbage collections, by kind (histogram).'],
] as const satisfies readonly (readonly [name: string, labels: readonly string[], help: string])[];

const HOP_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;
const END_TO_END_SECONDS = [
  0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 43200, 259200,
] as const;
const LIMITER_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05] as const;

/** Describes metrics of one service, to all of which `more` applies. Most histograms are of the time of one hop. */
function metricsOf(service: Service, more: Pick<MetricSpec, 'whole' | 'partOf'> = {}) {
  const of =
    <T extends MetricType>(type: T, usualBuckets?: readonly number[]) =>
    <const L extends string = never>(
      name: string,
      help: string,
      labels: readonly L[] = [],
      buckets = usualBuckets,
    ): MetricSpec<L, T> => ({ type, name, help, service, labels, ...(buckets ? { buckets } : {}), ...more });
  return { counter: of('counter'), gauge: of('gauge'), histogram: of('histogram', HOP_SECONDS) };
}

const receiver = metricsOf('receiver');
const scheduler = metricsOf('scheduler');
const exporter = metricsOf('exporter');
const dlq = metricsOf('dlq');
const every = metricsOf('every');
/** For metrics of the whole pipeline, the same from every instance. */
const allReceivers = metricsOf('receiver', { whole: true });
const allSchedulers = metricsOf('scheduler', { whole: true });

export const CATALOGUE = {
  receiverRequests: receiver.counter('receiver_requests_total', 'Requests answered, by HTTP status code.', [
    'signal',
    'code',
  ]),
  receiverItems: receiver.counter('receiver_items_total', 'Items in requests that were acknowledged.', [
    'signal',
  ]),
  receiverBytes: receiver.counter(
    'receiver_bytes_total',
    'Bytes of acknowledged requests: `wire` as received, `body` after decompression.',
    ['signal', 'kind'],
  ),
  receiverRefused: receiver.counter('receiver_refused_total', 'Requests refused, by reason.', [
    'signal',
    'reason',
  ]),
  receiverInflightBytes: receiver.gauge(
    'receiver_inflight_bytes',
    'Bytes of requests in memory now; bounded by receiver.max_inflight.',
  ),
  receiverRequestSeconds: receiver.histogram(
    'receiver_request_seconds',
    'Time from the first header of a request to its answer.',
    ['signal'],
  ),
  clKeysUsed: receiver.gauge(
    'cl_keys_used',
    'Key-sets of all receivers, as known to this one; at most limiter.max_keys.',
  ),
  clKeysLimit: receiver.gauge(
    'cl_keys_limit',
    'Maximum number of key-sets of all receivers: limiter.max_keys.',
  ),
  clDroppedSamples: receiver.counter(
    'cl_dropped_samples_total',
    'Data points the limiter dropped from requests that were acknowledged, by reason.',
    ['reason'],
  ),
  clAggregatedSamples: receiver.counter(
    'cl_aggregated_samples_total',
    'Data points merged into another after a label was removed.',
  ),
  clOverflowSamples: receiver.counter(
    'cl_overflow_samples_total',
    'Data points sent to the otel.metric.overflow stream.',
  ),
  clDailyKeys: allReceivers.gauge(
    'cl_daily_keys',
    'Distinct series since midnight UTC, of all receivers, for the ten metrics with the most; with limiter.daily_keys.',
    ['metric'],
  ),
  clDailyKeysForecast: allReceivers.gauge(
    'cl_daily_keys_forecast',
    'Forecast of those for the end of the UTC day, from the growth of the last hour; absent in its first 35 minutes.',
    ['metric'],
  ),
  clDailyKeysAll: allReceivers.gauge(
    'cl_daily_keys_all',
    'Distinct series since midnight UTC, of all metrics together.',
  ),
  clDailyKeysLimit: allReceivers.gauge(
    'cl_daily_keys_limit',
    'Maximum distinct series of a metric per UTC day: limiter.daily_keys; 0: they are not counted.',
  ),
  clUnknownHistorySamples: receiver.counter(
    'cl_unknown_history_samples_total',
    'First points of merged cumulative sources that are older than the pipeline and were never seen before: what they counted before is unknown and not included.',
  ),
  clSkewedSamples: receiver.counter(
    'cl_skewed_samples_total',
    "Merged points whose time was missing or more than 10 minutes ahead, and was replaced by the receiver's.",
  ),
  clEvictions: receiver.counter('cl_evictions_total', 'Entries evicted from the limiter, by table.', [
    'table',
  ]),
  clLatencySeconds: receiver.histogram(
    'cl_latency_seconds',
    'Time the limiter took for one request.',
    [],
    LIMITER_SECONDS,
  ),
  checkItems: receiver.counter(
    'check_items_total',
    'Items that New Relic would drop, prune or shorten although it answers 200, among those checked (check.sample), by rule.',
    ['rule', 'signal'],
  ),
  checkSampledItems: receiver.counter(
    'check_sampled_items_total',
    'Items that were checked against those rules.',
    ['signal'],
  ),
  checkFixedItems: receiver.counter(
    'check_fixed_items_total',
    'Items of acknowledged requests from which check.fix removed what New Relic would prune or shorten, by rule.',
    ['rule', 'signal'],
  ),
  apqFillRatio: allSchedulers.gauge(
    'apq_fill_ratio',
    'Fill level of the queue: bytes or items, whichever is nearer its limit. 1 is full.',
  ),
  apqClassFillRatio: allSchedulers.gauge(
    'apq_class_fill_ratio',
    'Fill level of the queue of a class by its own limit (queue.per_class), or else by that of the whole queue.',
    ['class'],
  ),
  apqClassSize: allSchedulers.gauge('apq_class_size', 'Items waiting for the scheduler.', [
    'class',
    'origin',
  ]),
  apqClassBytes: allSchedulers.gauge(
    'apq_class_bytes',
    'Bytes waiting for the scheduler, as stored in Redis.',
    ['class', 'origin'],
  ),
  apqOldestAge: allSchedulers.gauge(
    'apq_oldest_age_seconds',
    'Age of the oldest batch waiting for the scheduler.',
    ['class', 'origin'],
  ),
  apqWeightRatio: allSchedulers.gauge(
    'apq_weight_ratio',
    'Target share of a class among the items moved while all classes wait.',
    ['class'],
  ),
  apqDeficitItems: allSchedulers.gauge(
    'apq_deficit_items',
    'Items that a class may have before the class furthest ahead of its share is served again.',
    ['class', 'origin'],
  ),
  apqSlot: allSchedulers.gauge(
    'apq_slot',
    '1 for the origin that has the current time slot while live and replayed batches both wait.',
    ['origin'],
  ),
  apqDecisions: allSchedulers.counter(
    'apq_decisions_total',
    'Jobs moved to the exporters, by all schedulers.',
  ),
  apqMovedItems: metricsOf('scheduler', { partOf: 'receiver' }).counter(
    'apq_moved_items_total',
    'Items moved to the exporters. Those that bypass the scheduler are moved when they are enqueued, and counted by the receiver.',
    ['class'],
  ),
  apqSpill: allSchedulers.counter(
    'apq_spill_total',
    'Items spilled to the dlq instead of sent to the exporters; those that return because the disk is full may spill again.',
    ['class', 'reason'],
  ),
  apqScriptFailures: every.counter(
    'apq_script_failures_total',
    'Scripts that failed in Redis, and changed nothing; without those that Redis refused because of its state, such as out of memory.',
    ['script'],
  ),
  apqBreakerState: allSchedulers.gauge(
    'apq_breaker_state',
    '1 for the state the breaker of a signal is in, 0 for the others.',
    ['state', 'signal'],
  ),
  apqBreakerReason: allSchedulers.gauge(
    'apq_breaker_reason',
    '1 for the reason why the breaker is open or half-open, 0 for the other reasons and while it is closed.',
    ['reason', 'signal'],
  ),
  apqBreakerProbeSeconds: allSchedulers.gauge(
    'apq_breaker_probe_seconds',
    'Time until the breaker tries the upstream again; 0 while it is not open.',
    ['signal'],
  ),
  apqBreakerTransitions: allSchedulers.counter(
    'apq_breaker_transitions_total',
    'Changes of the breaker of a signal, by new state and reason.',
    ['state', 'reason', 'signal'],
  ),
  apqMoveSeconds: scheduler.histogram('apq_move_seconds', 'Time of one weighted move, round trip included.'),
  exporterInflight: exporter.gauge('exporter_inflight', 'Requests to the upstream in flight.'),
  exporterInflightBytes: exporter.gauge('exporter_inflight_bytes', 'Payload bytes in memory for them.'),
  exporterConcurrency: exporter.gauge(
    'exporter_concurrency',
    'Limit on requests in flight now; it adapts to the upstream.',
  ),
  exporterWaitSeconds: exporter.histogram(
    'exporter_wait_seconds',
    'Time from receiving a request to sending its batch: all waiting included, on disk too.',
    ['class', 'origin'],
    END_TO_END_SECONDS,
  ),
  exporterRequests: exporter.counter('exporter_requests_total', 'Requests to the upstream, by outcome.', [
    'signal',
    'outcome',
  ]),
  exporterRequestSeconds: exporter.histogram(
    'exporter_request_seconds',
    'Time the upstream took to answer.',
    ['signal'],
  ),
  exporterSentBytes: exporter.counter('exporter_sent_bytes_total', 'Body bytes sent to the upstream.', [
    'signal',
  ]),
  exporterDeliveredItems: exporter.counter(
    'exporter_delivered_items_total',
    'Items accepted by the upstream.',
    ['signal', 'class'],
  ),
  exporterRejectedItems: exporter.counter(
    'exporter_rejected_items_total',
    'Items rejected by the upstream, by reason.',
    ['signal', 'reason'],
  ),
  exporterRetries: exporter.counter(
    'exporter_retries_total',
    'Failed attempts that will be repeated, by reason.',
    ['signal', 'reason'],
  ),
  dlqUtilization: dlq.gauge('dlq_utilization_ratio', 'Bytes on disk as a share of dlq.capacity. 1 is full.'),
  dlqOldestAge: dlq.gauge(
    'dlq_oldest_age_seconds',
    'Age of the oldest batch on disk; 0 when there is none.',
    ['class'],
  ),
  dlqCorrupted: dlq.counter(
    'dlq_corrupted_total',
    'Damaged places found on disk; their files are quarantined.',
  ),
  dlqItems: dlq.gauge('dlq_items', 'Items on disk, by class; `rejected` separately.', ['area']),
  dlqBytes: dlq.gauge('dlq_disk_bytes', 'Bytes on disk, by class; `rejected` separately.', ['area']),
  dlqSegments: dlq.gauge('dlq_segments', 'Segment files, by class; `rejected` separately.', ['area']),
  dlqFreeBytes: dlq.gauge(
    'dlq_disk_free_bytes',
    'Free bytes of the file system beyond dlq.reserve; at 0 the dlq accepts nothing.',
  ),
  dlqStoredItems: dlq.counter('dlq_stored_items_total', 'Items written to disk.', ['class']),
  dlqStoredBytes: dlq.counter('dlq_stored_bytes_total', 'Payload bytes written to disk, before compression.'),
  dlqReplayedItems: dlq.counter('dlq_replayed_items_total', 'Items returned to the queue.', ['class']),
  dlqReplayedBytes: dlq.counter(
    'dlq_replayed_bytes_total',
    'Payload bytes returned to the queue, uncompressed.',
  ),
  dlqReplayRate: dlq.gauge(
    'dlq_replay_rate_bytes',
    'Bytes per second that replay may use now; at most dlq.replay_rate.',
  ),
  dlqReplayPaused: dlq.gauge('dlq_replay_paused', '1 while an operator has paused replay.'),
  dlqDrainSeconds: dlq.gauge(
    'dlq_drain_seconds',
    'Estimated time until the disk is empty at the current rate.',
  ),
  dlqState: dlq.gauge('dlq_state', '1 for the state the store is in, 0 for the others.', ['state']),
  dlqCommitSeconds: dlq.histogram('dlq_commit_seconds', 'Time from a batch reaching the dlq to its fsync.'),
  pipelineEndToEndSeconds: exporter.histogram(
    'pipeline_end_to_end_seconds',
    'Time from receiving a request until the upstream has acknowledged its delivery.',
    ['signal', 'class', 'origin'],
    END_TO_END_SECONDS,
  ),
  pipelineAccountingItems: allSchedulers.gauge(
    'pipeline_accounting_items',
    'The books, in items: accepted = delivered + queued + on_disk + rejected + dropped. `difference` is 0 when nothing moves.',
    ['state'],
  ),
  pipelineDroppedItems: allSchedulers.counter(
    'pipeline_dropped_items_total',
    'Items accounted for as dropped, by reason. What the limiter drops was never accepted: cl_dropped_samples_total.',
    ['reason'],
  ),
  pipelineAccountPerMinute: allSchedulers.gauge(
    'pipeline_account_per_minute',
    'What all exporters sent in the last minute, failed attempts included, where exporter.account_limits has a limit: `requests` of the signal with the most, `points` of metrics, `records` (spans and log records), `bytes` as sent.',
    ['of'],
  ),
  pipelineAccountLimitPerMinute: allSchedulers.gauge(
    'pipeline_account_limit_per_minute',
    'Limits of the account per minute: exporter.account_limits.',
    ['of'],
  ),
  redisUp: every.gauge('pipeline_redis_up', '1 while Redis can be used, by purpose of the connection.', [
    'connection',
  ]),
  certificateExpiry: every.gauge(
    'pipeline_certificate_expiry_timestamp_seconds',
    'Expiry of the certificates of this process, Unix time, by use.',
    ['use'],
  ),
  redisReconnects: every.counter(
    'pipeline_redis_reconnects_total',
    'Connections to Redis that were re-established.',
  ),
  redisMemoryBytes: allSchedulers.gauge('pipeline_redis_memory_bytes', 'Memory Redis uses (used_memory).'),
  redisMemoryLimitBytes: allSchedulers.gauge(
    'pipeline_redis_memory_limit_bytes',
    'Memory Redis may use (maxmemory); 0: no limit of its own.',
  ),
  redisRoundTripSeconds: every.histogram(
    'pipeline_redis_round_trip_seconds',
    'Time of one step in Redis, round trip included; its count is that of the round trips.',
    ['step'],
  ),
  telemetryRequests: every.counter(
    'pipeline_telemetry_requests_total',
    "Requests with the process's own metrics (telemetry.otlp), by outcome.",
    ['outcome'],
  ),
  telemetryPoints: every.counter(
    'pipeline_telemetry_points_total',
    'Points of its own metrics that were delivered. Those that go through the pipeline are in its accounting too.',
  ),
  buildInfo: every.gauge('pipeline_build_info', 'Always 1; the labels say what is running.', [
    'version',
    'node',
  ]),
  duplicateHandOvers: every.counter(
    'pipeline_duplicate_handovers_total',
    'Hand-overs and settlements that had happened before, because of a crash or a stall.',
  ),
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof CATALOGUE;
