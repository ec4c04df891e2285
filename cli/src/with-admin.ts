import type { Command } from 'commander';

/** A command that speaks to a running service. */
export function withAdmin(command: Command, { json = true } = {}): Command {
  command
    .option(
      '--config <file>',
      'configuration that names the admin address; default nrdot.yaml when it is there',
    )
    .option('--admin <host:port>', 'admin address of the service, when it is another');
  return json ? command.option('--json', 'print JSON') : command;
}
