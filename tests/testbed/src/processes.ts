/** Real processes for tests: a redis-server, and the product itself. */

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { waitUntil } from './wait-until.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const KEPT_LINES = 2_000;
/** Below those that Linux gives to outgoing connections. */
const FIRST_PORT = 10_000;
const LAST_PORT = 32_000;
const given = new Set<number>();

/** A directory that `dispose` removes. */
export function temporaryDirectory(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'nrdot-test-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }) };
}

/** A port that is free now, and that no outgoing connection takes while its process is started again. */
export async function freePort(): Promise<number> {
  while (true) {
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    if (!given.has(port) && (await isFree(port))) {
      given.add(port);
      return port;
    }
  }
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** A child process whose lines are kept, and which is gone when the test ends. */
export class Process {
  readonly child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #name: string;

  constructor(
    name: string,
    program: string,
    args: readonly string[],
    env: Record<string, string> = {},
    cwd = ROOT,
  ) {
    this.#name = name;
    this.child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      let rest = '';
      stream?.setEncoding('utf8').on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        this.#lines.push(...lines);
        if (this.#lines.length > KEPT_LINES) this.#lines.splice(0, this.#lines.length - KEPT_LINES);
      });
    }
    this.child.on('error', (error) => this.#lines.push(error.message));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** What it printed last. */
  output(lines = 40): string {
    return this.#lines.slice(-lines).join('\n');
  }

  /** Waits for a line that matches. */
  async line(pattern: RegExp, timeoutMs = 30_000): Promise<RegExpMatchArray> {
    return waitUntil(
      () => {
        for (const line of this.#lines) {
          const match = pattern.exec(line);
          if (match) return match;
        }
        if (!this.running) throw new Error(`${this.#name} ended: ${this.output(10)}`);
        return undefined;
      },
      { what: `${this.#name} printed ${pattern}`, timeoutMs },
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.output()}`);
    });
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** Sends a signal and waits for the end. @returns the exit status, or the signal it died of */
  async end(name: NodeJS.Signals = 'SIGTERM', timeoutMs = 30_000): Promise<number | string> {
    if (this.running) this.child.kill(name);
    await waitUntil(() => !this.running, { what: `${this.#name} ended after ${name}`, timeoutMs }).catch(
      (error: Error) => {
        this.child.kill('SIGKILL');
        throw new Error(`${error.message}\n${this.output()}`);
      },
    );
    return this.child.exitCode ?? this.child.signalCode ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) this.child.kill('SIGKILL');
    await waitUntil(() => !this.running, { what: `${this.#name} was killed` });
  }
}

/** A proxy of this machine is not for what listens on it. */
const NO_PROXIES = Object.fromEntries(
  ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'].map((name) => [name, '']),
);

/** Runs the product's command. */
export function startNrdot(args: readonly string[], env: Record<string, string> = {}, cwd?: string): Process {
  return new Process(
    `nrdot ${args[0] ?? ''}`,
    process.execPath,
    [join(ROOT, 'cli/bin/nrdot.js'), ...args],
    { ...NO_PROXIES, ...env },
    cwd,
  );
}

export interface RedisOptions {
  /** Where its files are. */
  dir: string;
  port?: number;
  args?: readonly string[];
}

/** A real redis-server with AOF on, fsynced always, that evicts nothing. */
export class TestRedis {
  readonly port: number;
  readonly #options: RedisOptions;
  #process: Process;

  private constructor(options: RedisOptions, port: number) {
    this.#options = options;
    this.port = port;
    this.#process = this.#spawn();
  }

  static async start(options: RedisOptions): Promise<TestRedis> {
    const redis = new TestRedis(options, options.port ?? (await freePort()));
    await redis.ready();
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#process.pid;
  }

  output(): string {
    return this.#process.output();
  }

  signal(name: NodeJS.Signals): void {
    this.#process.signal(name);
  }

  /** As a crash of the machine would, but for what the kernel still has to write. */
  async kill(): Promise<void> {
    await this.#process.end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#process.end('SIGTERM');
  }

  /** Starts it again on the same files and port. */
  async start(): Promise<void> {
    this.#process = this.#spawn();
    await this.ready();
  }

  async ready(): Promise<void> {
    await waitUntil(async () => (await ping(this.port)) === 'PONG', { what: 'redis-server answered' }).catch(
      (error: Error) => {
        throw new Error(`${error.message}\n${this.#process.output()}`);
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }

  #spawn(): Process {
    const { dir, args = [] } = this.#options;
    return new Process('redis-server', 'redis-server', [
      ...['--port', String(this.port), '--bind', '127.0.0.1', '--dir', dir, '--save', ''],
      ...['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction'],
      ...args,
    ]);
  }
}

/** Whether a redis-server can be started here. */
export function hasRedis(): boolean {
  return (process.env.PATH ?? '').split(':').some((dir) => existsSync(join(dir, 'redis-server')));
}

function ping(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (answer) => {
      socket.destroy();
      resolve(answer.toString().replace(/^\+|\r\n$/g, ''));
    });
    socket.once('error', reject);
  });
}
