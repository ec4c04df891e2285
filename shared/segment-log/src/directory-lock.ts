import { open, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';

const NAME = 'owner.sock';
/** What fits into a socket's address on every system. */
const ADDRESS_MAX_BYTES = 100;
const ANSWER_MS = 1_000;

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
 */
export class DirectoryLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * @returns undefined where the directory can't have a lock (a disk that is read-only, a file system without sockets):
   *   that alone is no reason to leave what is on it
   * @throws DirectoryTaken
   */
  static async take(dir: string): Promise<DirectoryLock | undefined> {
    const direct = join(dir, NAME);
    const handle =
      Buffer.byteLength(direct) > ADDRESS_MAX_BYTES && process.platform === 'linux'
        ? await open(dir, 'r')
        : undefined;
    try {
      const address = handle ? `/proc/self/fd/${handle.fd}/${NAME}` : direct;
      return await listen(address)
        .catch(async (error: NodeJS.ErrnoException) => {
          if (error.code !== 'EADDRINUSE') return undefined;
          const owner = await ask(address);
          if (owner !== undefined) throw new DirectoryTaken(dir, owner);
          await unlink(address).catch(() => {}); // left by a kill
          return listen(address).catch(() => {
            throw new DirectoryTaken(dir, 'it has just started');
          });
        })
        .then((server) => server && new DirectoryLock(server));
    } finally {
      await handle?.close();
    }
  }

  /** Gives the directory to whoever comes next. */
  async free(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function listen(address: string): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`process ${process.pid}`);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => resolve(server.unref()));
  });
}

/** Who answers there, in words; undefined when nobody does. A process that is frozen takes the connection, and is somebody. */
function ask(address: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let said = '';
    let connected = false;
    const socket = connect(address, () => {
      connected = true;
    });
    socket.setTimeout(ANSWER_MS, () => socket.destroy());
    socket.on('data', (chunk) => {
      said = (said + chunk).slice(0, 100);
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(connected ? said || 'it does not answer' : undefined));
  });
}
