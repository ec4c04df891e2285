import { ConfigError } from '@nrdot/config';
import { causeText } from '@nrdot/telemetry';
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { BenchFlags } from './commands/bench.ts';
import type { ValidateFlags } from './commands/validate.ts';
import { completion, SHELLS, type Shell } from './completion.ts';
import type { ConfigFlags } from './config-flags.ts';
import { addDlqCommands } from './dlq-program.ts';
import { errorJson } from './error-json.ts';
import { addObserveCommands } from './observe-program.ts';
import { SERVICES } from './pipeline-services.ts';
import { VERSION } from './version.ts';
import { withAdmin } from './with-admin.ts';

const DESCRIPTIONS = {
  receiver: 'receive OTLP/HTTP, classify, and queue in Redis',
  scheduler: 'decide what goes next: weights, spill, breaker',
  exporter: 'send to the upstream; run as many as you like',
  dlq: 'keep spilled batches on disk and replay them; its commands look and act',
} as const;

/**
 * The `nrdot` command. A command's modules are loaded when it runs, so that an exporter does not load the receiver.
 * @param argv as in process.argv
 */
export async function main(argv: readonly string[]): Promise<void> {
  // Programs that read JSON get errors as JSON too.
  const json = argv.includes('--json');
  try {
    await createProgram(json).parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return; // help or version
    process.exitCode = error instanceof ConfigError ? 2 : 1;
    if (json) process.stdout.write(`${JSON.stringify(errorJson(error), null, 2)}\n`);
    else process.stderr.write(asText(error));
    // Exit although parts of a pipeline that failed to start may still run.
    (await import('@nrdot/service')).endSoon();
  }
}

function asText(error: unknown): string {
  return error instanceof ConfigError
    ? `The configuration is not valid:\n${error.message.replace(/^/gm, '  ')}\n`
    : `${causeText(error)}\n`;
}

/** All commands with their flags. */
export function createProgram(json = false): Command {
  const program = new Command('nrdot');
  if (json) program.exitOverride().configureOutput({ writeErr: () => {} });
  program
    .description(
      'NRDOT+: a durable OTLP gateway. It limits cardinality, orders by priority, and loses nothing.',
    )
    .version(VERSION, '-V, --version')
    .showHelpAfterError('(nrdot --help shows what there is)')
    .addHelpText(
      'after',
      `
Examples:
  nrdot up                                     everything in one process, to the built-in mock upstream
  nrdot up --upstream https://otlp.nr-data.net --config nrdot.yaml
  nrdot generate --rate 10000 --duration 30s   send it a load
  nrdot status                                 where the data is, and whether all is well
  nrdot demo                                   a storm, an overload, an outage; with a verdict
  nrdot validate nrdot.yaml                    check a configuration`,
    );

  withConfig(program.command('up').description('run the whole pipeline in one process, with a private Redis'))
    .option('--upstream <url>', 'base URL to deliver to; without one, a mock upstream is started')
    .option('--listen <host:port>', 'where to receive OTLP/HTTP')
    .option('--data <dir>', 'where Redis and the dlq keep their files')
    .option('--json', 'print JSON lines: where everything is once it runs, and how it stopped; so is the log')
    .action(async (flags: ConfigFlags) => (await import('./commands/up.ts')).up(flags));

  for (const name of SERVICES) {
    const command = withConfig(program.command(name).description(`run one service: ${DESCRIPTIONS[name]}`));
    if (name === 'receiver') command.option('--listen <host:port>', 'where to receive OTLP/HTTP');
    if (name === 'exporter') command.option('--upstream <url>', 'base URL to deliver to');
    command.option('--json', 'log JSON lines on a terminal too; print an error as JSON');
    if (name === 'dlq') {
      command.option('--data <dir>', 'where the segments are');
      addDlqCommands(command);
    }
    command.allowExcessArguments().action(async (flags: ConfigFlags, { args: [unknown] }: Command) => {
      if (unknown !== undefined) {
        const known = command.commands.map((child) => child.name()).join(', ');
        command.error(
          `error: nrdot ${name} has no command "${unknown}"; ${known ? `it has ${known}` : 'expected flags alone'}`,
        );
      }
      await (await import('./commands/service.ts')).service(name, flags);
    });
  }

  program
    .command('validate')
    .description('check a configuration file; says all that is wrong, with lines')
    .argument('[file]', 'default nrdot.yaml when it is there')
    .option('--config <file>', 'the same, as the other commands have it')
    .option('--explain', 'show every effective value and where it comes from')
    .addOption(
      new Option('--for <service>', 'what is to be started with it')
        .choices(['up', ...SERVICES])
        .default('up'),
    )
    .option('--probe', 'then try the upstream out, as nrdot check upstream does')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  nrdot validate                       nrdot.yaml of this directory
  nrdot validate other.yaml --explain  every effective value, and who set it
  nrdot validate --for exporter        also whether it names an upstream`,
    )
    .action(async (file: string | undefined, options: ValidateFlags & { config?: string }) =>
      (await import('./commands/validate.ts')).validate(file ?? options.config, options),
    );

  const check = program
    .command('check')
    .description('try something out before it is needed; see what a backend would not keep');
  withConfig(
    check
      .command('upstream')
      .description(
        'one empty request for each signal to the upstream as configured; names what is in the way',
      ),
  )
    .option('--upstream <url>', 'base URL of another one')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
What it names: host (its name), proxy, network (the connection), tls (the certificate), address (the path), key, encoding, size, upstream
(it fails or throttles). Nothing is stored there: the requests have no items.
Exit code: 0 when every signal is taken, 4 when one is not, 2 when the configuration is not valid.

Examples:
  nrdot check upstream                          the one that nrdot.yaml names
  nrdot check upstream --config staging.yaml --json`,
    )
    .action(async (flags) => (await import('./commands/check.ts')).checkUpstreamCommand(flags));
  withAdmin(
    check
      .command('traffic')
      .description('what New Relic would drop, prune or shorten behind a 200 of what a receiver takes'),
  )
    .addHelpText(
      'after',
      `
A share of the batches is looked at: check.sample. Examples have names and sizes, and no values.

Examples:
  nrdot check traffic                          of "nrdot up", or of the receiver that nrdot.yaml names
  nrdot check traffic --admin receiver-2:8888  of another receiver`,
    )
    .action(async (flags) => (await import('./commands/check-traffic.ts')).checkTrafficCommand(flags));
  check
    .command('file')
    .description('the same of requests in files: OTLP JSON, one on each line or one in all, or protobuf')
    .argument('<files...>')
    .addOption(
      new Option('--signal <name>', 'of a request in protobuf').choices(['traces', 'metrics', 'logs']),
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Exit code: 0 when all of it would arrive as it is, 3 when something would not, 1 when a file cannot be read.

Examples:
  nrdot check file requests.jsonl                      such as "nrdot dlq export" writes
  nrdot check file --signal traces request.binpb`,
    )
    .action(async (files: string[], flags) =>
      (await import('./commands/check-traffic.ts')).checkFileCommand(files, flags),
    );

  program
    .command('convert')
    .description("translate a Collector's configuration; what has no counterpart is listed on standard error")
    .argument('<file>', "the Collector's file")
    .option('--json', 'print JSON: the configuration, and the list')
    .addHelpText(
      'after',
      `
Examples:
  nrdot convert collector.yaml > nrdot.yaml   receivers.otlp, exporters.otlphttp with headers, TLS, queue and retry
  nrdot validate nrdot.yaml`,
    )
    .action(async (file: string, flags: { json?: boolean }) =>
      (await import('./commands/convert.ts')).convertCommand(file, flags),
    );

  withAdmin(
    program
      .command('reload')
      .description('make a running service read its configuration again and apply what changed'),
  ).action(async (flags) => (await import('./commands/reload.ts')).reloadCommand(flags));

  addObserveCommands(program);

  withAdmin(
    program
      .command('limiter')
      .description("what the cardinality limiter holds and decided: a receiver's view"),
  )
    .addHelpText(
      'after',
      `
Examples:
  nrdot limiter                          of "nrdot up", or of the receiver that nrdot.yaml names
  nrdot limiter --admin receiver-2:8888  of another receiver`,
    )
    .action(async (flags) => (await import('./commands/limiter.ts')).limiterCommand(flags));

  const generate = program
    .command('generate')
    .description('send OTLP to a pipeline, at a steady rate, with progress')
    .option('--endpoint <url>', 'where to send', 'http://127.0.0.1:4318')
    .option('--profile <name>', 'a ready-made load; options below change it')
    .option('--rate <items>', 'items per second; 0 for as fast as it goes', number)
    .option('--batch <items>', 'items per request', number)
    .option('--duration <time>', 'how long, such as 30s', '10s')
    .option('--items <n>', 'stop after this many', number)
    .option('--signals <list>', 'traces, metrics, logs, with shares: traces=3,logs=1')
    .option('--classes <list>', 'critical, high, normal, with shares: critical=1,normal=8')
    .option('--cardinality <n>', 'key-sets among the metrics', number)
    .addOption(
      new Option('--encoding <name>', 'compression').choices(['identity', 'gzip', 'deflate', 'zstd']),
    )
    .addOption(new Option('--format <name>', 'body format').choices(['protobuf', 'json']))
    .option('--connections <n>', 'requests in flight at once', number)
    .option('--json', 'print the report as JSON');
  generate.action(async (flags) => (await import('./commands/generate.ts')).generateCommand(flags));

  program
    .command('demo')
    .description(
      'three acts on this machine: a storm, an overload, an outage with kill -9; ends with a verdict',
    )
    .addOption(new Option('--act <name>', 'only one of them').choices(['storm', 'overload', 'outage']))
    .option('--config <file>', 'settings to try it with, above those of the acts')
    .option('--report <file>', 'where to save the page with plots', 'nrdot-demo.html')
    .option('--json', 'print what was measured as JSON')
    .addHelpText(
      'after',
      `
Exit code: 0 when every promise held, 1 when one was broken, 3 when none was but one could not be measured on this
machine, and the table says why.

Examples:
  nrdot demo                           all three, a minute and a half; longer on a busy machine
  nrdot demo --act overload            one of them
  nrdot demo --config other-weights.yaml   with settings of yours: see a promise break`,
    )
    .action(async (flags) => (await import('./commands/demo.ts')).demoCommand(flags));

  const mock = program
    .command('mock-upstream')
    .description('an OTLP/HTTP backend for trying things: counts what arrives, fails as told')
    .option('--listen <host:port>', 'address', '127.0.0.1:4320')
    .option('--latency <time>', 'time before each answer, such as 50ms')
    .option('--error-rate <0..1>', 'share of 503', ratio)
    .option('--throttle-rate <0..1>', 'share of 429', ratio)
    .option('--retry-after <seconds>', 'Retry-After of those', number)
    .option('--refuse-rate <0..1>', 'share of 400', ratio)
    .option('--max-body <size>', '413 beyond it')
    .option('--link-rate <size>', 'bytes per second that the link to it carries')
    .option('--first-member-only', 'reads the first gzip member or zstd frame of a body')
    .option('--refuse-encoding <name>', '415 for bodies in this Content-Encoding')
    .option('--status <code>', 'answers everything with it, such as 404', status)
    .option(
      '--signal-status <signal=code>',
      'the same for one signal, such as logs=403; can be repeated',
      each,
      [],
    )
    .option(
      '--signal-latency <signal=time>',
      'time before its answers, such as logs=60s; can be repeated',
      each,
      [],
    )
    .option('--html', '200 with a page for people, as a login page does')
    .option('--redirect <code>', 'answers everything with this redirect', status)
    .option('--redirect-to <url>', "where to; the request's path is added")
    .option('--poison <text>', 'fails a request that has it in it')
    .option('--poison-status <code>', 'with this status instead of 500', status)
    .option('--outage', 'begin with every connection cut')
    .option(
      '--newrelic',
      'demands what New Relic does: a license key (40 characters), less than 10^6 bytes, gzip or zstd; says nothing in its answers, and counts by rule what it would drop, prune or shorten behind a 200',
    )
    .option(
      '--requests-per-minute <n>',
      'with --newrelic: more of a signal are 429 until the minute ends',
      number,
    )
    .option(
      '--json',
      'print JSON lines: where it is, then what arrived, each second that brought something, and at the end',
    )
    .addHelpText(
      'after',
      `
While it runs: GET /_mock/stats, PUT /_mock/behaviour, POST /_mock/outage/on and /off.

Examples:
  nrdot mock-upstream --newrelic                                            how your data would fare there
  nrdot mock-upstream --signal-status logs=403                              a key without the scope of logs
  nrdot mock-upstream --redirect 308 --redirect-to https://otlp.example     it has moved
  nrdot mock-upstream --poison "user 4711" --poison-status 503              one batch that fails for ever`,
    );
  mock.action(async (flags) => (await import('./commands/mock-upstream.ts')).mockUpstreamCommand(flags));

  program
    .command('outage')
    .description('take the mock upstream away, and bring it back')
    .addArgument(new Argument('<what>', 'what to do').choices(['on', 'off', 'status']))
    .option('--mock <url>', 'where the mock upstream is', 'http://127.0.0.1:4320')
    .option('--compose', 'it is a container: stop and start that of docker-compose.yml')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  nrdot outage on            the upstream of "nrdot up" is gone; watch it with nrdot status
  nrdot outage off           and back
  nrdot outage on --compose  the same for docker compose`,
    )
    .action(async (what, flags) => (await import('./commands/outage.ts')).outageCommand(what, flags));

  program
    .command('bench')
    .description(
      'measure what the pipeline costs, beside peers: over half an hour of full load; needs the source tree',
    )
    .argument('[flags...]', 'flags of the benchmark; -- --help lists them')
    .option('--yes', 'begin without being asked')
    .option('--json', 'print JSON at the end: the results, and the file they are in')
    .allowUnknownOption()
    .action(async (args: string[], flags: BenchFlags) =>
      (await import('./commands/bench.ts')).benchCommand(args, flags),
    );

  program
    .command('completion')
    .description('print a script that completes commands and flags')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .option('--json', 'print JSON: the shell and the script')
    .addHelpText(
      'after',
      `
Examples:
  source <(nrdot completion bash)   in ~/.bashrc
  source <(nrdot completion zsh)    in ~/.zshrc
  nrdot completion fish > ~/.config/fish/completions/nrdot.fish`,
    )
    .action((shell: Shell, flags: { json?: boolean }) => {
      const script = completion(program, shell);
      process.stdout.write(flags.json ? `${JSON.stringify({ shell, script }, null, 2)}\n` : script);
    });

  return program;
}

function withConfig(command: Command): Command {
  return command
    .option('--config <file>', 'configuration; default nrdot.yaml when it is there')
    .option('--admin <host:port>', 'where health, metrics and commands are');
}

function number(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('expected a number of at least 0');
  return value;
}

function status(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 200 || value > 599)
    throw new InvalidArgumentError('expected a status from 200 to 599');
  return value;
}

function each(text: string, before: string[]): string[] {
  return [...before, text];
}

function ratio(text: string): number {
  const value = number(text);
  if (value > 1) throw new InvalidArgumentError('expected a number from 0 to 1');
  return value;
}
