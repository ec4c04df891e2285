import type { Command } from 'commander';

/**
 * Adds the flags of a command that talks to a running service.
 * @param json description of `--json`
 */
export function withAdmin(command: Command, { json = 'print JSON' } = {}): Command {
  return command
    .option('--config <file>', 'configuration with the admin address; default nrdot.yaml if it exists')
    .option('--admin <host:port>', 'admin address of the service, if it is not the configured one')
    .option('--json', json);
}
