import {
  ConfigError,
  type ConfigSource,
  hasUpstream,
  type LoadedConfig,
  loadConfig,
  warningsOf,
} from '@nrdot/config';
import { configSource } from '../config-flags.ts';
import { given } from '../flag-values.ts';

export interface ValidateFlags {
  explain?: boolean;
  probe?: boolean;
  /** The service that is to be started with it. */
  for?: string;
  json?: boolean;
}

/** `nrdot validate [FILE]`: prints all problems at once, or that there are none. */
export async function validate(named: string | undefined, options: ValidateFlags): Promise<void> {
  const source = configSource(named === undefined ? {} : { config: named });
  const { config, explain } = loadForStart(source, options);
  const lacking = source.file && mayNeedUpstream(options) && !hasUpstream(config) ? [NO_UPSTREAM] : [];
  const warnings = [...warningsOf(config), ...lacking];
  if (!options.json) for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
  if (options.probe) {
    if (!options.json) process.stdout.write(`${source.file ?? 'The configuration'} is valid.\n`);
    const { checkUpstreamCommand } = await import('./check.ts');
    await checkUpstreamCommand(given({ config: source.file, json: options.json }));
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
    source.file ? `${source.file} is valid.\n` : 'There is no nrdot.yaml here: the defaults apply.\n',
  );
  if (!options.explain) return;
  for (const { path, value, source: from } of explain())
    process.stdout.write(`${path}: ${value}  # ${from}\n`);
}

const NO_UPSTREAM =
  'exporter.endpoint is not set: "nrdot up" uses its built-in mock upstream, and "nrdot exporter" does not start.';

/** In separate services, only the exporter needs an upstream. */
function mayNeedUpstream({ for: service = 'up' }: ValidateFlags): boolean {
  return service === 'up' || service === 'exporter';
}

/** @throws ConfigError with everything that would prevent a start on this machine */
function loadForStart(source: ConfigSource, options: ValidateFlags): LoadedConfig {
  const load = (upstream: boolean) => loadConfig({ ...source, forStart: { files: true, upstream } });
  try {
    return load(options.for === 'exporter');
  } catch (error) {
    if (!options.json && mayNeedUpstream(options) && lacksUpstream(load))
      process.stderr.write(`warning: ${NO_UPSTREAM}\n`);
    throw error;
  }
}

function lacksUpstream(load: (upstream: boolean) => unknown): boolean {
  try {
    load(true);
    return false;
  } catch (error) {
    return error instanceof ConfigError && error.problems.some(({ path }) => path === 'exporter.endpoint');
  }
}
