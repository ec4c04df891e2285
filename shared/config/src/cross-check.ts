import { accessSync, constants, statSync } from 'node:fs';
import { readAuthorities } from './authorities.ts';
import { type Config, hasUpstream } from './config.ts';
import { type Path, shapeAt } from './option-tree.ts';
import type { ConfigProblem } from './problem.ts';
import { isLoopback } from './units.ts';

export interface StartNeeds {
  /** Files of certificates and keys must be readable. */
  files: boolean;
  /** There must be an upstream, without which an exporter does not start. */
  upstream: boolean;
}

/** Checks that involve several options, or the machine. */
export function crossCheck(
  config: Config,
  sourceOf: (path: Path) => string,
  needs: StartNeeds = { files: false, upstream: false },
): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const check = (holds: boolean, path: string, expected: string) => {
    if (!holds) problems.push({ path, source: sourceOf(path.split('.')), expected });
  };
  const { queue, breaker, exporter, redis, dlq, receiver, admin, limiter } = config;
  check(
    admin.token !== undefined || isLoopback(admin.listen.host),
    'admin.listen',
    'an address that only this machine can reach, such as 127.0.0.1:8888, or admin.token as well',
  );
  check(
    dlq.token !== undefined || isLoopback(dlq.listen.host),
    'dlq.listen',
    'an address that only this machine can reach, such as 127.0.0.1:4319, or dlq.token or admin.token as well',
  );
  check(
    receiver.maxInflightBytes >= receiver.maxBodyBytes,
    'receiver.max_inflight',
    'at least receiver.max_body: a larger request never fits',
  );
  check(queue.resumeAt < queue.spillAt, 'queue.resume_at', 'less than queue.spill_at');
  for (const [name, limits] of Object.entries(queue.perClass)) {
    const path = `queue.per_class.${name}`;
    check((limits.maxBytes ?? 0) <= queue.maxBytes, `${path}.max_bytes`, 'at most queue.max_bytes');
    check((limits.maxItems ?? 0) <= queue.maxItems, `${path}.max_items`, 'at most queue.max_items');
  }
  check(breaker.minOpenMs <= breaker.maxOpenMs, 'breaker.open_min', 'at most breaker.open_max');
  const { retry, minConcurrency, concurrency } = exporter;
  check(retry.initialMs <= retry.maxMs, 'exporter.retry.initial', 'at most exporter.retry.max');
  check(minConcurrency <= concurrency, 'exporter.min_concurrency', 'at most exporter.concurrency');
  const [KIB, GIB] = [2 ** 10, 2 ** 30];
  const isBetween = (bytes: number, least: number, most: number) => bytes >= least && bytes <= most;
  check(isBetween(dlq.ballastBytes, 64 * KIB, GIB), 'dlq.ballast', 'a size from 64KiB to 1GiB');
  check(isBetween(dlq.segmentBytes, 64 * KIB, 4 * GIB), 'dlq.segment_bytes', 'a size from 64KiB to 4GiB');
  const { endpoint, endpoints } = exporter;
  if (endpoint === undefined && hasUpstream(config)) {
    for (const signal of Object.keys(shapeAt(['exporter', 'endpoints'])!)) {
      check(
        endpoints[signal as keyof typeof endpoints] !== undefined,
        `exporter.endpoints.${signal}`,
        'a URL, or exporter.endpoint for all signals: another signal has a URL, but this one has none',
      );
    }
  }
  check(
    !needs.upstream || hasUpstream(config),
    'exporter.endpoint',
    "the upstream's base URL, such as https://otlp.nr-data.net, without which no exporter starts",
  );
  const proxy = exporter.proxy?.reveal();
  check(
    proxy === undefined || proxy === 'none' || (URL.canParse(proxy) && /^https?:\/\/./.test(proxy)),
    'exporter.proxy',
    'a URL that begins with http:// or https://, or none',
  );
  check(dlq.segmentBytes <= dlq.capacityBytes, 'dlq.segment_bytes', 'at most dlq.capacity');
  check(
    limiter.aggregateScore <= limiter.criticalScore,
    'limiter.aggregate_score',
    'at most limiter.critical_score',
  );
  check(
    limiter.temporality === 'as-received' || limiter.mode === 'enforce',
    'limiter.temporality',
    'as-received, or delta with limiter.mode: enforce',
  );
  check(
    limiter.dailyMode === 'observe' || (limiter.mode === 'enforce' && limiter.dailyKeys > 0),
    'limiter.daily_mode',
    'observe, or enforce with limiter.mode: enforce and limiter.daily_keys above 0',
  );
  check(limiter.keyTtlMs >= 1_000, 'limiter.key_ttl', 'a duration of at least 1s');
  const both = limiter.aggregateLabels.filter((label) => limiter.protectedLabels.includes(label));
  check(
    both.length === 0,
    'limiter.protected_labels',
    `no label of aggregate_labels; ${both.join(', ')} is in both`,
  );
  checkRedis(config, check);
  const { cors } = receiver;
  check(
    !cors.allowCredentials || !cors.allowedOrigins.includes('*'),
    'receiver.cors.allow_credentials',
    'named origins: with "*", any page could send on behalf of its reader',
  );
  const sections: [path: string, files: Files][] = [
    ['receiver.tls', receiver.tls],
    ['admin.tls', admin.tls],
    ['dlq.tls', dlq.tls],
    ['dlq', dlq],
    ['exporter.tls', exporter.tls],
    ['telemetry.otlp.tls', config.telemetry.otlp.tls],
    ['redis.tls', redis.tls],
  ];
  for (const [path, { certFile, keyFile, clientCaFile }] of sections) {
    // Half a pair would mean plain HTTP where TLS was intended.
    const isWhole = (certFile === undefined) === (keyFile === undefined);
    check(isWhole, path, 'both of cert_file and key_file, or none');
    const hasOwn = clientCaFile === undefined || certFile !== undefined;
    check(hasOwn, `${path}.client_ca_file`, 'cert_file and key_file as well');
  }
  for (const [path, { caFile, certFile, keyFile, clientCaFile }] of needs.files ? sections : []) {
    const files = { ca_file: caFile, cert_file: certFile, key_file: keyFile, client_ca_file: clientCaFile };
    for (const [name, file] of Object.entries(files)) {
      const reason =
        file && (unreadable(file) ?? (name.endsWith('ca_file') ? untrustworthy(file) : undefined));
      check(!reason, `${path}.${name}`, `a readable file; ${file}: ${reason}`);
    }
  }
  return problems;
}

/** Files that are read at start-up. */
type Files = { [F in 'caFile' | 'certFile' | 'keyFile' | 'clientCaFile']?: string | undefined };

/** Why a file cannot be read; undefined if it can. */
function unreadable(file: string): string | undefined {
  try {
    accessSync(file, constants.R_OK);
    return statSync(file).isFile() ? undefined : 'it is not a file';
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    return { ENOENT: 'it does not exist', EACCES: 'permission denied' }[code] ?? code;
  }
}

/** Why a file of certificates cannot be used; undefined if it can. */
function untrustworthy(file: string): string | undefined {
  try {
    readAuthorities(file);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Rejects Redis options that would have no effect, since that would be a silent mistake. */
function checkRedis(
  { redis, queue }: Config,
  check: (holds: boolean, path: string, expected: string) => void,
): void {
  const { sentinels, sentinelName, sentinelUsername, sentinelPassword, username, password, tls } = redis;
  const url = redis.url?.reveal();
  const places = [url !== undefined, sentinels.length > 0, redis.cluster.length > 0].filter(Boolean);
  check(places.length <= 1, 'redis', 'only one of url, sentinels and cluster');
  check(
    url === undefined || /^(rediss?:\/\/|unix:\/\/|\/)/.test(url),
    'redis.url',
    'a URL that begins with redis://, rediss:// or unix://',
  );
  const at = url ?? '';
  const hasPlace = places.length > 0;
  check(
    sentinels.length > 0 ||
      (sentinelName === 'mymaster' && sentinelUsername === undefined && sentinelPassword === undefined),
    'redis.sentinels',
    'sentinels, where sentinel_name, sentinel_username or sentinel_password is given',
  );
  check(
    sentinelUsername === undefined || sentinelPassword !== undefined,
    'redis.sentinel_password',
    'a password with sentinel_username',
  );
  const hasOwn = password !== undefined || username !== undefined;
  check(username === undefined || password !== undefined, 'redis.password', 'a password with username');
  check(
    !hasOwn || hasPlace,
    'redis.password',
    'url, sentinels or cluster as well; the private Redis has no users',
  );
  check(
    !hasOwn || !/^rediss?:\/\/[^/]*@/.test(at),
    'redis.url',
    'a user and password in the URL, or in username and password, and not in both',
  );
  const speaksTls = tls.enabled || at.startsWith('rediss://');
  check(
    !tls.enabled || (hasPlace && !/^(unix:|\/)/.test(at)),
    'redis.tls.enabled',
    'a Redis that is reached over the network',
  );
  const { enabled: _, insecureSkipVerify, ...files } = tls;
  const hasOthers = insecureSkipVerify || Object.values(files).some((given) => given !== undefined);
  check(speaksTls || !hasOthers, 'redis.tls', 'enabled: true, or a rediss:// URL, with the other options');
  check(
    hasPlace || redis.private.maxmemoryBytes > queue.maxBytes,
    'redis.private.maxmemory',
    'more than queue.max_bytes',
  );
}
