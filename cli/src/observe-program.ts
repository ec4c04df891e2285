import { parseDuration } from '@nrdot/config';
import { CLASSES } from '@nrdot/queue/priority-class';
import { InvalidArgumentError } from 'commander';
import { numeric, type ProgramCommand } from './program-command.ts';

const INTERVAL_MIN_MS = 200;
const positive = numeric((n) => Number.isInteger(n) && n > 0, 'a whole number above 0');

/** Adds the commands that show the state of a running pipeline. */
export function addObserveCommands(program: ProgramCommand): void {
  program
    .command('status')
    .description(
      'where the data is, what is wrong and what is running, on one screen; the exit code says whether all is well',
    )
    .withAdmin()
    .after(`
Exit codes: 0 all is well, or no action is needed; 3 it works, but look soon (a warning: delivery is paused, data spills,
a service does not report); 4 look now (a fault: Redis or a service is away, the disk accepts nothing, everything is
rejected, data is being dropped, the key is refused); 1 no response; 2 the configuration is not valid. The first line says
which it is, the line "data" where the data is, the line "lost" whether any was lost; docs/operations.md explains them.

Examples:
  nrdot status                             "nrdot up"
  nrdot status --admin scheduler-1:8888    separate services: the scheduler knows all of them
  nrdot status --json | jq .books          accepted, delivered, queued, on disk, rejected, dropped, difference
  nrdot status > /dev/null || echo look    in a script`)
    .action(async (flags) => (await import('./commands/status.ts')).statusCommand(flags));

  program
    .command('doctor')
    .description(
      'recount the contents of Redis: depth, accounting, payloads without jobs, jobs without payloads; report what is off and why',
    )
    .withAdmin()
    .option('--repair', 'repair it, while the pipeline runs')
    .after(`
It asks the scheduler, which reads Redis in bounded steps of at most 1,000 jobs and 10,000 batches, or 16 repairs. Two checks
must agree, so a batch in flight is never mistaken for damage. A repair checks again in its own step, and removes no data of a
batch from Redis. Repairs are listed in "nrdot events".
Exit codes: 0 nothing is off, everything was repaired, or it is only a note; 3 something is off, but nothing is lost (a
warning); 4 data is lost, or would never be delivered (a fault); 1 no response; 2 the configuration is not valid.

Examples:
  nrdot doctor                             "nrdot up"
  nrdot doctor --repair                    and repair what it finds
  nrdot doctor --admin scheduler-1:8888    separate services: the scheduler does it
  nrdot doctor --json | jq '.damage[].kind'`)
    .action(async (flags) => (await import('./commands/doctor.ts')).doctorCommand(flags));

  program
    .command('top')
    .description('the status, live: updated in place on a terminal, otherwise one line per update')
    .withAdmin()
    .option('--every <time>', 'interval between updates', interval, 1_000)
    .option('--count <n>', 'stop after this many updates', positive)
    .after(`
Press q, Escape or Ctrl-C to quit.

Examples:
  nrdot top                                "nrdot up"
  nrdot top --every 5s                     less often
  nrdot top --every 10s | tee outage.log   plain lines, to keep`)
    .action(async (flags) => (await import('./commands/top.ts')).topCommand(flags));

  program
    .command('events')
    .description(
      'what has changed: outages and recoveries, with cause, duration and items; also from before a restart',
    )
    .withAdmin()
    .option('--limit <n>', 'number of events, at most 1000', positive, 50)
    .after(`
Redis keeps the last 1,000 events of the whole pipeline; they are the same lines as in the logs. While Redis is away, only
events of the scheduler's own process can be shown.

Examples:
  nrdot events                             the last 50 of "nrdot up"
  nrdot events --limit 1000 | grep upstream
  nrdot events --json | jq -r '.events[] | select(.subject == "upstream").message'`)
    .action(async (flags) => (await import('./commands/events.ts')).eventsCommand(flags));

  program
    .command('tap')
    .description('a limited sample of what a receiver accepts, decoded; secrets are redacted')
    .withAdmin()
    .choice('--class <name>', 'only this class', CLASSES)
    .choice('--signal <name>', 'only this signal', ['traces', 'metrics', 'logs'])
    .option('--service <name>', 'only resources with this service.name')
    .option('--limit <n>', 'stop after this many items, at most 1000', positive, 20)
    .option('--seconds <n>', 'stop after this many seconds, at most 300', positive, 30)
    .after(`
The receiver decodes a few items of at most twenty requests per second, and redacts them: values of keys that look like
credentials, bearer tokens, passwords in URLs, and long opaque strings (see docs/tap.md). It costs nothing while no tap is
open.

Examples:
  nrdot tap                                   the next 20 items of "nrdot up"
  nrdot tap --class critical --signal logs    critical log records
  nrdot tap --service checkout --limit 100    one service
  nrdot tap --admin receiver-2:8888 --json    a separate receiver; one JSON object per item`)
    .action(async (flags) => (await import('./commands/tap.ts')).tapCommand(flags));
}

function interval(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms < INTERVAL_MIN_MS)
    throw new InvalidArgumentError(`expected a time of at least ${INTERVAL_MIN_MS}ms, such as 2s`);
  return ms;
}
