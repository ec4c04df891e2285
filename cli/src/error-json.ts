import { ConfigError } from '@nrdot/config';
import { causeText } from '@nrdot/telemetry';
import { CommanderError } from 'commander';

/** An error in the JSON form of every command with `--json`. */
export function errorJson(error: unknown): object {
  if (error instanceof ConfigError)
    return { error: { code: 'invalid_config', message: error.message, problems: error.problems } };
  const code = error instanceof CommanderError ? 'bad_command' : 'failed';
  return { error: { code, message: causeText(error).replace(/^error: /, '') } };
}
