/** A connection to the model of Redis with the part of ioredis' interface that the store uses. */
import { RedisError, type RedisModel, type Reply } from './redis.ts';

interface Command {
  name: string;
  run(redis: RedisModel): Reply;
  /** Executed, and its answer or error not yet with whoever asked. */
  answer: { reply: Reply } | { error: Error } | undefined;
  /** The answer may leave Redis: what was executed is as durable as was promised. */
  isSure: boolean;
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

type Argument = string | number | Buffer;

/**
 * Commands are executed in the order in which they were sent, and answered in it. A `producer` is told when the
 * connection is lost; for a `consumer` ioredis sends again what was not answered.
 */
export class ModelConnection {
  readonly kind: 'producer' | 'consumer';
  readonly #sent: (connection: ModelConnection) => void;
  #commands: Command[] = [];

  constructor(kind: 'producer' | 'consumer', sent: (connection: ModelConnection) => void) {
    this.kind = kind;
    this.#sent = sent;
  }

  /** Commands that Redis has not executed. */
  get waiting(): number {
    return this.#commands.filter(({ answer }) => !answer).length;
  }

  /** Whether somebody waits for an answer. */
  get unanswered(): boolean {
    return this.#commands.length > 0;
  }

  /** Whether there is an answer that may be delivered. */
  get answered(): boolean {
    return this.#commands[0]?.isSure === true;
  }

  /** Names of what waits, for the story. */
  get names(): string[] {
    return this.#commands.filter(({ answer }) => !answer).map(({ name }) => name);
  }

  /** Executes the next commands that wait. */
  execute(redis: RedisModel, count: number): void {
    for (const command of this.#commands.filter(({ answer }) => !answer).slice(0, count)) {
      try {
        command.answer = { reply: command.run(redis) };
      } catch (error) {
        if (!(error instanceof RedisError)) throw error;
        command.answer = { error };
      }
    }
  }

  /** Answers to all that was executed so far may be delivered. */
  assure(): void {
    for (const command of this.#commands) if (command.answer) command.isSure = true;
  }

  /** Hands over all answers that there are, but for those that Redis holds back. */
  deliver(): void {
    while (this.#commands[0]?.isSure) {
      const { answer, resolve, reject } = this.#commands.shift()!;
      if ('reply' in answer!) resolve(answer.reply);
      else reject(answer!.error);
    }
  }

  /** The connection is lost with its answers. What was not executed is lost too. */
  cut(): void {
    if (this.kind === 'consumer') {
      for (const command of this.#commands) {
        command.answer = undefined;
        command.isSure = false;
      }
      return;
    }
    const lost = this.#commands;
    this.#commands = [];
    for (const { reject } of lost) reject(new Error('Connection is closed.'));
  }

  /** Nobody listens any more; what was sent may still be executed. */
  orphan(): void {
    for (const command of this.#commands) {
      command.resolve = () => {};
      command.reject = () => {};
    }
    this.#commands = this.#commands.filter(({ answer }) => !answer);
  }

  /** Forgets what waits: it never reached Redis. */
  drop(): void {
    this.#commands = [];
  }

  #send(name: string, run: (redis: RedisModel) => Reply): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#commands.push({ name, run, answer: undefined, isSure: false, resolve, reject });
      this.#sent(this);
    });
  }

  async #call(name: string, ...args: Argument[]): Promise<Reply> {
    const bytes = args.map(latin1);
    return this.#send(name, (redis) => redis.call(name, bytes));
  }

  // From here on the part of ioredis' interface that is used.

  defineCommand(name: string, { numberOfKeys, lua }: { numberOfKeys: number; lua: string }): void {
    const run = (...args: Argument[]) => {
      const bytes = args.map(latin1);
      const [keys, rest] = [bytes.slice(0, numberOfKeys), bytes.slice(numberOfKeys)];
      return this.#send(name, (redis) => redis.eval(lua, keys, rest));
    };
    const own = this as unknown as Record<string, unknown>;
    own[name] = (...args: Argument[]) => run(...args).then(asText);
    own[`${name}Buffer`] = (...args: Argument[]) => run(...args).then(asBuffers);
  }

  set = (...args: Argument[]) => this.#call('SET', ...args);
  hget = (...args: Argument[]) => this.#call('HGET', ...args).then(asText);
  hmget = (...args: Argument[]) => this.#call('HMGET', ...args).then(asText);
  hset = (key: string, ...fields: (Argument | Record<string, Argument>)[]) =>
    this.#call(
      'HSET',
      key,
      ...fields.flatMap((field) => (isRecord(field) ? Object.entries(field).flat() : [field])),
    );
  hdel = (...args: Argument[]) => this.#call('HDEL', ...args);
  hkeysBuffer = (key: string) => this.#call('HKEYS', key).then(asBuffers);
  hvalsBuffer = (key: string) => this.#call('HVALS', key).then(asBuffers);
  callBuffer = (name: string, ...args: Argument[]) => this.#call(name, ...args).then(asBuffers);
  lrange = (...args: Argument[]) => this.#call('LRANGE', ...args).then(asText);
  ltrim = (...args: Argument[]) => this.#call('LTRIM', ...args);
  pexpire = (...args: Argument[]) => this.#call('PEXPIRE', ...args);
  mgetBuffer = (keys: string[]) => this.#call('MGET', ...keys).then(asBuffers);

  async hgetall(key: string): Promise<Record<string, string>> {
    const list = (await this.#call('HGETALL', key)) as string[];
    return Object.fromEntries(
      Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!]),
    );
  }

  pipeline() {
    const all: Promise<Reply>[] = [];
    return {
      ttl: (key: string) => void all.push(this.#call('TTL', key)),
      exec: async () => (await Promise.all(all)).map((reply) => [null, reply]),
    };
  }
}

function isRecord(value: unknown): value is Record<string, Argument> {
  return typeof value === 'object' && !Buffer.isBuffer(value);
}

function latin1(value: Argument): string {
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  const text = String(value);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
  return /^[\x00-\x7f]*$/.test(text) ? text : Buffer.from(text).toString('latin1');
}

function asText(reply: Reply): Reply {
  if (typeof reply === 'string') {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
    return /^[\x00-\x7f]*$/.test(reply) ? reply : Buffer.from(reply, 'latin1').toString();
  }
  return Array.isArray(reply) ? reply.map(asText) : reply;
}

function asBuffers(reply: Reply): unknown {
  if (typeof reply === 'string') return Buffer.from(reply, 'latin1');
  return Array.isArray(reply) ? reply.map(asBuffers) : reply;
}
