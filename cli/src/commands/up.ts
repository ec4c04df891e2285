import { join } from 'node:path';
import { type Config, ConfigError, loadConfig } from '@nrdot/config';
import { reclaim } from '@nrdot/queue';
import { endSoon, formatAddress, LiveConfig, openStore, untilSignal } from '@nrdot/service';
import { type Logger, MetricsRegistry } from '@nrdot/telemetry';
import type { MockUpstream } from '@nrdot/testbed';
import { type ConfigFlags, configSource } from '../config-flags.ts';
import { loggerOf, type Pipeline, reload, startPipeline } from '../pipeline.ts';
import { SERVICES } from '../pipeline-services.ts';
import { PrivateRedis } from '../private-redis.ts';
import { startError } from '../start-error.ts';
import { VERSION } from '../version.ts';

const MOCK_LISTEN = { host: '127.0.0.1', port: 4320 };

/** Nobody else works on a private Redis: what a killed run held is free at once. */
async function takeUpAgain(config: Config, log: Logger): Promise<void> {
  const registry = new MetricsRegistry([]); // gone before there is anything to scrape
  const { link, store } = openStore(config, { log, registry }, 'consumer', 'up');
  await link.untilReady();
  const jobs = await reclaim(store);
  if (jobs > 0) log.info({ jobs }, 'took up what a killed run was working on');
  link.close();
}

/** `nrdot up`: the whole pipeline in this process, with a private Redis as its child. */
export async function up(flags: ConfigFlags): Promise<void> {
  const source = configSource(flags);
  let { config } = loadConfig(source);
  const log = loggerOf(config, process.stderr.isTTY ?? false);
  const say = (line: string) => process.stdout.write(`${line}\n`);

  let mock: MockUpstream | undefined;
  if (!config.exporter.endpoint) {
    const { startMockUpstream } = await import('@nrdot/testbed');
    mock = await startMockUpstream({ listen: formatAddress(MOCK_LISTEN) }).catch((error: unknown) => {
      throw startError(error, config, MOCK_LISTEN);
    });
  }
  let redis: PrivateRedis | undefined;
  if (!config.redis.url && config.redis.sentinels.length === 0 && config.redis.cluster.length === 0) {
    redis = new PrivateRedis(
      {
        dir: join(config.dataDir, 'redis'),
        program: config.redis.private.redisServer,
        durability: config.redis.durability,
        maxmemoryBytes: config.redis.private.maxmemoryBytes,
      },
      log,
    );
  }
  let pipeline: Pipeline | undefined;
  const stop = async () => {
    await pipeline?.stop(config.admin.shutdownTimeoutMs);
    await redis?.stop();
    await mock?.close();
  };
  let live: LiveConfig | undefined;
  const asked = untilSignal(log, () => live && reload(live, log));
  try {
    await redis?.start();
    live = new LiveConfig({
      ...source,
      overrides: {
        ...source.overrides,
        ...(redis ? { 'redis.url': redis.url } : {}),
        ...(mock ? { 'exporter.endpoint': mock.url } : {}),
      },
    });
    ({ config } = live);
    if (redis) await takeUpAgain(config, log);
    pipeline = await startPipeline(live, SERVICES, log);
  } catch (error) {
    await stop();
    if (error instanceof ConfigError) throw error;
    throw new Error(`nrdot up: ${(error as Error).message}`, { cause: error });
  }
  const admin = `${config.admin.tls.certFile ? 'https' : 'http'}://${formatAddress(pipeline.admin)}`;
  const otlp = pipeline.otlp
    ? `${config.receiver.tls.certFile ? 'https' : 'http'}://${formatAddress(pipeline.otlp)}`
    : 'nowhere';
  say(`NRDOT+ ${VERSION} is running.`);
  say('');
  say(
    `  send OTLP/HTTP to   ${otlp}   (OTEL_EXPORTER_OTLP_ENDPOINT=${otlp} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)`,
  );
  say(
    mock
      ? `  delivered to        ${mock.url}   the built-in mock upstream: none is configured (--upstream URL, or exporter.endpoint)`
      : `  delivered to        ${config.exporter.endpoint}`,
  );
  say(`  console             ${admin}/   where the data is, and why it waits`);
  say(`  metrics and health  ${admin}/metrics  ${admin}/readyz`);
  if (mock) say(`  what arrived        ${mock.url}/_mock/stats`);
  say(`  data                ${config.dataDir}`);
  if (redis) say(`  look into Redis     redis-cli -s ${redis.socket}`);
  say('  stop                Ctrl-C; what is queued is kept and goes on at the next start');
  say('');
  const signal = await asked;
  say(`${signal}: draining …`);
  await stop();
  say('Stopped. Nothing is lost: what was still queued goes on at the next start.');
  endSoon();
}
