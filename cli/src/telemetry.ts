import { hostname } from 'node:os';
import { type Config, PIPELINE, type Secret } from '@nrdot/config';
import { type Address, formatAddress, type Host, MetricSender, OwnMetrics, steadyNow } from '@nrdot/service';
import type { ServiceName } from './pipeline-services.ts';
import { VERSION } from './version.ts';

const TIMEOUT_MS = 10_000;
const RESPONSE_MAX_BYTES = 64 * 1024;
const NAME = 'nrdot';

/** Where to send, and what it takes to be let in. */
interface Target {
  url: string;
  headers(config: Config): Record<string, string>;
  tls: Config['telemetry']['otlp']['tls'];
  /** Proxies are for what is outside. */
  byProxy: boolean;
}

/**
 * Sends the metrics of this process as OTLP, when `telemetry.otlp.endpoint` says where to.
 * @param services those in this process
 * @param receiver where the receiver of this process listens, when it has one
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
      'telemetry.otlp.endpoint is pipeline, and receiver.listen has no port by which this process could reach the receiver: its metrics are not sent; expected the URL of a receiver',
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
    now: steadyNow,
  });
}

function targetOf(config: Config, receiver: Address | undefined): Target | undefined {
  const { otlp } = config.telemetry;
  if (otlp.endpoint !== PIPELINE) {
    return {
      ...{ url: otlp.endpoint!, tls: otlp.tls, byProxy: true },
      headers: ({ telemetry }) => revealed(telemetry.otlp.headers),
    };
  }
  const { host, port } = receiver ?? config.receiver.listen;
  if (port === 0) return undefined;
  const scheme = config.receiver.tls.certFile ? 'https' : 'http';
  return {
    url: `${scheme}://${formatAddress({ host: reachable(host), port })}${config.receiver.pathPrefix}`,
    // In one process it is itself that answers, under an address that no certificate is for.
    tls: receiver ? { ...otlp.tls, insecureSkipVerify: true } : otlp.tls,
    byProxy: false,
    headers: ({ telemetry, receiver: { tokens } }) => ({
      ...(tokens[0] ? { authorization: `Bearer ${tokens[0].reveal()}` } : {}),
      ...revealed(telemetry.otlp.headers),
    }),
  };
}

/** Where to find on this machine what listens on all of its addresses: `::` takes both families. */
function reachable(host: string): string {
  return host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
}

/** By the semantic conventions for resources, and the class that it has in a receiver. */
function resourceOf(
  config: Config,
  host: Host,
  services: readonly ServiceName[],
): Record<string, string | number> {
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
