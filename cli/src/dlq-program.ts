import { type Command, InvalidArgumentError, Option } from 'commander';
import { withAdmin } from './with-admin.ts';

const CLASSES = ['critical', 'high', 'normal'];
const LIST_MAX = 1_000;

/** Adds operators' commands to the command that starts a dlq. The subcommand may come before or after the common flags. */
export function addDlqCommands(dlq: Command): void {
  dlq.enablePositionalOptions().addHelpText(
    'after',
    `
Without a subcommand it runs the service. The subcommands talk to a running dlq, in "nrdot up" or separate, at its admin address;
verify and export can also read a directory that no service has open (--dir).

Examples:
  nrdot dlq stats                                  what is on disk, and when it will be drained
  nrdot dlq ls --rejected                          what the upstream rejected, and why
  nrdot dlq replay --rejected --since 2h           send it again
  nrdot dlq export --class critical > batches.jsonl
  nrdot dlq verify --dir /var/lib/nrdot/dlq        on a machine where it does not run`,
  );

  selecting(withAdmin(dlq.command('ls').description('list waiting batches, oldest first')))
    .option('--segments', 'list segment files instead')
    .option('--limit <n>', `maximum number of batches, up to ${LIST_MAX}`, limit, '100')
    .action(async (_flags, command: Command) => (await import('./commands/dlq.ts')).lsCommand(all(command)));

  withAdmin(dlq.command('show').description('details of a batch, or of a segment such as normal/12'))
    .argument('<id>', 'as ls shows it')
    .action(async (id: string, _flags, command: Command) =>
      (await import('./commands/dlq.ts')).showCommand(id, all(command)),
    );

  withAdmin(
    dlq
      .command('stats')
      .description('what is on disk, the progress of replay, when the disk will be drained'),
  ).action(async (_flags, command: Command) =>
    (await import('./commands/dlq.ts')).statsCommand(all(command)),
  );

  withAdmin(dlq.command('verify').description('check every sealed segment against its SHA-256'))
    .option('--dir <dir>', 'read this directory, which no service has open, and check every block and record')
    .addHelpText(
      'after',
      '\nExit code: 0 if everything is intact, 1 if something is damaged or could not be checked.',
    )
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq-reading.ts')).verifyCommand(all(command)),
    );

  selecting(
    withAdmin(
      dlq.command('replay').description('replay now, even while paused; with --rejected, rejected batches'),
    ),
  )
    .option('--rate <size>', 'new maximum rate in bytes per second, such as 8MiB')
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq.ts')).replayCommand(all(command)),
    );

  for (const [name, description] of [
    ['pause', 'stop automatic replay, also across restarts, until it is resumed'],
    ['resume', 'continue replaying'],
  ] as const) {
    withAdmin(dlq.command(name).description(description)).action(async (_flags, command: Command) =>
      (await import('./commands/dlq.ts')).pauseCommand(name === 'pause', all(command)),
    );
  }

  selecting(
    withAdmin(
      dlq
        .command('export')
        .description('write waiting batches as OTLP JSON, one per line; they stay on disk'),
      { json: 'report the number of batches, or the error, as JSON on standard error' },
    ),
  )
    .option('--output <file>', 'new file, readable only by its owner; default standard output')
    .option('--dir <dir>', 'read this directory, which no service has open')
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq-reading.ts')).exportCommand(all(command)),
    );

  withAdmin(
    dlq.command('purge').description('drop batches permanently; they are accounted for as dropped (purged)'),
  )
    .addOption(ofClass())
    .option('--rejected', 'batches that the upstream rejected; default: those that wait for replay')
    .option('--yes', 'confirm; without it, only report how much would be dropped')
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq.ts')).purgeCommand(all(command)),
    );
}

/** Flags of the command and its parents. */
function all<Flags>(command: Command): Flags {
  return command.optsWithGlobals() as Flags;
}

function selecting(command: Command): Command {
  return command
    .addOption(ofClass())
    .option('--rejected', 'batches that the upstream rejected')
    .option('--since <time>', 'received since: 2h (ago), or 2026-11-24T10:00:00Z')
    .option('--until <time>', 'received until');
}

function ofClass(): Option {
  return new Option('--class <name>', 'only this class').choices(CLASSES);
}

function limit(text: string): string {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > LIST_MAX)
    throw new InvalidArgumentError(`expected a whole number from 1 to ${LIST_MAX}`);
  return text;
}
