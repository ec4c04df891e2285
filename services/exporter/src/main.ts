import type { Config } from '@nrdot/config';
import { type Host, hostFor, openStore, problemOf, type RunningService, steadyNow } from '@nrdot/service';
import { countOf } from '@nrdot/telemetry';
import { Exporter } from './exporter.ts';
import { Upstream } from './upstream.ts';

const RESPONSE_MAX_BYTES = 4 * 1024 * 1024;

/**
 * The upstream as it is configured.
 * @throws Error when none is
 */
export function openUpstream({ exporter: options, ...rest }: Config, version: string): Upstream {
  if (!options.endpoint) {
    throw new Error(
      "exporter.endpoint is not set; expected the upstream's base URL, such as https://otlp.nr-data.net",
    );
  }
  return new Upstream({
    endpoint: options.endpoint,
    endpoints: options.endpoints,
    headers: headersOf({ exporter: options, ...rest }),
    timeoutMs: options.timeoutMs,
    maxResponseBytes: RESPONSE_MAX_BYTES,
    connections: options.concurrency,
    userAgent: `nrdot/${version}`,
    tls: options.tls,
  });
}

/**
 * Starts the exporter of this process; it waits for Redis by itself.
 * @throws Error when no upstream is configured
 */
export async function startExporter(
  config: Config,
  processHost: Host,
  version: string,
): Promise<RunningService> {
  const host = hostFor(processHost, 'exporter');
  const { exporter: options } = config;
  const upstream = openUpstream(config, version);
  const { link, store } = openStore(config, host, 'consumer', 'exporter');
  const exporter = new Exporter(
    {
      minConcurrency: options.minConcurrency,
      maxConcurrency: options.concurrency,
      maxInflightBytes: options.inflightBytes,
      compression: options.compression,
      retry: options.retry,
      maxBodyBytes: config.receiver.maxBodyBytes,
      maxRequestBytes: options.maxRequestBytes,
    },
    {
      store,
      bell: host.bells?.exporter,
      lane: host.bells?.lane,
      upstream,
      log: host.log,
      metrics: host.metrics,
      now: steadyNow,
      random: Math.random,
    },
  );
  host.live.follow((next) => () => upstream.setHeaders(headersOf(next)));
  const { host: upstreamHost } = new URL(options.endpoint ?? '');
  host.status.add(
    'exporter',
    async () => ({
      ...problemOf(link),
      upstream: upstreamHost,
      ...exporter.state,
      retries: await countOf(host.metrics.exporterRetries),
    }),
    { store, link },
  );
  host.metrics.exporterConcurrency.set(exporter.concurrency);
  void link.untilReady().then((ready) => ready && host.log.info({ upstream: options.endpoint }, 'exporting'));
  return {
    name: 'exporter',
    reached: () => link.wasReady,
    notReady: () => link.notReady(),
    notice: () => exporter.trouble,
    stop: async (timeoutMs) => {
      await exporter.stop(timeoutMs);
      link.close();
    },
  };
}

function headersOf({ exporter: { headers } }: Config): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.reveal()]));
}
