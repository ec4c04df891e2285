import { loadConfig } from '@nrdot/config';
import type { SignalCheck } from '@nrdot/exporter';
import { type ConfigFlags, configSource } from '../config-flags.ts';
import { VERSION } from '../version.ts';

/** Exit code, the same as that of `nrdot status` for a fault. */
const FAILED = 4;

/** `nrdot check upstream`: sends one empty request per signal to the configured upstream. */
export async function checkUpstreamCommand(flags: ConfigFlags & { json?: boolean }): Promise<void> {
  const { config } = loadConfig(configSource(flags));
  const { checkUpstream } = await import('@nrdot/exporter');
  const checks = await checkUpstream(config, VERSION);
  process.stdout.write(flags.json ? `${JSON.stringify({ checks }, null, 2)}\n` : checksText(checks));
  if (checks.some(({ ok }) => !ok)) process.exitCode = FAILED;
}

function checksText(checks: readonly SignalCheck[]): string {
  return checks
    .map(({ signal, url, ok, part, found, todo }) => {
      const head = `${signal.padEnd(8)} ${(ok ? 'ok' : 'FAILS').padEnd(6)} ${url}`;
      const indent = ' '.repeat(16);
      return `${head}\n${indent}${part ? `${part}: ` : ''}${found}\n${todo ? `${indent}→ ${todo}\n` : ''}`;
    })
    .join('');
}
