import { ConfigError } from '@nrdot/config';
import { causeText } from '@nrdot/telemetry';
import { Argument, type Command, CommanderError, InvalidArgumentError } from 'commander';
import { completion, SHELLS, type Shell } from './completion.ts';
import { addDlqCommands } from './dlq-program.ts';
import { errorJson } from './error-json.ts';
import { addObserveCommands } from './observe-program.ts';
import { print } from './output.ts';
import { SERVICES } from './pipeline-services.ts';
import { numeric, ProgramCommand } from './program-command.ts';
import { VERSION } from './version.ts';

const DESCRIPTIONS = {
  receiver: 'receive OTLP/HTTP, classify, and queue in Redis',
  scheduler: 'decide what goes next: weights, spill, breaker',
  exporter: 'send to the upstream; run as many as you like',
  dlq: 'store spilled batches on disk and replay them; with subcommands to inspect and control it',
} as const;

const number = numeric((n) => Number.isFinite(n) && n >= 0, 'a number of at least 0');
const status = numeric((n) => Number.isInteger(n) && n >= 200 && n <= 599, 'a status from 200 to 599');

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
export function createProgram(json = false): ProgramCommand {
  const program = new ProgramCommand('nrdot');
  if (json) program.exitOverride().configureOutput({ writeErr: () => {} });
  program
    .description(
      'NRDOT+: a durable OTLP gateway. It limits cardinality, orders by priority, and loses nothing.',
    )
    .version(VERSION, '-V, --version')
    .showHelpAfterError('(see nrdot --help)')
    .after(`
Examples:
  nrdot up                                     everything in one process, with the built-in mock upstream
  nrdot up --upstream https://otlp.nr-data.net --config nrdot.yaml
  nrdot generate --rate 10000 --duration 30s   send it a load
  nrdot status                                 where the data is, and whether all is well
  nrdot demo                                   a storm, an overload, an outage; with a verdict
  nrdot validate nrdot.yaml                    check a configuration`);

  program
    .command('up')
    .description('run the whole pipeline in one process, with a private Redis')
    .withConfig()
    .option('--upstream <url>', 'base URL to deliver to; without one, a mock upstream is started')
    .option('--listen <host:port>', 'where to receive OTLP/HTTP')
    .option('--data <dir>', 'where Redis and the dlq keep their files')
    .option('--json', 'print JSON lines: the addresses once it runs, and how it stopped; also for the log')
    .action(async (flags) => (await import('./commands/up.ts')).up(flags));

  for (const name of SERVICES) {
    const command = program.command(name).description(`run one service: ${DESCRIPTIONS[name]}`).withConfig();
    if (name === 'receiver') command.option('--listen <host:port>', 'where to receive OTLP/HTTP');
    if (name === 'exporter') command.option('--upstream <url>', 'base URL to deliver to');
    command.option('--json', 'log JSON lines on a terminal too; print an error as JSON');
    if (name === 'dlq') {
      command.option('--data <dir>', 'where the segments are stored');
      addDlqCommands(command);
    }
    command.allowExcessArguments().action(async (flags, { args: [unknown] }: Command) => {
      if (unknown !== undefined) {
        const known = command.commands.map((child) => child.name()).join(', ');
        command.error(
          `error: nrdot ${name} has no command "${unknown}"; ${known ? `expected one of ${known}` : 'expected only flags'}`,
        );
      }
      await (await import('./commands/service.ts')).service(name, flags);
    });
  }

  program
    .command('validate')
    .description('check a configuration file; report all errors, with line numbers')
    .argument('[file]', 'default nrdot.yaml if it exists')
    .option('--config <file>', 'the same, for consistency with other commands')
    .option('--explain', 'show every effective value and its source')
    .choice('--for <service>', 'the command that will use it', ['up', ...SERVICES], 'up')
    .option('--probe', 'then test the upstream, as nrdot check upstream does')
    .option('--json', 'print JSON')
    .after(`
Examples:
  nrdot validate                       nrdot.yaml in this directory
  nrdot validate other.yaml --explain  every effective value and its source
  nrdot validate --for exporter        also check that it sets an upstream`)
    .action(async (file: string | undefined, options) =>
      (await import('./commands/validate.ts')).validate(file ?? options.config, options),
    );

  const check = program
    .command('check')
    .description('test the upstream before you need it; see what a backend would not keep');
  check
    .command('upstream')
    .description('send one empty request per signal to the configured upstream; names the cause of a failure')
    .withConfig()
    .option('--upstream <url>', 'base URL of another upstream')
    .option('--json', 'print JSON')
    .after(`
Causes that it names: host (name resolution), proxy, network (connection), tls (certificate), address (path), key, encoding, size, upstream
(it fails or throttles). The upstream stores nothing: the requests have no items.
Exit code: 0 if every signal is accepted, 4 if one is not, 2 if the configuration is not valid.

Examples:
  nrdot check upstream                          the upstream in nrdot.yaml
  nrdot check upstream --config staging.yaml --json`)
    .action(async (flags) => (await import('./commands/check.ts')).checkUpstreamCommand(flags));
  check
    .command('traffic')
    .description('what New Relic would drop, prune or shorten behind a 200, in live traffic')
    .withAdmin()
    .after(`
It checks a share of the batches (check.sample). Examples show names and sizes, never values.

Examples:
  nrdot check traffic                          "nrdot up", or the receiver in nrdot.yaml
  nrdot check traffic --admin receiver-2:8888  another receiver`)
    .action(async (flags) => (await import('./commands/check-traffic.ts')).checkTrafficCommand(flags));
  check
    .command('file')
    .description('the same for requests in files: OTLP JSON, one per line or one per file, or protobuf')
    .argument('<files...>')
    .choice('--signal <name>', 'signal of a request in protobuf', ['traces', 'metrics', 'logs'])
    .option('--json', 'print JSON')
    .after(`
Exit code: 0 if everything would arrive unchanged, 3 if something would not, 1 if a file cannot be read.

Examples:
  nrdot check file requests.jsonl                      as written by "nrdot dlq export"
  nrdot check file --signal traces request.binpb`)
    .action(async (files: string[], flags) =>
      (await import('./commands/check-traffic.ts')).checkFileCommand(files, flags),
    );

  program
    .command('convert')
    .description(
      "translate a Collector's configuration; settings without a counterpart are listed on standard error",
    )
    .argument('<file>', "the Collector's file")
    .option('--json', 'print JSON: the configuration, and the list')
    .after(`
Examples:
  nrdot convert collector.yaml > nrdot.yaml   receivers.otlp, exporters.otlphttp with headers, TLS, queue and retry
  nrdot validate nrdot.yaml`)
    .action(async (file: string, flags) =>
      (await import('./commands/convert.ts')).convertCommand(file, flags),
    );

  program
    .command('reload')
    .description('make a running service read its configuration again and apply the changes')
    .withAdmin()
    .action(async (flags) => (await import('./commands/reload.ts')).reloadCommand(flags));

  addObserveCommands(program);

  program
    .command('limiter')
    .description('key-sets, labels and decisions of the cardinality limiter, as one receiver sees them')
    .withAdmin()
    .after(`
Examples:
  nrdot limiter                          "nrdot up", or the receiver in nrdot.yaml
  nrdot limiter --admin receiver-2:8888  another receiver`)
    .action(async (flags) => (await import('./commands/limiter.ts')).limiterCommand(flags));

  program
    .command('generate')
    .description('send OTLP to a pipeline, at a steady rate, with progress')
    .option('--endpoint <url>', 'where to send', 'http://127.0.0.1:4318')
    .option('--profile <name>', 'a predefined load; the options below override it')
    .option('--rate <items>', 'items per second; 0: as fast as possible', number)
    .option('--batch <items>', 'items per request', number)
    .option('--duration <time>', 'duration, such as 30s', '10s')
    .option('--items <n>', 'stop after this many items', number)
    .option('--signals <list>', 'traces, metrics, logs, with shares: traces=3,logs=1')
    .option('--classes <list>', 'critical, high, normal, with shares: critical=1,normal=8')
    .option('--cardinality <n>', 'number of key-sets of the metrics', number)
    .choice('--encoding <name>', 'compression', ['identity', 'gzip', 'deflate', 'zstd'])
    .choice('--format <name>', 'body format', ['protobuf', 'json'])
    .option('--connections <n>', 'concurrent requests', number)
    .option('--json', 'print the report as JSON')
    .action(async (flags) => (await import('./commands/generate.ts')).generateCommand(flags));

  program
    .command('demo')
    .description(
      'three acts on this machine: a cardinality storm, an overload, an outage with kill -9; with a verdict',
    )
    .choice('--act <name>', 'run only this act', ['storm', 'overload', 'outage'])
    .option('--config <file>', 'configuration that overrides that of the acts')
    .option('--report <file>', 'where to save the page with plots', 'nrdot-demo.html')
    .option('--json', 'print the measurements as JSON')
    .after(`
Exit code: 0 if every promise was kept, 1 if one was broken, 3 if none was broken but one could not be measured on this
machine (the table says why).

Examples:
  nrdot demo                           all three; takes 90 seconds, longer on a busy machine
  nrdot demo --act overload            one of them
  nrdot demo --config other-weights.yaml   with your own settings, for example to break a promise`)
    .action(async (flags) => (await import('./commands/demo.ts')).demoCommand(flags));

  program
    .command('mock-upstream')
    .description('an OTLP/HTTP backend for tests: counts what arrives, fails on demand')
    .option('--listen <host:port>', 'address', '127.0.0.1:4320')
    .option('--latency <time>', 'time before each answer, such as 50ms')
    .option('--error-rate <0..1>', 'share of 503', ratio)
    .option('--throttle-rate <0..1>', 'share of 429', ratio)
    .option('--retry-after <seconds>', 'Retry-After of those', number)
    .option('--refuse-rate <0..1>', 'share of 400', ratio)
    .option('--max-body <size>', '413 beyond it')
    .option('--link-rate <size>', 'bandwidth of the link to it, in bytes per second')
    .option('--first-member-only', 'read only the first gzip member or zstd frame of a body')
    .option('--refuse-encoding <name>', '415 for bodies in this Content-Encoding')
    .option('--status <code>', 'answer every request with this status, such as 404', status)
    .repeatable('--signal-status <signal=code>', 'the same for one signal, such as logs=403; repeatable')
    .repeatable('--signal-latency <signal=time>', 'latency for one signal, such as logs=60s; repeatable')
    .option('--html', 'answer 200 with an HTML page, like a login page')
    .option('--redirect <code>', 'answer every request with this redirect', status)
    .option('--redirect-to <url>', "target; the request's path is added")
    .option('--poison <text>', 'fail requests that contain this text')
    .option('--poison-status <code>', 'status for those, instead of 500', status)
    .option('--outage', 'start with every connection cut')
    .option(
      '--newrelic',
      'require what New Relic does: a license key (40 characters), less than 10^6 bytes, gzip or zstd; send no response bodies, and count by rule what New Relic would drop, prune or shorten behind a 200',
    )
    .option(
      '--requests-per-minute <n>',
      'with --newrelic: answer 429 to further requests of a signal until the minute ends',
      number,
    )
    .option(
      '--json',
      'print JSON lines: its address, then statistics for each second with traffic, and at the end',
    )
    .after(`
While it runs: GET /_mock/stats, PUT /_mock/behaviour, POST /_mock/outage/on and /off.

Examples:
  nrdot mock-upstream --newrelic                                            how New Relic would treat your data
  nrdot mock-upstream --signal-status logs=403                              a key without the scope for logs
  nrdot mock-upstream --redirect 308 --redirect-to https://otlp.example     a server that has moved
  nrdot mock-upstream --poison "user 4711" --poison-status 503              one batch that always fails`)
    .action(async (flags) => (await import('./commands/mock-upstream.ts')).mockUpstreamCommand(flags));

  program
    .command('outage')
    .description('take the mock upstream down, and bring it back up')
    .addArgument(new Argument('<what>', 'what to do').choices(['on', 'off', 'status']))
    .option('--mock <url>', 'address of the mock upstream', 'http://127.0.0.1:4320')
    .option('--compose', 'stop and start the container of docker-compose.yml')
    .option('--json', 'print JSON')
    .after(`
Examples:
  nrdot outage on            take down the upstream of "nrdot up"; watch it with nrdot status
  nrdot outage off           bring it back
  nrdot outage on --compose  the same for docker compose`)
    .action(async (what, flags) => (await import('./commands/outage.ts')).outageCommand(what, flags));

  program
    .command('bench')
    .description(
      'measure what the pipeline costs, compared with peers: over half an hour of full load; needs the source tree',
    )
    .argument('[flags...]', 'flags of the benchmark; -- --help lists them')
    .option('--yes', 'start without confirmation')
    .option('--json', 'print JSON at the end: the results, and the file that contains them')
    .allowUnknownOption()
    .action(async (args: string[], flags) => (await import('./commands/bench.ts')).benchCommand(args, flags));

  program
    .command('completion')
    .description('print a shell completion script for commands and flags')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .option('--json', 'print JSON: the shell and the script')
    .after(`
Examples:
  source <(nrdot completion bash)   in ~/.bashrc
  source <(nrdot completion zsh)    in ~/.zshrc
  nrdot completion fish > ~/.config/fish/completions/nrdot.fish`)
    .action((shell: Shell, flags) => {
      const script = completion(program, shell);
      print(flags, { shell, script: `${script}\n` }, script);
    });

  return program;
}

function ratio(text: string): number {
  const value = number(text);
  if (value > 1) throw new InvalidArgumentError('expected a number from 0 to 1');
  return value;
}
