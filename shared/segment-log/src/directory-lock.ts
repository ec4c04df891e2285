import { randomBytes } from 'node:crypto';
import { open, readdir, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { codeOf, isExhausted } from './errors.ts';

/** `owner.sock` is what earlier versions had, who may be running yet. */
const NAME = /^owner(-[0-9a-f]{12})?\.sock$/;
const STARTING = ' (starting)';
/** It was closed before it could answer. */
const GOING = '';
const SILENT = 'it does not answer';
/** What fits into a socket's address on every system. */
const ADDRESS_MAX_BYTES = 100;
const ANSWER_MS = 1_000;
/** How long whoever goes first waits for the others to see that. */
const LOOKS = 250;
const BETWEEN_LOOKS_MS = 20;

/** Somebody else has the directory. */
export class DirectoryTaken extends Error {
  constructor(dir: string, owner: string) {
    super(
      `${dir} belongs to a dlq that is running (${owner}); two would write the same segments. Stop that one, or give this one a directory of its own (dlq.dir)`,
    );
    this.name = 'DirectoryTaken';
  }
}

/**
 * Keeps a directory to one process. The lock is a socket that its owner listens on: it holds between containers that share
 * the volume on one machine, where numbers of processes say nothing, and a kill leaves a name that nobody answers at. It
 * does not hold between machines.
 *
 * Nobody takes over a name: between finding it dead and removing it, somebody else may have come to life under it. Whoever
 * starts listens under a name of its own first, and looks at the others' after that, so that of two who start at once at
 * least one sees the other. Who sees an owner goes; who sees others that are starting goes if their names come before its
 * own, and otherwise waits until they have gone.
 */
export class DirectoryLock {
  readonly #server: Server;
  #isOwner = false;

  private constructor() {
    this.#server = createServer((socket) => {
      socket.on('error', () => {});
      socket.end(`process ${process.pid}${this.#isOwner ? '' : STARTING}`);
    });
  }

  /**
   * @returns undefined where the directory can't have a lock (a disk that is read-only, a file system without sockets):
   *   that alone is no reason to leave what is on it
   * @throws DirectoryTaken; or the error of a process that has no descriptor or memory for a lock
   */
  static async take(dir: string): Promise<DirectoryLock | undefined> {
    const name = `owner-${randomBytes(6).toString('hex')}.sock`;
    const isLong = Buffer.byteLength(join(dir, name)) > ADDRESS_MAX_BYTES && process.platform === 'linux';
    try {
      const handle = isLong ? await open(dir, 'r') : undefined;
      try {
        const lock = new DirectoryLock();
        const addresses = handle ? `/proc/self/fd/${handle.fd}` : dir;
        await lock.#listen(join(addresses, name));
        return await lock.#contend(dir, addresses, name);
      } finally {
        await handle?.close();
      }
    } catch (error) {
      if (error instanceof DirectoryTaken || isExhausted(error)) throw error;
      return undefined;
    }
  }

  /** Gives the directory to whoever comes next. */
  async free(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #listen(address: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(address, () => {
        this.#server.unref();
        resolve();
      });
    });
  }

  async #contend(dir: string, addresses: string, own: string): Promise<DirectoryLock> {
    try {
      for (let looks = 0; looks < LOOKS; looks++) {
        const others = (await readdir(dir)).filter((name) => NAME.test(name) && name !== own);
        const answers = await Promise.all(
          others.map(async (name) => ({ name, answer: await ask(join(addresses, name)) })),
        );
        const living = answers.filter(({ answer }) => answer !== undefined);
        const first = living.find(({ name, answer }) =>
          answer!.endsWith(STARTING) ? name < own : answer !== GOING,
        );
        if (first) throw new DirectoryTaken(dir, first.answer!);
        if (living.length === 0) {
          this.#isOwner = true;
          // Left by kills. Whoever comes to life under one of them sees an owner.
          for (const name of others) await unlink(join(addresses, name)).catch(() => {});
          return this;
        }
        await wait(BETWEEN_LOOKS_MS);
      }
      throw new DirectoryTaken(dir, 'others that are starting, and do not give way');
    } catch (error) {
      await this.free();
      throw error;
    }
  }
}

/** Who answers there, in words; undefined when nobody does. A process that is frozen takes the connection, and is somebody. */
function ask(address: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let said = '';
    let connected = false;
    const socket = connect(address, () => {
      connected = true;
    });
    socket.setTimeout(ANSWER_MS, () => {
      said ||= SILENT;
      socket.destroy();
    });
    socket.on('data', (chunk) => {
      said = (said + chunk).slice(0, 100);
    });
    let failed: unknown;
    socket.on('error', (error) => {
      // The queue of one that is frozen is full.
      if (codeOf(error) === 'EAGAIN') said = SILENT;
      else failed = error;
    });
    socket.on('close', () => {
      if (isExhausted(failed)) reject(failed);
      else resolve(said || (connected ? GOING : undefined));
    });
  });
}
