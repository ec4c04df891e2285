import type { Config } from '@nrdot/config';
import { otherLayouts, Store, type StoreOptions } from '@nrdot/queue';
import { type ConnectionKind, RedisLink, type RedisTarget, ScriptHealth } from '@nrdot/redis';
import type { Host } from './host.ts';

/** The configured Redis. */
export function redisTarget(config: Config): RedisTarget {
  const { sentinels, sentinelName, sentinelUsername, cluster, username, tls } = config.redis;
  const url = config.redis.url?.reveal();
  return {
    url,
    ...(sentinels.length > 0 ? { sentinels, sentinelName } : {}),
    sentinelUsername,
    sentinelPassword: config.redis.sentinelPassword?.reveal(),
    ...(cluster.length > 0 ? { cluster } : {}),
    username,
    password: config.redis.password?.reveal(),
    ...(tls.enabled || url?.startsWith('rediss://') ? { tls } : {}),
  };
}

/** Prefix of all keys, with the hash tag that keeps them in one slot of a Cluster. */
function redisPrefix(config: Config): string {
  return `{${config.redis.prefix}}`;
}

function storeOptions(config: Config): StoreOptions {
  const { minReplicas, commandTimeoutMs } = config.redis;
  const { maxBytes, maxItems, perClass, spillAt, resumeAt } = config.queue;
  return {
    prefix: redisPrefix(config),
    ...{ maxBytes, maxItems, perClass, spillAt, spillHysteresis: spillAt - resumeAt },
    breaker: config.breaker,
    // Less than the command timeout, or the connection would be replaced before Redis answers how many replicas have it.
    ...(minReplicas > 0 ? { replicas: { least: minReplicas, waitMs: Math.ceil(commandTimeoutMs / 2) } } : {}),
    exportWindow: { batches: config.scheduler.exportWindow, bytes: config.scheduler.exportWindowBytes },
  };
}

/**
 * Opens a service's connection to Redis, with the pipeline's store on it, and reports its state in the service's log and metrics.
 * @param meanwhile what happens while Redis is away, for the log
 * @returns `notReady`: why the connection or a script cannot work now
 */
export function openStore(
  config: Config,
  host: Pick<Host, 'log' | 'registry' | 'inProcess'>,
  kind: ConnectionKind,
  name: string,
  meanwhile?: string,
): { link: RedisLink; store: Store; notReady(): string | undefined } {
  const { log, registry } = host;
  const { redisReconnects, redisUp, redisRoundTripSeconds, apqScriptFailures } = registry.metrics;
  const link = new RedisLink(
    redisTarget(config),
    {
      kind,
      name,
      commandTimeoutMs: config.redis.commandTimeoutMs,
      prefix: redisPrefix(config),
      meanwhile,
      reconnected: () => redisReconnects.inc(),
      expect: {
        durability: config.redis.durability,
        maxBytes: config.queue.maxBytes,
        minReplicas: config.redis.minReplicas,
        warningsOf: (redis) => otherLayouts(redis, redisPrefix(config)),
      },
    },
    log,
  );
  registry.onScrape(() => redisUp.set({ connection: name }, link.notReady() ? 0 : 1));
  const health = new ScriptHealth();
  const store = new Store(link.redis, storeOptions(config), host.inProcess, {
    took: (step, seconds) => {
      redisRoundTripSeconds.observe({ step }, seconds);
      if (health.succeeded(step)) log.info({ script: step }, 'a script that had failed works again');
    },
    failed: (step, error) => {
      const told = health.failed(step, error);
      if (told === undefined) return;
      apqScriptFailures.inc({ script: step });
      if (told) log.warn({ script: step }, told);
    },
    odd: (line) => log.warn(`a foreign job: ${line}`),
  });
  return { link, store, notReady: () => link.notReady() ?? health.notReady() };
}
