import { type Command, InvalidArgumentError, Option } from 'commander';
import { withAdmin } from './with-admin.ts';

const CLASSES = ['critical', 'high', 'normal'];
const LIST_MAX = 1_000;

/** Adds operators' commands to the command that starts a dlq. The subcommand may come before or after the common flags. */
export function addDlqCommands(dlq: Command): void {
  dlq.enablePositionalOptions().addHelpText(
    'after',
    `
Without a command it runs the service. The commands speak to a running one, of "nrdot up" or of its own, by its admin address;
verify and export also read a directory that no service has open (--dir).

Examples:
  nrdot dlq stats                                  what there is, and when it will be drained
  nrdot dlq ls --rejected                          what the upstream refused for good, and why
  nrdot dlq replay --rejected --since 2h           offer it again
  nrdot dlq export --class critical > batches.jsonl
  nrdot dlq verify --dir /var/lib/nrdot/dlq        of a machine that is down`,
  );

  selecting(withAdmin(dlq.command('ls').description('list the batches that wait, oldest first')))
    .option('--segments', 'the segment files instead')
    .option('--limit <n>', `at most so many batches, up to ${LIST_MAX}`, limit, '100')
    .action(async (_flags, command: Command) => (await import('./commands/dlq.ts')).lsCommand(all(command)));

  withAdmin(dlq.command('show').description('all about a batch, or about a segment such as normal/12'))
    .argument('<id>', 'as ls shows it')
    .action(async (id: string, _flags, command: Command) =>
      (await import('./commands/dlq.ts')).showCommand(id, all(command)),
    );

  withAdmin(
    dlq.command('stats').description('what is on disk, how replay goes, when it will be drained'),
  ).action(async (_flags, command: Command) =>
    (await import('./commands/dlq.ts')).statsCommand(all(command)),
  );

  withAdmin(dlq.command('verify').description('check every sealed segment against its SHA-256'))
    .option('--dir <dir>', 'read this directory, which no service has open, and check every block and record')
    .addHelpText(
      'after',
      '\nExit code: 0 when all is whole, 1 when something is damaged or could not be checked.',
    )
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq-reading.ts')).verifyCommand(all(command)),
    );

  selecting(
    withAdmin(
      dlq
        .command('replay')
        .description('replay now, even while paused; rejected batches too, when they are asked for'),
    ),
  )
    .option('--rate <size>', 'from now on at most so many bytes per second, such as 8MiB')
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq.ts')).replayCommand(all(command)),
    );

  for (const [name, description] of [
    ['pause', 'replay nothing by itself, over restarts too, until it is resumed'],
    ['resume', 'go on replaying'],
  ] as const) {
    withAdmin(dlq.command(name).description(description)).action(async (_flags, command: Command) =>
      (await import('./commands/dlq.ts')).pauseCommand(name === 'pause', all(command)),
    );
  }

  selecting(
    withAdmin(
      dlq
        .command('export')
        .description('write the batches that wait as OTLP JSON, one a line; they stay on disk'),
      { json: 'say how many it were, or what was in the way, as JSON on standard error' },
    ),
  )
    .option('--output <file>', 'a new file, for its owner alone; default is standard output')
    .option('--dir <dir>', 'read this directory, which no service has open')
    .action(async (_flags, command: Command) =>
      (await import('./commands/dlq-reading.ts')).exportCommand(all(command)),
    );

  withAdmin(
    dlq.command('purge').description('drop batches for good; they are accounted for as dropped (purged)'),
  )
    .addOption(ofClass())
    .option('--rejected', 'those that the upstream refused for good; without it those that wait for replay')
    .option('--yes', 'do it; without, it is only said how much that would be')
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
    .option('--rejected', 'those that the upstream refused for good')
    .option('--since <time>', 'received since then: 2h ago, or 2026-11-24T10:00:00Z')
    .option('--until <time>', 'received until then');
}

function ofClass(): Option {
  return new Option('--class <name>', 'only of this class').choices(CLASSES);
}

function limit(text: string): string {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > LIST_MAX)
    throw new InvalidArgumentError(`expected a whole number from 1 to ${LIST_MAX}`);
  return text;
}
