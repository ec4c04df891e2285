import { loadConfig } from '@nrdot/config';
import { endSoon, formatAddress, untilSignal } from '@nrdot/service';
import { type ConfigFlags, configSource } from '../config-flags.ts';
import { loggerOf, startPipeline } from '../pipeline.ts';
import type { ServiceName } from '../pipeline-services.ts';

/** `nrdot receiver`, `scheduler`, `exporter`, `dlq`: one service in this process, against a Redis that is there. */
export async function service(name: ServiceName, flags: ConfigFlags): Promise<void> {
  const { config } = loadConfig(configSource(flags));
  const log = loggerOf(config, process.stderr.isTTY ?? false);
  const asked = untilSignal(log);
  const pipeline = await startPipeline(config, [name], log);
  log.info({ service: name, admin: formatAddress(pipeline.admin) }, 'started');
  const signal = await asked;
  log.info({ service: name, signal }, 'draining');
  await pipeline.stop(config.admin.shutdownTimeoutMs);
  log.info({ service: name }, 'stopped');
  endSoon();
}
