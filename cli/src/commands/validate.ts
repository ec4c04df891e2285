import { loadConfig, warningsOf } from '@nrdot/config';
import { configSource } from '../config-flags.ts';

export interface ValidateFlags {
  explain?: boolean;
  probe?: boolean;
  json?: boolean;
}

/** `nrdot validate [FILE]`: says what is wrong, all at once, or that nothing is. */
export async function validate(named: string | undefined, options: ValidateFlags): Promise<void> {
  const source = configSource(named === undefined ? {} : { config: named });
  const { config, explain } = loadConfig(source);
  const warnings = warningsOf(config);
  if (!options.json) for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
  if (options.probe) {
    if (!options.json) process.stdout.write(`${source.file ?? 'The configuration'} is valid.\n`);
    const flags = {
      ...(source.file ? { config: source.file } : {}),
      ...(options.json ? { json: true } : {}),
    };
    await (await import('./check.ts')).checkUpstreamCommand(flags);
    return;
  }
  if (options.json) {
    const answer = {
      valid: true,
      file: source.file ?? null,
      warnings,
      ...(options.explain ? { options: explain() } : {}),
    };
    process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
    return;
  }
  process.stdout.write(
    source.file ? `${source.file} is valid.\n` : 'There is no nrdot.yaml here: the defaults are in force.\n',
  );
  if (!options.explain) return;
  for (const { path, value, source: from } of explain())
    process.stdout.write(`${path}: ${value}  # ${from}\n`);
}
