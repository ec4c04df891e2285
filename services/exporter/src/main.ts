import { type Config, hasUpstream } from '@nrdot/config';
import { SIGNALS, type Signal } from '@nrdot/otlp';
import { type Host, hostFor, openStore, type RunningService, steadyNow } from '@nrdot/service';
import { problemOf } from '@nrdot/status';
import { countOf } from '@nrdot/telemetry';
import { Exporter } from './exporter.ts';
import { proxyFor, proxyName } from './proxy.ts';
import { Upstream, urlOf } from './upstream.ts';

const RESPONSE_MAX_BYTES = 4 * 1024 * 1024;

/** @throws Error if no upstream is configured */
export function openUpstream(config: Config, version: string): Upstream {
  const { exporter: options } = config;
  if (!hasUpstream(config)) {
    throw new Error(
      "exporter.endpoint is not set; expected the upstream's base URL, such as https://otlp.nr-data.net",
    );
  }
  return new Upstream({
    ...options,
    headers: headersOf(config),
    maxResponseBytes: RESPONSE_MAX_BYTES,
    // All signals may go to one host: a signal that hangs must not use up the connections of the others.
    connections: options.concurrency * Object.keys(SIGNALS).length,
    userAgent: `nrdot/${version}`,
    proxyFor: viaProxyOf(config),
  });
}

/**
 * Starts the exporter of this process; it waits for Redis in the background.
 * @throws Error if no upstream is configured
 */
export async function startExporter(
  config: Config,
  processHost: Host,
  version: string,
): Promise<RunningService> {
  const host = hostFor(processHost, 'exporter');
  const { exporter: options } = config;
  const upstream = openUpstream(config, version);
  const { link, store, notReady } = openStore(config, host, 'consumer', 'exporter');
  const urls = (Object.keys(SIGNALS) as Signal[]).map((signal) => new URL(urlOf(signal, options)));
  const proxies = unique(urls.map(viaProxyOf(config))).filter((proxy) => proxy !== undefined);
  const exporter = new Exporter(
    { ...options, maxBodyBytes: config.receiver.maxBodyBytes },
    {
      store,
      wakeSignal: host.inProcess?.exporter,
      handOff: host.inProcess?.handOff,
      upstream,
      log: host.log,
      metrics: host.metrics,
      now: steadyNow,
      wallNow: Date.now,
      random: Math.random,
    },
  );
  host.live.follow((next) => () => upstream.setHeaders(headersOf(next)));
  const upstreams = unique(urls.map(({ host }) => host)).join(', ');
  host.status.add(
    'exporter',
    async () => ({
      ...problemOf({ notReady }),
      upstream: upstreams,
      ...exporter.state,
      retries: await countOf(host.metrics.exporterRetries),
    }),
    { store, link },
  );
  host.metrics.exporterConcurrency.set(exporter.concurrency);
  const route = {
    upstream: options.endpoint ?? upstreams,
    ...(proxies.length > 0 ? { proxy: proxies.map(proxyName).join(', ') } : {}),
  };
  void link.untilReady().then((ready) => ready && host.log.info(route, 'exporting'));
  return {
    name: 'exporter',
    reached: () => link.wasReady,
    notReady,
    warning: () => exporter.upstreamFailure,
    stop: async (timeoutMs) => {
      // Without Redis it has never had anything in flight.
      await exporter.stop(link.wasReady ? timeoutMs : 0);
      link.close();
    },
  };
}

function viaProxyOf({ exporter: { proxy } }: Config): (url: URL) => string | undefined {
  return (url) => proxyFor(url, proxy?.reveal(), process.env);
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function headersOf({ exporter: { headers } }: Config): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.reveal()]));
}
