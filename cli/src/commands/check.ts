import { loadConfig } from '@nrdot/config';
import type { SignalCheck } from '@nrdot/exporter';
import { type ConfigFlags, configSource } from '../config-flags.ts';
import { print } from '../output.ts';
import { VERSION } from '../version.ts';
import { EXIT_CODES } from './status.ts';

/** `nrdot check upstream`: sends one empty request per signal to the configured upstream. */
export async function checkUpstreamCommand(flags: ConfigFlags): Promise<void> {
  const { config } = loadConfig(configSource(flags));
  const { checkUpstream } = await import('@nrdot/exporter');
  const checks = await checkUpstream(config, VERSION);
  print(flags, { checks }, checks.map(checkText).join('\n'));
  if (checks.some(({ ok }) => !ok)) process.exitCode = EXIT_CODES.fault;
}

function checkText({ signal, url, ok, part, found, todo }: SignalCheck): string {
  const head = `${signal.padEnd(8)} ${(ok ? 'ok' : 'FAILS').padEnd(6)} ${url}`;
  const indent = `\n${' '.repeat(16)}`;
  return `${head}${indent}${part ? `${part}: ` : ''}${found}${todo ? `${indent}→ ${todo}` : ''}`;
}
