import { hostname } from 'node:os';
import { type Config, PIPELINE, type Secret } from '@nrdot/config';
import {
  type Address,
  FollowingClock,
  formatAddress,
  type Host,
  MetricSender,
  OwnMetrics,
} from '@nrdot/service';
import { reachable } from './admin-client.ts';
import type { ServiceName } from './pipeline-services.ts';
import { VERSION } from './version.ts';

const TIMEOUT_MS = 10_000;
const RESPONSE_MAX_BYTES = 64 * 1024;
const NAME = 'nrdot';

/**
 * Sends the metrics of this process as OTLP, if `telemetry.otlp.endpoint` is set.
 * @param services the services of this process
 * @param receiver address of this process's receiver, if it has one
 */
export async function startTelemetry(
  config: Config,
  host: Host,
  services: readonly ServiceName[],
  receiver: Address | undefined,
): Promise<MetricSender | undefined> {
  const { otlp } = config.telemetry;
  if (otlp.endpoint === undefined) return undefined;
  const target = targetOf(config, receiver);
  if (!target) {
    host.log.warn(
      'telemetry.otlp.endpoint is pipeline, but receiver.listen has no port at which this process could reach the receiver, so its metrics are not sent; expected the URL of a receiver',
    );
    return undefined;
  }
  const { Upstream, proxyFor } = await import('@nrdot/exporter');
  const upstream = new Upstream({
    ...{ endpoint: target.url, endpoints: {}, headers: target.headers(config), tls: target.tls },
    ...{ timeoutMs: Math.min(TIMEOUT_MS, otlp.intervalMs), maxResponseBytes: RESPONSE_MAX_BYTES },
    ...{ connections: 1, userAgent: `nrdot/${VERSION}` },
    proxyFor: (url) => (target.byProxy ? proxyFor(url, undefined, process.env) : undefined),
  });
  host.live.follow((next) => () => upstream.setHeaders(target.headers(next)));
  const own = new OwnMetrics({
    resource: resourceOf(config, host, services),
    ...{ scope: { name: NAME, version: VERSION }, temporality: otlp.temporality },
    startedAtMs: Math.floor(performance.timeOrigin),
  });
  return new MetricSender(otlp.intervalMs, {
    ...{ own, registry: host.registry, metrics: host.metrics, transitions: host.transitions },
    send: (body) => upstream.send('metrics', body, 'gzip'),
    where: target.url,
    now: new FollowingClock().now,
  });
}

/** Destination and credentials. Proxies are only used for external destinations. */
function targetOf(config: Config, receiver: Address | undefined) {
  const { otlp } = config.telemetry;
  if (otlp.endpoint !== PIPELINE) {
    return {
      ...{ url: otlp.endpoint!, tls: otlp.tls, byProxy: true },
      headers: ({ telemetry }: Config) => revealed(telemetry.otlp.headers),
    };
  }
  const { host, port } = receiver ?? config.receiver.listen;
  if (port === 0) return undefined;
  const scheme = config.receiver.tls.certFile ? 'https' : 'http';
  return {
    url: `${scheme}://${formatAddress({ host: reachable(host), port })}${config.receiver.pathPrefix}`,
    // Within one process it connects to itself, by an address that no certificate is for.
    tls: receiver ? { ...otlp.tls, insecureSkipVerify: true } : otlp.tls,
    byProxy: false,
    headers: ({ telemetry, receiver: { tokens } }: Config) => ({
      ...(tokens[0] ? { authorization: `Bearer ${tokens[0].reveal()}` } : {}),
      ...revealed(telemetry.otlp.headers),
    }),
  };
}

/** By the semantic conventions for resources, plus the priority class for the receiver. */
function resourceOf(config: Config, host: Host, services: readonly ServiceName[]) {
  return {
    'service.namespace': NAME,
    'service.name': services.length === 1 ? `${NAME}-${services[0]}` : NAME,
    'service.instance.id': host.status.instance,
    'service.version': VERSION,
    'host.name': hostname(),
    'process.pid': process.pid,
    'process.runtime.name': 'nodejs',
    'process.runtime.version': process.versions.node,
    'telemetry.sdk.name': NAME,
    'telemetry.sdk.language': 'nodejs',
    'telemetry.sdk.version': VERSION,
    [config.priority.resourceAttribute]: 'high',
    ...config.telemetry.otlp.attributes,
  };
}

function revealed(headers: Readonly<Record<string, Secret>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.reveal()]));
}
