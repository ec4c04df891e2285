import { join } from 'node:path';
import type { ParsedOptions } from './schema.ts';

/**
 * The options as the program uses them: camelCase, units in the names (ms, bytes, bytes per second), secrets wrapped.
 */
export function configOf(parsed: ParsedOptions) {
  const { redis, receiver, limiter, queue, scheduler, breaker, exporter, dlq, admin } = parsed;
  return {
    dataDir: parsed.data_dir,
    log: parsed.log,
    redis: {
      url: redis.url,
      sentinels: redis.sentinels,
      sentinelName: redis.sentinel_name,
      sentinelUsername: redis.sentinel_username,
      sentinelPassword: redis.sentinel_password,
      cluster: redis.cluster,
      username: redis.username,
      password: redis.password,
      prefix: redis.prefix,
      durability: redis.durability,
      minReplicas: redis.min_replicas,
      commandTimeoutMs: redis.command_timeout,
      tls: {
        enabled: redis.tls.enabled,
        caFile: redis.tls.ca_file,
        certFile: redis.tls.cert_file,
        keyFile: redis.tls.key_file,
        serverName: redis.tls.server_name,
        insecureSkipVerify: redis.tls.insecure_skip_verify,
      },
      private: { redisServer: redis.private.redis_server, maxmemoryBytes: redis.private.maxmemory },
    },
    receiver: {
      listen: receiver.listen,
      maxBodyBytes: receiver.max_body,
      maxHeaderBytes: receiver.max_header,
      maxDepth: receiver.max_depth,
      maxInflightBytes: receiver.max_inflight,
      maxConnections: receiver.max_connections,
      requestTimeoutMs: receiver.request_timeout,
      keepAliveMs: receiver.keep_alive,
      pathPrefix: receiver.path_prefix,
      invalidUtf8: receiver.invalid_utf8,
      cors: {
        allowedOrigins: receiver.cors.allowed_origins,
        allowCredentials: receiver.cors.allow_credentials,
        allowedHeaders: receiver.cors.allowed_headers,
        maxAgeMs: receiver.cors.max_age,
      },
      tokens: receiver.tokens,
      tls: serverTlsOf(receiver.tls),
    },
    priority: {
      defaultClass: parsed.priority.default_class,
      resourceAttribute: parsed.priority.resource_attribute,
      rules: parsed.priority.rules,
    },
    limiter: {
      mode: limiter.mode,
      maxKeys: limiter.max_keys,
      actAbove: limiter.act_above,
      aggregateScore: limiter.aggregate_score,
      criticalScore: limiter.critical_score,
      criticalAction: limiter.critical_action,
      keyTtlMs: limiter.key_ttl,
      aggregateLabels: limiter.aggregate_labels,
      protectedLabels: limiter.protected_labels,
      gaugeReducer: limiter.gauge_reducer,
      temporality: limiter.temporality,
      mergedTemporality: limiter.merged_temporality,
      mergeIntervalMs: limiter.merge_interval,
      dailyKeys: limiter.daily_keys,
      dailyMode: limiter.daily_mode,
      overrides: limiter.overrides.map((override) => ({
        metric: override.metric,
        ...(override.act_above === undefined ? {} : { actAbove: override.act_above }),
        ...(override.aggregate_score === undefined ? {} : { aggregateScore: override.aggregate_score }),
        ...(override.critical_score === undefined ? {} : { criticalScore: override.critical_score }),
        ...(override.critical_action === undefined ? {} : { criticalAction: override.critical_action }),
        ...(override.aggregate_labels === undefined ? {} : { aggregateLabels: override.aggregate_labels }),
        ...(override.protected_labels === undefined ? {} : { protectedLabels: override.protected_labels }),
        ...(override.gauge_reducer === undefined ? {} : { gaugeReducer: override.gauge_reducer }),
      })),
    },
    queue: {
      maxBytes: queue.max_bytes,
      maxItems: queue.max_items,
      perClass: {
        critical: classCapacityOf(queue.per_class.critical),
        high: classCapacityOf(queue.per_class.high),
        normal: classCapacityOf(queue.per_class.normal),
      },
      spillAt: queue.spill_at,
      resumeAt: queue.resume_at,
    },
    scheduler: {
      weights: scheduler.weights,
      exportWindow: scheduler.export_window,
      exportWindowBytes: scheduler.export_window_bytes,
      mergeBytes: scheduler.merge_bytes,
      slotMs: scheduler.slot,
      pollMs: scheduler.poll,
    },
    breaker: {
      failures: breaker.failures,
      throttleRatio: breaker.throttle_ratio,
      minAnswers: breaker.min_answers,
      windowMs: breaker.window,
      minOpenMs: breaker.open_min,
      maxOpenMs: breaker.open_max,
    },
    exporter: {
      endpoint: exporter.endpoint,
      endpoints: exporter.endpoints,
      headers: exporter.headers,
      proxy: exporter.proxy,
      timeoutMs: exporter.timeout,
      concurrency: exporter.concurrency,
      minConcurrency: exporter.min_concurrency,
      inflightBytes: exporter.inflight_bytes,
      compression: exporter.compression,
      maxRequestBytes: exporter.max_request_bytes,
      retry: {
        initialMs: exporter.retry.initial,
        maxMs: exporter.retry.max,
        multiplier: exporter.retry.multiplier,
        jitter: exporter.retry.jitter,
        maxAttempts: exporter.retry.max_attempts,
        maxRetryAfterMs: exporter.retry.max_retry_after,
      },
      retryOn: exporter.retry_on,
      maxAgeMs: exporter.max_age,
      accountLimits: {
        requestsPerMinute: exporter.account_limits.requests_per_minute,
        pointsPerMinute: exporter.account_limits.points_per_minute,
        recordsPerMinute: exporter.account_limits.records_per_minute,
        bytesPerMinute: exporter.account_limits.bytes_per_minute,
      },
      tls: clientTlsOf(exporter.tls),
    },
    dlq: {
      dir: dlq.dir ?? join(parsed.data_dir, 'dlq'),
      listen: dlq.listen,
      token: dlq.token ?? admin.token,
      tls: serverTlsOf(dlq.tls),
      caFile: dlq.ca_file,
      certFile: dlq.cert_file,
      keyFile: dlq.key_file,
      url: dlq.url,
      capacityBytes: dlq.capacity,
      reserveBytes: dlq.reserve,
      ballastBytes: dlq.ballast,
      whenFull: dlq.when_full,
      retentionMs: dlq.retention,
      rejectedCapacityBytes: dlq.rejected_capacity,
      rejectedRetentionMs: dlq.rejected_retention,
      segmentBytes: dlq.segment_bytes,
      replayBytesPerSecond: dlq.replay_rate,
      poisonAfter: dlq.poison_after,
      intakeConcurrency: dlq.intake_concurrency,
    },
    check: { sample: parsed.check.sample, fix: parsed.check.fix },
    telemetry: {
      otlp: {
        endpoint: parsed.telemetry.otlp.endpoint,
        headers: parsed.telemetry.otlp.headers,
        intervalMs: parsed.telemetry.otlp.interval,
        temporality: parsed.telemetry.otlp.temporality,
        attributes: parsed.telemetry.otlp.attributes,
        tls: clientTlsOf(parsed.telemetry.otlp.tls),
      },
    },
    admin: {
      listen: admin.listen,
      token: admin.token,
      hosts: admin.hosts.map((host) => host.toLowerCase()),
      tls: serverTlsOf(admin.tls),
      shutdownTimeoutMs: admin.shutdown_timeout,
    },
  };
}

function classCapacityOf(limits: ParsedOptions['queue']['per_class']['normal']) {
  return { maxBytes: limits.max_bytes, maxItems: limits.max_items };
}

function clientTlsOf(tls: ParsedOptions['exporter']['tls']) {
  return {
    caFile: tls.ca_file,
    certFile: tls.cert_file,
    keyFile: tls.key_file,
    insecureSkipVerify: tls.insecure_skip_verify,
  };
}

function serverTlsOf(tls: ParsedOptions['admin']['tls']) {
  return { certFile: tls.cert_file, keyFile: tls.key_file, clientCaFile: tls.client_ca_file };
}

/** Whether there is an upstream. If only single signals have endpoints, `crossCheck` makes sure that all have. */
export function hasUpstream({ exporter: { endpoint, endpoints } }: Config): boolean {
  return endpoint !== undefined || Object.values(endpoints).some((url) => url !== undefined);
}

export type Config = ReturnType<typeof configOf>;
