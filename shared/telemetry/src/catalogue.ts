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
  /** The service that has it. */
  service: Service;
  labels: readonly L[];
  buckets?: readonly number[];
  /**
   * Set if the value is read from Redis or from the dlq's disk: every instance reports the same total, so queries take its
   * `max`, never its `sum`.
   */
  whole?: true;
  /** Another service that counts a part of it. */
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

function spec<T extends MetricType>(type: T) {
  return <const L extends readonly string[]>(
    service: Service,
    name: string,
    help: string,
    labels: L,
    buckets?: readonly number[],
  ): MetricSpec<L[number], T> => ({ type, name, help, service, labels, ...(buckets ? { buckets } : {}) });
}
const counter = spec('counter');
const gauge = spec('gauge');
const histogram = spec('histogram');

/** A value of which every instance reports the total. */
function whole<S extends MetricSpec>(metric: S): S {
  return { ...metric, whole: true };
}

/** A value of which another service counts a part. */
function shared<S extends MetricSpec>(partOf: Service, metric: S): S {
  return { ...metric, partOf };
}

export const CATALOGUE = {
  receiverRequests: counter(
    'receiver',
    'receiver_requests_total',
    'Requests answered, by HTTP status code.',
    ['signal', 'code'],
  ),
  receiverItems: counter('receiver', 'receiver_items_total', 'Items in requests that were acknowledged.', [
    'signal',
  ]),
  receiverBytes: counter(
    'receiver',
    'receiver_bytes_total',
    'Bytes of acknowledged requests: `wire` as received, `body` after decompression.',
    ['signal', 'kind'],
  ),
  receiverRefused: counter('receiver', 'receiver_refused_total', 'Requests refused, by reason.', [
    'signal',
    'reason',
  ]),
  receiverInflightBytes: gauge(
    'receiver',
    'receiver_inflight_bytes',
    'Bytes of requests in memory now; bounded by receiver.max_inflight.',
    [],
  ),
  receiverRequestSeconds: histogram(
    'receiver',
    'receiver_request_seconds',
    'Time from the first header of a request to its answer.',
    ['signal'],
    HOP_SECONDS,
  ),
  clKeysUsed: gauge(
    'receiver',
    'cl_keys_used',
    'Key-sets of all receivers, as known to this one; at most limiter.max_keys.',
    [],
  ),
  clKeysLimit: gauge(
    'receiver',
    'cl_keys_limit',
    'Maximum number of key-sets of all receivers: limiter.max_keys.',
    [],
  ),
  clDroppedSamples: counter(
    'receiver',
    'cl_dropped_samples_total',
    'Data points the limiter dropped from requests that were acknowledged, by reason.',
    ['reason'],
  ),
  clAggregatedSamples: counter(
    'receiver',
    'cl_aggregated_samples_total',
    'Data points merged into another after a label was removed.',
    [],
  ),
  clOverflowSamples: counter(
    'receiver',
    'cl_overflow_samples_total',
    'Data points sent to the otel.metric.overflow stream.',
    [],
  ),
  clDailyKeys: whole(
    gauge(
      'receiver',
      'cl_daily_keys',
      'Distinct series since midnight UTC, of all receivers, for the ten metrics with the most; with limiter.daily_keys.',
      ['metric'],
    ),
  ),
  clDailyKeysForecast: whole(
    gauge(
      'receiver',
      'cl_daily_keys_forecast',
      'Forecast of those for the end of the UTC day, from the growth of the last hour; absent in its first 35 minutes.',
      ['metric'],
    ),
  ),
  clDailyKeysAll: whole(
    gauge(
      'receiver',
      'cl_daily_keys_all',
      'Distinct series since midnight UTC, of all metrics together.',
      [],
    ),
  ),
  clDailyKeysLimit: whole(
    gauge(
      'receiver',
      'cl_daily_keys_limit',
      'Maximum distinct series of a metric per UTC day: limiter.daily_keys; 0: they are not counted.',
      [],
    ),
  ),
  clUnknownHistorySamples: counter(
    'receiver',
    'cl_unknown_history_samples_total',
    'First points of merged cumulative sources that are older than the pipeline and were never seen before: what they counted before is unknown and not included.',
    [],
  ),
  clSkewedSamples: counter(
    'receiver',
    'cl_skewed_samples_total',
    "Merged points whose time was missing or more than 10 minutes ahead, and was replaced by the receiver's.",
    [],
  ),
  clEvictions: counter('receiver', 'cl_evictions_total', 'Entries evicted from the limiter, by table.', [
    'table',
  ]),
  clLatencySeconds: histogram(
    'receiver',
    'cl_latency_seconds',
    'Time the limiter took for one request.',
    [],
    LIMITER_SECONDS,
  ),
  checkItems: counter(
    'receiver',
    'check_items_total',
    'Items that New Relic would drop, prune or shorten although it answers 200, among those checked (check.sample), by rule.',
    ['rule', 'signal'],
  ),
  checkSampledItems: counter(
    'receiver',
    'check_sampled_items_total',
    'Items that were checked against those rules.',
    ['signal'],
  ),
  checkFixedItems: counter(
    'receiver',
    'check_fixed_items_total',
    'Items of acknowledged requests from which check.fix removed what New Relic would prune or shorten, by rule.',
    ['rule', 'signal'],
  ),
  apqFillRatio: whole(
    gauge(
      'scheduler',
      'apq_fill_ratio',
      'Fill level of the queue: bytes or items, whichever is nearer its limit. 1 is full.',
      [],
    ),
  ),
  apqClassFillRatio: whole(
    gauge(
      'scheduler',
      'apq_class_fill_ratio',
      'Fill level of the queue of a class by its own limit (queue.per_class), or else by that of the whole queue.',
      ['class'],
    ),
  ),
  apqClassSize: whole(
    gauge('scheduler', 'apq_class_size', 'Items waiting for the scheduler.', ['class', 'origin']),
  ),
  apqClassBytes: whole(
    gauge('scheduler', 'apq_class_bytes', 'Bytes waiting for the scheduler, as stored in Redis.', [
      'class',
      'origin',
    ]),
  ),
  apqOldestAge: whole(
    gauge('scheduler', 'apq_oldest_age_seconds', 'Age of the oldest batch waiting for the scheduler.', [
      'class',
      'origin',
    ]),
  ),
  apqWeightRatio: whole(
    gauge(
      'scheduler',
      'apq_weight_ratio',
      'Target share of a class among the items moved while all classes wait.',
      ['class'],
    ),
  ),
  apqDeficitItems: whole(
    gauge(
      'scheduler',
      'apq_deficit_items',
      'Items that a class may have before the class furthest ahead of its share is served again.',
      ['class', 'origin'],
    ),
  ),
  apqSlot: whole(
    gauge(
      'scheduler',
      'apq_slot',
      '1 for the origin that has the current time slot while live and replayed batches both wait.',
      ['origin'],
    ),
  ),
  apqDecisions: whole(
    counter('scheduler', 'apq_decisions_total', 'Jobs moved to the exporters, by all schedulers.', []),
  ),
  apqMovedItems: shared(
    'receiver',
    counter(
      'scheduler',
      'apq_moved_items_total',
      'Items moved to the exporters. Those that bypass the scheduler are moved when they are enqueued, and counted by the receiver.',
      ['class'],
    ),
  ),
  apqSpill: whole(
    counter('scheduler', 'apq_spill_total', 'Items spilled to the dlq instead of sent to the exporters.', [
      'class',
      'reason',
    ]),
  ),
  apqScriptFailures: counter(
    'every',
    'apq_script_failures_total',
    'Scripts that failed in Redis, and changed nothing; without those that Redis refused because of its state, such as out of memory.',
    ['script'],
  ),
  apqBreakerState: whole(
    gauge(
      'scheduler',
      'apq_breaker_state',
      '1 for the state the breaker of a signal is in, 0 for the others.',
      ['state', 'signal'],
    ),
  ),
  apqBreakerReason: whole(
    gauge(
      'scheduler',
      'apq_breaker_reason',
      '1 for the reason why the breaker is open or half-open, 0 for the other reasons and while it is closed.',
      ['reason', 'signal'],
    ),
  ),
  apqBreakerProbeSeconds: whole(
    gauge(
      'scheduler',
      'apq_breaker_probe_seconds',
      'Time until the breaker tries the upstream again; 0 while it is not open.',
      ['signal'],
    ),
  ),
  apqBreakerTransitions: whole(
    counter(
      'scheduler',
      'apq_breaker_transitions_total',
      'Changes of the breaker of a signal, by new state and reason.',
      ['state', 'reason', 'signal'],
    ),
  ),
  apqMoveSeconds: histogram(
    'scheduler',
    'apq_move_seconds',
    'Time of one weighted move, round trip included.',
    [],
    HOP_SECONDS,
  ),
  exporterInflight: gauge('exporter', 'exporter_inflight', 'Requests to the upstream in flight.', []),
  exporterInflightBytes: gauge(
    'exporter',
    'exporter_inflight_bytes',
    'Payload bytes in memory for them.',
    [],
  ),
  exporterConcurrency: gauge(
    'exporter',
    'exporter_concurrency',
    'Limit on requests in flight now; it adapts to the upstream.',
    [],
  ),
  exporterWaitSeconds: histogram(
    'exporter',
    'exporter_wait_seconds',
    'Time from receiving a request to sending its batch: all waiting included, on disk too.',
    ['class', 'origin'],
    END_TO_END_SECONDS,
  ),
  exporterRequests: counter('exporter', 'exporter_requests_total', 'Requests to the upstream, by outcome.', [
    'signal',
    'outcome',
  ]),
  exporterRequestSeconds: histogram(
    'exporter',
    'exporter_request_seconds',
    'Time the upstream took to answer.',
    ['signal'],
    HOP_SECONDS,
  ),
  exporterSentBytes: counter('exporter', 'exporter_sent_bytes_total', 'Body bytes sent to the upstream.', [
    'signal',
  ]),
  exporterDeliveredItems: counter(
    'exporter',
    'exporter_delivered_items_total',
    'Items accepted by the upstream.',
    ['signal', 'class'],
  ),
  exporterRejectedItems: counter(
    'exporter',
    'exporter_rejected_items_total',
    'Items rejected by the upstream, by reason.',
    ['signal', 'reason'],
  ),
  exporterRetries: counter('exporter', 'exporter_retries_total', 'Requests to be retried, by reason.', [
    'signal',
    'reason',
  ]),
  dlqUtilization: gauge(
    'dlq',
    'dlq_utilization_ratio',
    'Bytes on disk as a share of dlq.capacity. 1 is full.',
    [],
  ),
  dlqOldestAge: gauge(
    'dlq',
    'dlq_oldest_age_seconds',
    'Age of the oldest batch on disk; 0 when there is none.',
    ['class'],
  ),
  dlqCorrupted: counter(
    'dlq',
    'dlq_corrupted_total',
    'Damaged places found on disk; their files are quarantined.',
    [],
  ),
  dlqItems: gauge('dlq', 'dlq_items', 'Items on disk, by class; `rejected` separately.', ['area']),
  dlqBytes: gauge('dlq', 'dlq_disk_bytes', 'Bytes on disk, by class; `rejected` separately.', ['area']),
  dlqSegments: gauge('dlq', 'dlq_segments', 'Segment files, by class; `rejected` separately.', ['area']),
  dlqFreeBytes: gauge(
    'dlq',
    'dlq_disk_free_bytes',
    'Free bytes of the file system; dlq.reserve of them stay free.',
    [],
  ),
  dlqStoredItems: counter('dlq', 'dlq_stored_items_total', 'Items written to disk.', ['class']),
  dlqStoredBytes: counter(
    'dlq',
    'dlq_stored_bytes_total',
    'Payload bytes written to disk, before compression.',
    [],
  ),
  dlqReplayedItems: counter('dlq', 'dlq_replayed_items_total', 'Items returned to the queue.', ['class']),
  dlqReplayedBytes: counter(
    'dlq',
    'dlq_replayed_bytes_total',
    'Payload bytes returned to the queue, uncompressed.',
    [],
  ),
  dlqReplayRate: gauge(
    'dlq',
    'dlq_replay_rate_bytes',
    'Bytes per second that replay may use now; at most dlq.replay_rate.',
    [],
  ),
  dlqReplayPaused: gauge('dlq', 'dlq_replay_paused', '1 while an operator has paused replay.', []),
  dlqDrainSeconds: gauge(
    'dlq',
    'dlq_drain_seconds',
    'Estimated time until the disk is empty at the current rate.',
    [],
  ),
  dlqState: gauge('dlq', 'dlq_state', '1 for the state the store is in, 0 for the others.', ['state']),
  dlqCommitSeconds: histogram(
    'dlq',
    'dlq_commit_seconds',
    'Time from a batch reaching the dlq to its fsync.',
    [],
    HOP_SECONDS,
  ),
  pipelineEndToEndSeconds: histogram(
    'exporter',
    'pipeline_end_to_end_seconds',
    'Time from receiving a request until the upstream has acknowledged its delivery.',
    ['signal', 'class', 'origin'],
    END_TO_END_SECONDS,
  ),
  pipelineAccountingItems: whole(
    gauge(
      'scheduler',
      'pipeline_accounting_items',
      'The books, in items: accepted = delivered + queued + on_disk + rejected + dropped. `difference` is 0 when nothing moves.',
      ['state'],
    ),
  ),
  pipelineDroppedItems: whole(
    counter(
      'scheduler',
      'pipeline_dropped_items_total',
      'Items accounted for as dropped, by reason. What the limiter drops was never accepted: cl_dropped_samples_total.',
      ['reason'],
    ),
  ),
  pipelineAccountPerMinute: whole(
    gauge(
      'scheduler',
      'pipeline_account_per_minute',
      'What all exporters sent in the last minute, failed attempts included, where exporter.account_limits has a limit: `requests` of the signal with the most, `points` of metrics, `records` (spans and log records), `bytes` as sent.',
      ['of'],
    ),
  ),
  pipelineAccountLimitPerMinute: whole(
    gauge(
      'scheduler',
      'pipeline_account_limit_per_minute',
      'Limits of the account per minute: exporter.account_limits.',
      ['of'],
    ),
  ),
  redisUp: gauge('every', 'pipeline_redis_up', '1 while Redis can be used, by purpose of the connection.', [
    'connection',
  ]),
  certificateExpiry: gauge(
    'every',
    'pipeline_certificate_expiry_timestamp_seconds',
    'Expiry of the certificates of this process, Unix time, by use.',
    ['use'],
  ),
  redisReconnects: counter(
    'every',
    'pipeline_redis_reconnects_total',
    'Connections to Redis that were re-established.',
    [],
  ),
  redisMemoryBytes: whole(
    gauge('scheduler', 'pipeline_redis_memory_bytes', 'Memory Redis uses (used_memory).', []),
  ),
  redisMemoryLimitBytes: whole(
    gauge(
      'scheduler',
      'pipeline_redis_memory_limit_bytes',
      'Memory Redis may use (maxmemory); 0: no limit of its own.',
      [],
    ),
  ),
  redisRoundTripSeconds: histogram(
    'every',
    'pipeline_redis_round_trip_seconds',
    'Time of one step in Redis, round trip included; its count is that of the round trips.',
    ['step'],
    HOP_SECONDS,
  ),
  telemetryRequests: counter(
    'every',
    'pipeline_telemetry_requests_total',
    "Requests with the process's own metrics (telemetry.otlp), by outcome.",
    ['outcome'],
  ),
  telemetryPoints: counter(
    'every',
    'pipeline_telemetry_points_total',
    'Points of its own metrics that were delivered. Those that go through the pipeline are in its accounting too.',
    [],
  ),
  buildInfo: gauge('every', 'pipeline_build_info', 'Always 1; the labels say what is running.', [
    'version',
    'node',
  ]),
  duplicateHandOvers: counter(
    'every',
    'pipeline_duplicate_handovers_total',
    'Hand-overs and settlements that had happened before, because of a crash or a stall.',
    [],
  ),
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof CATALOGUE;
