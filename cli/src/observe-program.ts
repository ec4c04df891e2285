import { parseDuration } from '@nrdot/config';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { withAdmin } from './with-admin.ts';

/** Adds the commands that show the state of a running pipeline. */
export function addObserveCommands(program: Command): void {
  withAdmin(
    program
      .command('status')
      .description(
        'where the data is, what is the matter and who runs, on one screen; the exit code says whether all is well',
      ),
  )
    .addHelpText(
      'after',
      `
Exit codes: 0 all is well, or nothing has to be done; 3 it works, look soon (a warning: delivery is paused, something
spills, a service is silent); 4 look now (a fault: Redis or a service is away, the disk takes nothing, everything is
rejected, data is being dropped, the key is refused); 1 nothing answers; 2 the configuration is not valid. The first line
says which it is, the line "data" where the data is, the line "lost" whether any was lost; docs/operations.md explains each.

Examples:
  nrdot status                             of "nrdot up"
  nrdot status --admin scheduler-1:8888    services of their own: the scheduler knows the whole
  nrdot status --json | jq .books          accepted, delivered, queued, on disk, rejected, dropped, difference
  nrdot status > /dev/null || echo look    in a script`,
    )
    .action(async (flags) => (await import('./commands/status.ts')).statusCommand(flags));

  withAdmin(
    program
      .command('doctor')
      .description(
        'recount what Redis holds: depth, accounting, payloads without jobs and jobs without payloads; say what is off and why',
      ),
  )
    .option('--repair', 'mend it, while the pipeline runs')
    .addHelpText(
      'after',
      `
It asks the scheduler, which reads Redis in bounded steps: at most 1,000 jobs and 10,000 batches, or 16 repairs, in one. What is
off has to be so in two checks, so that a batch in flight is never taken for damage. A repair checks again in the step that
mends, and removes nothing that Redis holds of a batch. What it mended is in "nrdot events".
Exit codes: 0 nothing is off, or all of it was mended, or it is only a note; 3 something is off, and nothing is lost by it (a
warning); 4 something is lost, or nobody would deliver it (a fault); 1 nothing answers; 2 the configuration is not valid.

Examples:
  nrdot doctor                             of "nrdot up"
  nrdot doctor --repair                    and mend what it finds
  nrdot doctor --admin scheduler-1:8888    services of their own: the scheduler does it
  nrdot doctor --json | jq '.damage[].kind'`,
    )
    .action(async (flags) => (await import('./commands/doctor.ts')).doctorCommand(flags));

  withAdmin(
    program
      .command('top')
      .description('the status, live: in place on a terminal, a line each time elsewhere'),
  )
    .option('--every <time>', 'how often to look', atLeast(200), 1_000)
    .option('--count <n>', 'end after so many looks', positive)
    .addHelpText(
      'after',
      `
q, Escape or Ctrl-C ends it.

Examples:
  nrdot top                                of "nrdot up"
  nrdot top --every 5s                     less often
  nrdot top --every 10s | tee outage.log   plain lines, to keep`,
    )
    .action(async (flags) => (await import('./commands/top.ts')).topCommand(flags));

  withAdmin(
    program
      .command('events')
      .description(
        'what has changed: outages and their ends, with cause, duration and items; over restarts too',
      ),
  )
    .option('--limit <n>', 'the last so many, at most 1000', positive, 50)
    .addHelpText(
      'after',
      `
The last 1,000 lines of the whole pipeline are kept in Redis: the same that the logs have. While Redis is away only those of
the scheduler's own process can be shown.

Examples:
  nrdot events                             the last 50 of "nrdot up"
  nrdot events --limit 1000 | grep upstream
  nrdot events --json | jq -r '.events[] | select(.subject == "upstream").message'`,
    )
    .action(async (flags) => (await import('./commands/events.ts')).eventsCommand(flags));

  withAdmin(
    program
      .command('tap')
      .description('a bounded sample of what a receiver takes, decoded; secrets are redacted'),
  )
    .addOption(new Option('--class <name>', 'only this class').choices(['critical', 'high', 'normal']))
    .addOption(new Option('--signal <name>', 'only this signal').choices(['traces', 'metrics', 'logs']))
    .option('--service <name>', 'only of resources with this service.name')
    .option('--limit <n>', 'end after so many items, at most 1000', positive, 20)
    .option('--seconds <n>', 'end after so long, at most 300', positive, 30)
    .addHelpText(
      'after',
      `
A few items of at most twenty requests in a second are decoded, in the receiver, and redacted there: values of keys that
look like credentials, bearer tokens, passwords in URLs, and long opaque strings (docs/tap.md says which). With nobody
tapping it costs nothing.

Examples:
  nrdot tap                                   the next 20 items of "nrdot up"
  nrdot tap --class critical --signal logs    critical log records
  nrdot tap --service checkout --limit 100    of one service
  nrdot tap --admin receiver-2:8888 --json    of a receiver of its own, a JSON object for each item`,
    )
    .action(async (flags) => (await import('./commands/tap.ts')).tapCommand(flags));
}

function atLeast(minimumMs: number) {
  return (text: string): number => {
    const ms = parseDuration(text);
    if (ms === undefined || ms < minimumMs)
      throw new InvalidArgumentError(`expected a time of at least ${minimumMs}ms, such as 2s`);
    return ms;
  };
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('expected a whole number above 0');
  return value;
}
