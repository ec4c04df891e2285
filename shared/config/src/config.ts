import { join } from 'node:path';
import { shapeAt } from './option-tree.ts';
import type { ParsedOptions } from './schema.ts';
import type { Secret } from './secret.ts';

/** Names in the program, of options whose names in the file lack the unit, by path. */
const WITH_UNIT = {
  'redis.command_timeout': 'commandTimeoutMs',
  'redis.private.maxmemory': 'maxmemoryBytes',
  'receiver.max_body': 'maxBodyBytes',
  'receiver.max_header': 'maxHeaderBytes',
  'receiver.max_inflight': 'maxInflightBytes',
  'receiver.request_timeout': 'requestTimeoutMs',
  'receiver.keep_alive': 'keepAliveMs',
  'receiver.cors.max_age': 'maxAgeMs',
  'limiter.key_ttl': 'keyTtlMs',
  'limiter.merge_interval': 'mergeIntervalMs',
  'scheduler.slot': 'slotMs',
  'scheduler.poll': 'pollMs',
  'breaker.window': 'windowMs',
  'breaker.open_min': 'minOpenMs',
  'breaker.open_max': 'maxOpenMs',
  'exporter.timeout': 'timeoutMs',
  'exporter.retry.initial': 'initialMs',
  'exporter.retry.max': 'maxMs',
  'exporter.retry.max_retry_after': 'maxRetryAfterMs',
  'exporter.max_age': 'maxAgeMs',
  'dlq.capacity': 'capacityBytes',
  'dlq.reserve': 'reserveBytes',
  'dlq.ballast': 'ballastBytes',
  'dlq.retention': 'retentionMs',
  'dlq.rejected_capacity': 'rejectedCapacityBytes',
  'dlq.rejected_retention': 'rejectedRetentionMs',
  'dlq.replay_rate': 'replayBytesPerSecond',
  'telemetry.otlp.interval': 'intervalMs',
  'admin.shutdown_timeout': 'shutdownTimeoutMs',
} as const;

const REJECTED_CAPACITY_BYTES = 1024 ** 3;

type CamelCase<S extends string> = S extends `${infer A}_${infer B}` ? `${A}${Capitalize<CamelCase<B>>}` : S;
type NameOf<P extends string, K extends string> = `${P}${K}` extends keyof typeof WITH_UNIT
  ? (typeof WITH_UNIT)[`${P}${K}`]
  : CamelCase<K>;
/** A section of options with their names in the program; lists, maps and values are as they are. */
type Named<T, P extends string> = T extends Secret | readonly unknown[]
  ? T
  : T extends object
    ? { [K in keyof T as NameOf<P, K & string>]: Named<T[K], `${P}${K & string}.`> }
    : T;

/**
 * The options as the program uses them: camelCase, units in the names (ms, bytes, bytes per second), secrets wrapped.
 */
export function configOf(parsed: ParsedOptions) {
  const config = named(parsed, []) as Named<ParsedOptions, ''>;
  const { limiter, dlq, admin, dataDir } = config;
  const overrides = limiter.overrides.map((override) => named(override, []) as Named<typeof override, ''>);
  return {
    ...config,
    limiter: { ...limiter, overrides },
    dlq: {
      ...dlq,
      dir: dlq.dir ?? join(dataDir, 'dlq'),
      token: dlq.token ?? admin.token,
      // Else they could take all of the room for data that waits for the upstream.
      rejectedCapacityBytes:
        dlq.rejectedCapacityBytes ?? Math.min(REJECTED_CAPACITY_BYTES, Math.floor(dlq.capacityBytes / 2)),
    },
    admin: { ...admin, hosts: admin.hosts.map((host) => host.toLowerCase()) },
  };
}

function named(section: object, path: readonly string[]): object {
  const entries = Object.entries(section).map(([key, value]) => {
    const at = [...path, key];
    const name =
      (WITH_UNIT as Record<string, string>)[at.join('.')] ??
      key.replace(/_(.)/g, (_, first: string) => first.toUpperCase());
    return [name, shapeAt(at) ? named(value, at) : value];
  });
  return Object.fromEntries(entries);
}

/** Whether there is an upstream. If only single signals have endpoints, `crossCheck` makes sure that all have. */
export function hasUpstream({ exporter: { endpoint, endpoints } }: Config): boolean {
  return endpoint !== undefined || Object.values(endpoints).some((url) => url !== undefined);
}

export type Config = ReturnType<typeof configOf>;
