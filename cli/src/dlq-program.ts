import { CLASSES } from '@nrdot/queue/priority-class';
import { InvalidArgumentError } from 'commander';
import type { ProgramCommand } from './program-command.ts';

const LIST_MAX = 1_000;

/** Adds operators' commands to the command that starts a dlq. The subcommand may come before or after the common flags. */
export function addDlqCommands(dlq: ProgramCommand): void {
  dlq.enablePositionalOptions().after(`
Without a subcommand it runs the service. The subcommands talk to a running dlq, in "nrdot up" or separate, at its admin address;
verify and export can also read a directory that no service has open (--dir).

Examples:
  nrdot dlq stats                                  what is on disk, and when it will be drained
  nrdot dlq ls --rejected                          what the upstream rejected, and why
  nrdot dlq replay --rejected --since 2h           send it again
  nrdot dlq export --class critical > batches.jsonl
  nrdot dlq verify --dir /var/lib/nrdot/dlq        on a machine where it does not run`);

  dlq
    .command('ls')
    .description('list waiting batches, oldest first')
    .withAdmin()
    .withSelection()
    .option('--segments', 'list segment files instead')
    .option('--limit <n>', `maximum number of batches, up to ${LIST_MAX}`, limit, '100')
    .action(async (flags) => (await import('./commands/dlq.ts')).lsCommand(flags));

  dlq
    .command('show')
    .description('details of a batch, or of a segment such as normal/12')
    .withAdmin()
    .argument('<id>', 'as ls shows it')
    .action(async (id: string, flags) => (await import('./commands/dlq.ts')).showCommand(id, flags));

  dlq
    .command('stats')
    .description('what is on disk, the progress of replay, when the disk will be drained')
    .withAdmin()
    .action(async (flags) => (await import('./commands/dlq.ts')).statsCommand(flags));

  dlq
    .command('verify')
    .description('check every sealed segment against its SHA-256')
    .withAdmin()
    .option('--dir <dir>', 'read this directory, which no service has open, and check every block and record')
    .after('\nExit code: 0 if everything is intact, 1 if something is damaged or could not be checked.')
    .action(async (flags) => (await import('./commands/dlq-reading.ts')).verifyCommand(flags));

  dlq
    .command('replay')
    .description('replay now, even while paused; with --rejected, rejected batches')
    .withAdmin()
    .withSelection()
    .option('--rate <size>', 'new maximum rate in bytes per second, such as 8MiB')
    .action(async (flags) => (await import('./commands/dlq.ts')).replayCommand(flags));

  const pausing = (paused: boolean, name: string, description: string) =>
    dlq
      .command(name)
      .description(description)
      .withAdmin()
      .action(async (flags) => (await import('./commands/dlq.ts')).pauseCommand(paused, flags));
  pausing(true, 'pause', 'stop automatic replay, also across restarts, until it is resumed');
  pausing(false, 'resume', 'continue replaying');

  dlq
    .command('export')
    .description('write waiting batches as OTLP JSON, one per line; they stay on disk')
    .withAdmin('report the number of batches, or the error, as JSON on standard error')
    .withSelection()
    .option('--output <file>', 'new file, readable only by its owner; default standard output')
    .option('--dir <dir>', 'read this directory, which no service has open')
    .action(async (flags) => (await import('./commands/dlq-reading.ts')).exportCommand(flags));

  dlq
    .command('purge')
    .description('drop batches permanently; they are accounted for as dropped (purged)')
    .withAdmin()
    .choice('--class <name>', 'only this class', CLASSES)
    .option('--rejected', 'batches that the upstream rejected; default: those that wait for replay')
    .option('--yes', 'confirm; without it, only report how much would be dropped')
    .action(async (flags) => (await import('./commands/dlq.ts')).purgeCommand(flags));
}

function limit(text: string): string {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > LIST_MAX)
    throw new InvalidArgumentError(`expected a whole number from 1 to ${LIST_MAX}`);
  return text;
}
