import type { Command } from 'commander';

/**
 * Adds the flags of a command that talks to a running service.
 * @param json description of `--json`
 */
export function withAdmin(command: Command, { json = 'print JSON' } = {}): Command {
  return command
    .option(
      '--config <file>',
      'configuration that names the admin address; default nrdot.yaml when it is there',
    )
    .option('--admin <host:port>', 'admin address of the service, when it is another')
    .option('--json', json);
}
