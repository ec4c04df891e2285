import { constants, type FileHandle, mkdir, open, readdir, rename, statfs, unlink } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { SecondTries } from './second-tries.ts';

/** A file, read and written at offsets. */
export interface File {
  /** @returns number of bytes read, less than requested at the end of the file */
  read(into: Buffer, at: number): Promise<number>;
  write(bytes: Buffer, at: number): Promise<void>;
  truncate(length: number): Promise<void>;
  /** Resolves when the content is on disk. */
  sync(): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** What the log needs of a disk: small, so that tests can simulate one that loses what was not synced. */
export interface FileSystem {
  /** `create` creates a new file and fails if it exists. */
  open(path: string, mode: 'create' | 'read' | 'write'): Promise<File>;
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

class NodeFile implements File {
  readonly #handle: FileHandle;
  readonly #tries: SecondTries;

  constructor(handle: FileHandle, tries: SecondTries) {
    this.#handle = handle;
    this.#tries = tries;
  }

  async read(into: Buffer, at: number): Promise<number> {
    let done = 0;
    while (done < into.byteLength) {
      const { bytesRead } = await this.#tries.of(() =>
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

  close(): Promise<void> {
    return this.#handle.close();
  }
}

interface Hashed {
  id: number;
  hash?: Uint8Array;
  error?: string;
  code?: string;
}

/** The disk of this machine. */
export class NodeFileSystem implements FileSystem {
  #hasher: Worker | undefined;
  #jobs = new Map<number, { resolve(hash: Buffer): void; reject(error: Error): void }>();
  #nextJob = 0;
  #closed = false;

  async open(path: string, mode: 'create' | 'read' | 'write'): Promise<File> {
    // Without O_NONBLOCK, opening a named pipe with the name of a segment would wait for a writer, at each start.
    const flags = { create: 'wx+', read: constants.O_RDONLY | constants.O_NONBLOCK, write: 'r+' } as const;
    const tries = new SecondTries();
    const opened = () => open(path, flags[mode], 0o600);
    return new NodeFile(await (mode === 'read' ? tries.of(opened) : opened()), tries);
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
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
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

  sha256(path: string, start: number, end: number, maxBytesPerSecond: number): Promise<Buffer> {
    if (this.#closed) return Promise.reject(new Error('the log is closed'));
    const worker = (this.#hasher ??= this.#startHasher());
    return new Promise((resolve, reject) => {
      const id = this.#nextJob++;
      this.#jobs.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage({ id, path, start, end, maxBytesPerSecond });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#hasher;
    this.#hasher = undefined;
    await worker?.terminate();
    this.#fail(new Error('the log was closed'));
  }

  #startHasher(): Worker {
    // In the bundle it is JavaScript, in the same directory as this chunk.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./hash-worker.${extension}`, import.meta.url));
    worker.on('message', ({ id, hash, error, code }: Hashed) => {
      const job = this.#jobs.get(id);
      this.#jobs.delete(id);
      if (this.#jobs.size === 0) worker.unref();
      if (hash) job?.resolve(Buffer.from(hash));
      else job?.reject(Object.assign(new Error(error), { code }));
    });
    worker.on('error', (error: Error) => {
      this.#hasher = undefined;
      this.#fail(error);
    });
    return worker;
  }

  #fail(error: Error): void {
    for (const job of this.#jobs.values()) job.reject(error);
    this.#jobs.clear();
  }
}
