import type { Command } from 'commander';

/**
 * A command that speaks to a running service.
 * @param json what it does with `--json`
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
