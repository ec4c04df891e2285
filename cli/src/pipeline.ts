import { type Config, warningsOf } from '@nrdot/config';
import { InProcessHandOff, WakeSignal } from '@nrdot/queue';
import {
  type Address,
  AdminServer,
  addConfigRoutes,
  CertificateWatch,
  formatAddress,
  type Host,
  type LiveConfig,
  names,
  type RunningService,
  stopTogether,
  type Unclean,
} from '@nrdot/service';
import { StatusBoard } from '@nrdot/status';
import { createLogger, type Logger, MetricsRegistry, Transitions } from '@nrdot/telemetry';
import { SERVICES, type ServiceName } from './pipeline-services.ts';
import { startError } from './start-error.ts';
import { startTelemetry } from './telemetry.ts';
import { VERSION } from './version.ts';

export interface Pipeline {
  admin: Address;
  /** Where it receives OTLP, if it has a receiver. */
  otlp: Address | undefined;
  /** Why services cannot work now, for people, each reason once. */
  waitsFor(): string[];
  /** Called at SIGHUP: reads the configuration again and logs the result. */
  reload(): void;
  /** Stops all services within this time. */
  stop(timeoutMs: number): Promise<Stopped>;
}

/** Time to publish what is left after a start that failed. */
const UNSTARTED_TELL_MS = 1_000;

/** Result of stopping a pipeline. */
export interface Stopped {
  unclean: Unclean[];
  /** Services that have never reached Redis since they were started. */
  unreached: string[];
}

export function loggerOf(config: Config, terminal: boolean): Logger {
  const { level, format } = config.log;
  return createLogger({ level, format: format === 'auto' ? (terminal ? 'text' : 'json') : format });
}

export function urlOf({ tls }: { tls: { certFile?: string } }, address: Address): string {
  return `${tls.certFile ? 'https' : 'http'}://${formatAddress(address)}`;
}

/**
 * Starts services in this process, the last in the path first, with one admin address for all.
 * @param redisIsOwn whether this process runs their Redis
 * @throws if one cannot start; those started before it are stopped
 */
export async function startPipeline(
  live: LiveConfig,
  services: readonly ServiceName[],
  log: Logger,
  { redisIsOwn = false } = {},
): Promise<Pipeline> {
  const { config } = live;
  for (const warning of warningsOf(config)) log.warn(warning);
  const registry = new MetricsRegistry(services);
  registry.metrics.buildInfo.set({ version: VERSION, node: process.versions.node }, 1);
  const token = config.admin.token?.reveal();
  const whole = SERVICES.every((name) => services.includes(name));
  const wakes = { scheduler: new WakeSignal(), exporter: new WakeSignal() };
  const inProcess = whole ? { inProcess: { ...wakes, handOff: new InProcessHandOff() } } : {};
  const { listen, tls, hosts } = config.admin;
  const admin = new AdminServer({ listen, tls, hosts, ...(token ? { token } : {}) }, registry, log);
  const status = new StatusBoard(VERSION);
  const record = status.note.bind(status);
  const transitions = new Transitions({ log, service: 'nrdot', record });
  const host: Host = {
    ...{ log, transitions, metrics: registry.metrics, registry, admin, live, status, redisIsOwn },
    ...inProcess,
  };
  live.follow(({ log: { level } }) => () => {
    log.level = level;
  });
  const certificates = new CertificateWatch(config, services, registry, transitions);
  // One subject per source, so that a program that calls the API repeatedly does not suppress the line of somebody who sends a
  // signal.
  const told = (by: string, what: string, level?: 'error') =>
    transitions.happened(`configuration:${by}`, `Configuration ${what}`, level);
  addConfigRoutes(admin, live, (what) => told('api', `${what}.`));
  const started: RunningService[] = [];
  let otlp: Address | undefined;
  let dlqUrl = config.dlq.url;
  const start = {
    dlq: async () => {
      const dlq = await (await import('@nrdot/dlq')).startDlq(config, host);
      dlqUrl ??= urlOf(config.dlq, dlq.address);
      return dlq;
    },
    exporter: async () => (await import('@nrdot/exporter')).startExporter(config, host, VERSION),
    scheduler: async () => (await import('@nrdot/scheduler')).startScheduler(config, host),
    receiver: async () => {
      const receiver = await (await import('@nrdot/receiver')).startReceiver(config, host, dlqUrl);
      otlp = receiver.address;
      return receiver;
    },
  };
  try {
    for (const name of ['dlq', 'exporter', 'scheduler', 'receiver'] as const) {
      if (!services.includes(name)) continue;
      const service = await start[name]();
      started.unshift(service);
      admin.watch(service);
    }
    const address = await admin.start();
    const telemetry = await startTelemetry(config, host, services, otlp);
    const stop = async (timeoutMs: number) => {
      certificates.stop();
      await telemetry?.stop(timeoutMs / 2);
      await status.stop(timeoutMs / 4);
      const unreached = started.filter(({ reached }) => reached?.() === false).map(({ name }) => name);
      return { unclean: await stopTogether(started, timeoutMs, log, admin), unreached };
    };
    const reload = () => {
      try {
        told('signal', `reloaded: ${names(live.reload())}.`);
      } catch (error) {
        told('signal', `not reloaded, nothing was applied: ${(error as Error).message}`, 'error');
      }
    };
    const waitsFor = () => [...new Set(started.flatMap((service) => service.notReady() ?? []))];
    return { admin: address, otlp, waitsFor, reload, stop };
  } catch (error) {
    certificates.stop();
    await status.stop(UNSTARTED_TELL_MS);
    await stopTogether(started, 0, log);
    throw startError(error, config);
  }
}
