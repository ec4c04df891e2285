import { type ChildProcess, spawn } from 'node:child_process';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Config } from '@nrdot/config';
import { makeDirectory } from '@nrdot/service';
import type { Logger } from '@nrdot/telemetry';
import { Redis } from 'ioredis';

/** Maximum length of a Unix socket's path. */
const SOCKET_PATH_MAX = 100;
const START_TIMEOUT_MS = 60_000;
/** Together with the services' time, less than the half minute that supervisors wait. */
const STOP_TIMEOUT_MS = 5_000;
const SAY_AGAIN_MS = 15_000;
const RESTART_MIN_MS = 200;
const RESTART_MAX_MS = 10_000;
const LAST_WORDS_LINES = 5;

/**
 * The `redis-server` of `nrdot up`: a child process on a Unix socket, AOF on, no eviction. It is restarted with growing pauses
 * when it dies. One that a killed `nrdot up` left behind is shut down first: its data is in its AOF.
 */
export class PrivateRedis {
  readonly socket: string;
  readonly #dir: string;
  readonly #options: Pick<Config['redis'], 'durability' | 'private'>;
  readonly #log: Logger;
  #child: ChildProcess | undefined;
  #stopping = false;
  #lastWords: string[] = [];
  #missing = false;

  /** @param dir directory of Redis' files; one pipeline per directory */
  constructor(dir: string, options: Pick<Config['redis'], 'durability' | 'private'>, log: Logger) {
    this.#dir = resolve(dir);
    this.#options = options;
    this.#log = log.child({ service: 'redis' });
    this.socket = socketPath(this.#dir);
  }

  get url(): string {
    return `unix://${this.socket}`;
  }

  /**
   * Starts it and waits until it answers, which may take long with a large AOF.
   * @throws Error if the program is missing, or with Redis' last log lines
   */
  async start(): Promise<void> {
    makeDirectory(this.#dir, 'data_dir', 0o700);
    this.#claim();
    await this.#endOrphan();
    this.#spawn(RESTART_MIN_MS);
    const deadline = performance.now() + START_TIMEOUT_MS;
    let sayAt = 0;
    while (true) {
      const answer = await ask(this.socket, 'PING');
      if (answer === 'PONG') return;
      const child = this.#child;
      if (this.#stopping) throw new Error('asked to stop while redis-server was starting');
      if (this.#missing)
        throw new Error(
          `${this.#options.private.redisServer} was not found. Install Redis 7 or later ("apt-get install redis-server" on Debian, "brew install redis" on macOS), or name one in redis.url`,
        );
      if (!child || child.exitCode !== null) {
        this.#stopping = true;
        throw new Error(`redis-server did not start: ${this.#lastWords.join(' | ') || 'it printed nothing'}`);
      }
      if (answer.includes('LOADING')) {
        if (performance.now() > sayAt) {
          this.#log.info('waiting: redis-server loads what it holds from its AOF');
          sayAt = performance.now() + SAY_AGAIN_MS;
        }
        await wait(200);
        continue; // no timeout: Redis exits if it cannot load
      }
      if (performance.now() > deadline)
        throw new Error(`redis-server did not answer within ${START_TIMEOUT_MS / 1000} s`);
      await wait(10);
    }
  }

  /** Stops it; everything is in its AOF. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await gone;
      clearTimeout(late);
    }
    rmSync(this.#pidFile, { force: true });
  }

  get #pidFile(): string {
    return join(this.#dir, 'nrdot.pid');
  }

  /** Claims the data directory for this pipeline. */
  #claim(): void {
    if (existsSync(this.#pidFile)) {
      const pid = Number(readFileSync(this.#pidFile, 'utf8').trim());
      if (pid > 0 && pid !== process.pid && isPipeline(pid))
        throw new Error(
          `another pipeline (process ${pid}) uses ${this.#dir}; stop it, or give this one its own directory with --data`,
        );
    }
    writeFileSync(this.#pidFile, `${process.pid}\n`);
  }

  async #endOrphan(): Promise<void> {
    if (existsSync(this.socket)) {
      let answer = await ask(this.socket, 'PING');
      if (!answer.startsWith('no answer')) {
        this.#log.info('ending the redis-server that a killed run left behind');
        await ask(this.socket, 'SHUTDOWN', 'NOSAVE', 'FORCE');
      }
      const deadline = performance.now() + STOP_TIMEOUT_MS;
      while (!answer.startsWith('no answer') && performance.now() < deadline) {
        await wait(20);
        answer = await ask(this.socket, 'PING');
      }
    }
    rmSync(this.socket, { force: true });
  }

  #spawn(pauseMs: number): void {
    const { durability, private: own } = this.#options;
    const startedAt = performance.now();
    this.#lastWords = [];
    const child = spawn(
      own.redisServer,
      [
        ...['--port', '0', '--unixsocket', this.socket, '--unixsocketperm', '700', '--dir', this.#dir],
        ...['--appendonly', 'yes', '--appendfsync', durability, '--save', ''],
        ...['--maxmemory', String(own.maxmemoryBytes), '--maxmemory-policy', 'noeviction'],
        ...['--daemonize', 'no', '--logfile', '', '--loglevel', 'notice'],
        // Payloads are deleted soon after they are written: rewrite often enough that the AOF stays near the size of the queue.
        ...['--auto-aof-rewrite-percentage', '100', '--auto-aof-rewrite-min-size', '128mb'],
        // Redis' periodic tasks wake it ten times a second, which is half of an idle Redis' CPU, and 2 % of the pipeline's at
        // 10,000 spans/s. With everysec, they also trigger the fsync once a second.
        ...(durability === 'always' ? ['--hz', '2'] : []),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], detached: true }, // a Ctrl-C in the terminal is ours to pass on, in order
    );
    this.#child = child;
    // For every exit except kill -9, which the next start handles.
    const last = () => void child.kill('SIGTERM');
    process.once('exit', last);
    child.once('exit', () => process.off('exit', last));
    const listen = (chunk: Buffer) => {
      const lines = String(chunk)
        .split('\n')
        .filter((line) => line.trim());
      this.#lastWords = [...this.#lastWords, ...lines].slice(-LAST_WORDS_LINES);
      for (const line of lines) this.#log.debug(line);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.on('error', (error: NodeJS.ErrnoException) => {
      this.#missing = error.code === 'ENOENT';
      this.#lastWords.push(error.message);
    });
    child.on('exit', (code, signal) => {
      if (this.#stopping) return;
      const ranLong = performance.now() - startedAt > RESTART_MAX_MS;
      const next = ranLong ? RESTART_MIN_MS : Math.min(RESTART_MAX_MS, pauseMs * 2);
      this.#log.error(
        { code, signal, said: this.#lastWords.at(-1) },
        `redis-server ended; starting it again in ${pauseMs} ms`,
      );
      setTimeout(() => {
        if (!this.#stopping) this.#spawn(next);
      }, pauseMs);
    });
  }
}

/** In the directory if the path is short enough, else in the system's temporary directory under a unique name. */
function socketPath(dir: string): string {
  const inside = join(dir, 'redis.sock');
  if (Buffer.byteLength(inside) <= SOCKET_PATH_MAX) return inside;
  return join(tmpdir(), `nrdot-${hash('sha256', dir).slice(0, 16)}.sock`);
}

async function ask(socket: string, command: string, ...args: string[]): Promise<string> {
  const options = { lazyConnect: true, retryStrategy: () => null, enableReadyCheck: false };
  const redis = new Redis(socket, options);
  redis.on('error', () => {});
  try {
    await redis.connect();
    return String(await redis.call(command, ...args));
  } catch (error) {
    const { message } = error as Error;
    return message.includes('LOADING') ? message : `no answer: ${message}`;
  } finally {
    redis.disconnect();
  }
}

/** Whether a process with this id runs and is a pipeline; ids are reused after a restart of the machine. */
function isPipeline(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('nrdot');
  } catch {
    return true; // no /proc on this system: assume that it is
  }
}
