import { once } from 'node:events';
import {
  constants,
  type FileHandle,
  mkdir,
  open,
  readdir,
  rename,
  stat,
  statfs,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';
import { codeOf, isDamage } from './errors.ts';
import { type Retry, secondTries } from './second-tries.ts';

/** A file, read and written at offsets. */
export interface File {
  /** @returns number of bytes read, less than requested at the end of the file */
  read(into: Buffer, at: number): Promise<number>;
  write(bytes: Buffer, at: number): Promise<void>;
  truncate(length: number): Promise<void>;
  /** Resolves when the content is on disk. */
  sync(): Promise<void>;
  size(): Promise<number>;
  /** Whether it still has this name: what is written to a file that was removed is lost, although every write succeeds. */
  isAt(path: string): Promise<boolean>;
  close(): Promise<void>;
}

/** `create` creates a new file and fails if it exists. */
type Mode = 'create' | 'read' | 'write';

/** What the log needs of a disk: small, so that tests can simulate one that loses what was not synced. */
export interface FileSystem {
  open(path: string, mode: Mode): Promise<File>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** File names; empty if there is no such directory. */
  list(dir: string): Promise<string[]>;
  mkdir(dir: string): Promise<void>;
  /** Resolves when created, renamed and removed names in it are on disk. */
  syncDir(dir: string): Promise<void>;
  freeBytes(dir: string): Promise<number>;
  /** SHA-256 of a part of a file, off the main thread, at a limited rate. */
  sha256(path: string, start: number, end: number, maxBytesPerSecond: number): Promise<Buffer>;
  close(): Promise<void>;
}

const PAGE_BYTES = 4096;

/** Opens a file, and closes it after its use. */
export async function withFile<T>(
  fs: FileSystem,
  path: string,
  mode: Mode,
  use: (file: File) => Promise<T>,
): Promise<T> {
  const file = await fs.open(path, mode);
  try {
    return await use(file);
  } finally {
    // Of a file that was only read nothing is lost.
    await file.close().catch((error: unknown) => {
      if (mode !== 'read') throw error;
    });
  }
}

/** @returns undefined if it is unreadable or missing */
export function sizeOf(fs: FileSystem, path: string): Promise<number | undefined> {
  return withFile(fs, path, 'read', (file) => file.size()).catch(() => undefined);
}

/** Creates a file. Once this resolves its content is on disk; its name may not be. */
export async function createFile(fs: FileSystem, path: string, content: string | Buffer): Promise<void> {
  await withFile(fs, path, 'create', async (file) => {
    await file.write(Buffer.from(content), 0);
    await file.sync();
  });
}

/** Writes a new file and renames it, so that a crash leaves either the old or the new content. */
export async function replaceFile(fs: FileSystem, dir: string, name: string, content: string): Promise<void> {
  const temporary = join(dir, `${name}.tmp`);
  if ((await fs.list(dir)).includes(`${name}.tmp`)) await fs.unlink(temporary);
  await createFile(fs, temporary, content);
  await fs.rename(temporary, join(dir, name));
  await fs.syncDir(dir);
}

/** What a wrapper of a file leaves as it is. */
export function unchanged(file: File): Omit<File, 'read'> {
  return {
    write: (bytes, at) => file.write(bytes, at),
    truncate: (length) => file.truncate(length),
    sync: () => file.sync(),
    size: () => file.size(),
    isAt: (path) => file.isAt(path),
    close: () => file.close(),
  };
}

/** Reads bad sectors as zeros, so that they only cost the blocks that contain them, like any other damage. */
export function overBadSectors(file: File): File {
  return {
    ...unchanged(file),
    async read(into, at) {
      try {
        return await file.read(into, at);
      } catch (error) {
        if (!isDamage(error)) throw error;
      }
      const bytes = Math.max(0, Math.min(into.byteLength, (await file.size()) - at));
      for (let from = 0; from < bytes; ) {
        const to = Math.min(bytes, from + PAGE_BYTES - ((at + from) % PAGE_BYTES));
        const page = into.subarray(from, to);
        await file.read(page, at + from).catch((error: unknown) => {
          if (!isDamage(error)) throw error;
          page.fill(0);
        });
        from = to;
      }
      return bytes;
    },
  };
}

class NodeFile implements File {
  readonly #handle: FileHandle;
  readonly #retried: Retry;

  constructor(handle: FileHandle, retried: Retry) {
    this.#handle = handle;
    this.#retried = retried;
  }

  async read(into: Buffer, at: number): Promise<number> {
    let done = 0;
    while (done < into.byteLength) {
      const { bytesRead } = await this.#retried(() =>
        this.#handle.read(into, done, into.byteLength - done, at + done),
      );
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(bytes: Buffer, at: number): Promise<void> {
    let done = 0;
    while (done < bytes.byteLength) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.byteLength - done, at + done);
      done += bytesWritten;
    }
  }

  truncate(length: number): Promise<void> {
    return this.#handle.truncate(length);
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async isAt(path: string): Promise<boolean> {
    if ((await this.#handle.stat()).nlink === 0) return false;
    return await stat(path).then(
      () => true,
      (error) => {
        if (codeOf(error) === 'ENOENT') return false;
        throw error;
      },
    );
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

interface Hashed {
  hash?: Uint8Array;
  error?: string;
  code?: string;
}

/** The disk of this machine. */
export class NodeFileSystem implements FileSystem {
  #hasher: { worker: Worker; ended: AbortController } | undefined;
  #closed = false;

  async open(path: string, mode: Mode): Promise<File> {
    // Without O_NONBLOCK, opening a named pipe with the name of a segment would wait for a writer, at each start.
    const flags = { create: 'wx+', read: constants.O_RDONLY | constants.O_NONBLOCK, write: 'r+' } as const;
    const retried = secondTries();
    const opened = () => open(path, flags[mode], 0o600);
    return new NodeFile(await (mode === 'read' ? retried(opened) : opened()), retried);
  }

  rename(from: string, to: string): Promise<void> {
    return rename(from, to);
  }

  unlink(path: string): Promise<void> {
    return unlink(path);
  }

  async list(dir: string): Promise<string[]> {
    try {
      return await readdir(dir);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw error;
    }
  }

  async mkdir(dir: string): Promise<void> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
  }

  async syncDir(dir: string): Promise<void> {
    const handle = await open(dir, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async freeBytes(dir: string): Promise<number> {
    const { bavail, bsize } = await statfs(dir);
    return bavail * bsize;
  }

  async sha256(path: string, start: number, end: number, maxBytesPerSecond: number): Promise<Buffer> {
    if (this.#closed) throw new Error('the log is closed');
    const { worker, ended } = (this.#hasher ??= this.#startHasher());
    const { port1, port2 } = new MessageChannel();
    worker.postMessage({ path, start, end, maxBytesPerSecond, answers: port2 }, [port2]);
    const [{ hash, error, code }] = (await once(port1, 'message', { signal: ended.signal })) as [Hashed];
    port1.close();
    if (hash) return Buffer.from(hash);
    throw Object.assign(new Error(error), { code });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#hasher?.ended.abort();
    await this.#hasher?.worker.terminate();
  }

  #startHasher() {
    // In the bundle it is JavaScript, in the same directory as this chunk.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./hash-worker.${extension}`, import.meta.url));
    const ended = new AbortController();
    worker.unref(); // the port of a file that is being hashed keeps the process
    worker.on('error', (error) => {
      this.#hasher = undefined;
      ended.abort(error);
    });
    return { worker, ended };
  }
}
