import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type Config, ConfigError, hasUpstream, loadConfig } from '@nrdot/config';
import { type Accounting, reclaim } from '@nrdot/queue';
import { endSoon, formatAddress, LiveConfig, openStore, untilSignal } from '@nrdot/service';
import { causeText, durationText, type Logger, MetricsRegistry } from '@nrdot/telemetry';
import type { MockUpstream } from '@nrdot/testbed';
import { type ConfigFlags, configSource } from '../config-flags.ts';
import { printLine } from '../output.ts';
import { loggerOf, type Pipeline, startPipeline, urlOf } from '../pipeline.ts';
import { SERVICES } from '../pipeline-services.ts';
import { PrivateRedis } from '../private-redis.ts';
import { type Running, runningText } from '../running.ts';
import { tellServiceManager } from '../service-manager.ts';
import { startError } from '../start-error.ts';
import { stoppedText } from '../stopped.ts';
import { VERSION } from '../version.ts';

/** A running Redis answers within this time. */
const ACCOUNTING_MS = 1_500;
const MOCK_LISTEN = { host: '127.0.0.1', port: 4320 };

/** Requeues the jobs of a run that was killed, at once, since nobody else uses a private Redis. */
async function takeUpAgain(config: Config, log: Logger): Promise<void> {
  const registry = new MetricsRegistry([]); // ends before it could be scraped
  const { link, store } = openStore(config, { log, registry }, 'consumer', 'up');
  await link.untilReady();
  const jobs = await reclaim(store);
  if (jobs > 0) log.info({ jobs }, 'requeued jobs that a killed run had taken');
  link.close();
}

/** `nrdot up`: the whole pipeline in this process, with a private Redis as its child. */
export async function up(flags: ConfigFlags): Promise<void> {
  const source = configSource(flags);
  let { config } = loadConfig(source);
  const log = loggerOf(config, process.stderr.isTTY ?? false);
  const say = printLine.bind(undefined, flags);

  let mock: MockUpstream | undefined;
  if (!hasUpstream(config)) {
    const { startMockUpstream } = await import('@nrdot/testbed');
    mock = await startMockUpstream({ listen: formatAddress(MOCK_LISTEN) }).catch((error: unknown) => {
      throw startError(error, config, MOCK_LISTEN);
    });
  }
  let redis: PrivateRedis | undefined;
  const { url, sentinels, cluster } = config.redis;
  if (!url && sentinels.length === 0 && cluster.length === 0)
    redis = new PrivateRedis(join(config.dataDir, 'redis'), config.redis, log);
  let pipeline: Pipeline | undefined;
  const end = async () => {
    await redis?.stop();
    await mock?.close();
  };
  const asked = untilSignal(log, () => pipeline?.reload());
  const start = async (): Promise<Pipeline> => {
    await redis?.start();
    const live = new LiveConfig({
      ...source,
      overrides: {
        ...source.overrides,
        ...(redis ? { 'redis.url': redis.url } : {}),
        ...(mock ? { 'exporter.endpoint': mock.url, 'exporter.proxy': 'none' } : {}),
      },
    });
    ({ config } = live);
    if (redis) await takeUpAgain(config, log);
    return startPipeline(live, SERVICES, log, { redisIsOwn: redis !== undefined });
  };
  try {
    const starting = start();
    starting.catch(() => {}); // handled below, or no longer awaited
    const first = await Promise.race([starting, asked]);
    if (typeof first === 'string') {
      say({ event: 'stopping', signal: first }, `${first}: stopping before everything has started.`);
      await end();
      process.exitCode = first === 'SIGINT' ? 130 : 143;
      return endSoon();
    }
    pipeline = first;
  } catch (error) {
    await end();
    if (error instanceof ConfigError) throw error;
    throw new Error(`nrdot up: ${causeText(error)}`, { cause: error });
  }
  const { endpoint, endpoints } = config.exporter;
  const running: Running = {
    event: 'running',
    version: VERSION,
    otlp: pipeline.otlp ? urlOf(config.receiver, pipeline.otlp) : 'nowhere',
    upstreams: mock
      ? [mock.url]
      : [...new Set([endpoint, ...Object.values(endpoints)])].filter((url) => url !== undefined),
    isMock: mock !== undefined,
    admin: urlOf(config.admin, pipeline.admin),
    data: config.dataDir,
    ...(redis ? { redisSocket: redis.socket } : {}),
    waitsFor: pipeline.waitsFor(),
  };
  say(running, runningText(running));
  tellServiceManager(log);
  const signal = await asked;
  say(
    { event: 'stopping', signal, withinMs: config.admin.shutdownTimeoutMs },
    `${signal}: draining for at most ${durationText(config.admin.shutdownTimeoutMs / 1000)} …`,
  );
  const stopped = await pipeline.stop(config.admin.shutdownTimeoutMs);
  const books = stopped.unreached.length > 0 ? undefined : await accountingAtTheEnd(config, log);
  await end();
  const { clean, text } = stoppedText(stopped, { books });
  say({ event: 'stopped', clean, message: text, ...stopped, ...(books ? { books } : {}) }, text);
  if (!clean) process.exitCode = 1;
  endSoon();
}

/** What is left when everything has stopped; undefined if Redis does not answer in time. */
async function accountingAtTheEnd(config: Config, log: Logger): Promise<Accounting | undefined> {
  const quiet = { log: log.child({}, { level: 'silent' }), registry: new MetricsRegistry([]) };
  const { link, store } = openStore(config, quiet, 'producer', 'up');
  try {
    const read = link.untilReady().then((ready) => (ready ? store.accounting() : undefined));
    return await Promise.race([read, wait(ACCOUNTING_MS, undefined)]);
  } catch {
    return undefined;
  } finally {
    link.close();
  }
}
