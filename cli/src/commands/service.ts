import { endSoon, formatAddress, LiveConfig, untilSignal } from '@nrdot/service';
import { type ConfigFlags, configSource } from '../config-flags.ts';
import { loggerOf, type Pipeline, startPipeline } from '../pipeline.ts';
import type { ServiceName } from '../pipeline-services.ts';
import { tellServiceManager } from '../service-manager.ts';
import { stoppedText } from '../stopped.ts';

/** `nrdot receiver`, `scheduler`, `exporter`, `dlq`: one service in this process, with an existing Redis. */
export async function service(name: ServiceName, flags: ConfigFlags): Promise<void> {
  const live = new LiveConfig(configSource(flags));
  const { config } = live;
  const log = loggerOf(config, process.stderr.isTTY ?? false);
  let pipeline: Pipeline | undefined;
  const asked = untilSignal(log, () => pipeline?.reload());
  pipeline = await startPipeline(live, [name], log);
  log.info({ service: name, admin: formatAddress(pipeline.admin) }, 'started');
  tellServiceManager(log);
  const signal = await asked;
  log.info({ service: name, signal }, 'draining');
  const stopped = await pipeline.stop(config.admin.shutdownTimeoutMs);
  const { clean, text } = stoppedText(stopped);
  log[clean ? 'info' : 'error']({ service: name }, text);
  if (!clean) process.exitCode = 1;
  endSoon();
}
