import { CLASSES } from '@nrdot/queue/priority-class';
import { Command, InvalidArgumentError, Option } from 'commander';

type Action = Parameters<Command['action']>[0];

/** A parser of numbers. @param expected what they have to be, for the message */
export function numeric(isRight: (value: number) => boolean, expected: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!isRight(value)) throw new InvalidArgumentError(`expected ${expected}`);
    return value;
  };
}

/** A command of the program, with what several of them have. */
export class ProgramCommand extends Command {
  override createCommand(name?: string): ProgramCommand {
    return new ProgramCommand(name);
  }

  /** Adds the flags of a command that reads a configuration. */
  withConfig(): this {
    this.option('--config <file>', 'configuration; default nrdot.yaml if it exists');
    return this.option('--admin <host:port>', 'admin address: health, metrics, commands');
  }

  /**
   * Adds the flags of a command that talks to a running service.
   * @param json description of `--json`
   */
  withAdmin(json = 'print JSON'): this {
    this.option('--config <file>', 'configuration with the admin address; default nrdot.yaml if it exists');
    this.option('--admin <host:port>', 'admin address of the service, if it is not the configured one');
    return this.option('--json', json);
  }

  choice(flags: string, description: string, choices: readonly string[], initial?: string): this {
    return this.addOption(new Option(flags, description).choices(choices).default(initial));
  }

  repeatable(flags: string, description: string): this {
    return this.option(flags, description, (text: string, before: string[]) => [...before, text], []);
  }

  /** Adds the flags that select batches of the dlq. */
  withSelection(): this {
    return this.choice('--class <name>', 'only this class', CLASSES)
      .option('--rejected', 'batches that the upstream rejected')
      .option('--since <time>', 'received since: 2h (ago), or 2026-11-24T10:00:00Z')
      .option('--until <time>', 'received until');
  }

  /** Text after the help. */
  after(text: string): this {
    return this.addHelpText('after', text);
  }

  /** Its flags are those of the command and its parents. */
  override action(run: Action): this {
    return super.action((...given) => run.apply(this, given.with(-2, this.optsWithGlobals())));
  }
}
