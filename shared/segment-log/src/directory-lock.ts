import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { open, readdir, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { codeOf, isExhausted } from './errors.ts';

/** `owner.sock` is the name of earlier versions, which may be running. */
const NAME = /^owner(-[0-9a-f]{12})?\.sock$/;
const STARTING = ' (starting)';
/** It closed before it could answer. */
const GOING = '';
const SILENT = 'it does not answer';
/** Maximum length of a socket's address on all systems. */
const ADDRESS_MAX_BYTES = 100;
const ANSWER_MS = 1_000;
/** How long the winner waits for the others to give up. */
const LOOKS = 250;
const BETWEEN_LOOKS_MS = 20;

/** Another process has the directory. */
export class DirectoryTaken extends Error {
  constructor(dir: string, owner: string) {
    super(
      `${dir} belongs to a dlq that is running (${owner}); two would write the same segments. Stop that one, or give this one a directory of its own (dlq.dir)`,
    );
    this.name = 'DirectoryTaken';
  }
}

/**
 * Limits a directory to one process. The lock is a socket on which its owner listens: this works between containers that share
 * the volume on one machine, where process ids say nothing, and a kill leaves a name at which nobody answers. It does not work
 * across machines.
 *
 * No name is ever taken over: between finding it dead and removing it, somebody else may have started under it. A starting
 * process first listens under a name of its own and then checks the others, so that of two that start at once at least one sees
 * the other. It gives up if it sees an owner, or a starting process whose name sorts before its own; otherwise it waits until
 * the other starting ones have given up.
 */
export class DirectoryLock {
  readonly #server: Server;
  #isOwner = false;

  private constructor() {
    this.#server = createServer((socket) => {
      socket.on('error', () => {});
      socket.end(`process ${process.pid}${this.#isOwner ? '' : STARTING}`);
    });
    this.#server.on('error', () => {}); // of a connection that could not be accepted
  }

  /**
   * @returns undefined if the directory cannot have a lock (a read-only disk, a file system without sockets), which alone is no
   *   reason not to use it
   * @throws DirectoryTaken; the error of a process without descriptors or memory
   */
  static async take(dir: string): Promise<DirectoryLock | undefined> {
    const name = `owner-${randomBytes(6).toString('hex')}.sock`;
    const isLong = Buffer.byteLength(join(dir, name)) > ADDRESS_MAX_BYTES && process.platform === 'linux';
    try {
      const handle = isLong ? await open(dir, 'r') : undefined;
      try {
        const lock = new DirectoryLock();
        const addresses = handle ? `/proc/self/fd/${handle.fd}` : dir;
        await once(lock.#server.listen(join(addresses, name)), 'listening');
        lock.#server.unref();
        return await lock.#contend(dir, addresses, name);
      } finally {
        await handle?.close();
      }
    } catch (error) {
      if (error instanceof DirectoryTaken || isExhausted(error)) throw error;
      return undefined;
    }
  }

  /** Releases the directory. */
  async free(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
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
          // Left by kills. A process that starts under one of these names meanwhile sees an owner.
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

/** Who answers at the address, for people; undefined if nobody does. A frozen process accepts the connection and counts. */
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
      // A frozen process has a full queue.
      if (codeOf(error) === 'EAGAIN') said = SILENT;
      else failed = error;
    });
    socket.on('close', () => {
      if (isExhausted(failed)) reject(failed);
      else resolve(said || (connected ? GOING : undefined));
    });
  });
}
