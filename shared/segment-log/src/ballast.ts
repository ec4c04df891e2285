import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { codeOf, isFull } from './errors.ts';
import type { FileSystem } from './file-system.ts';

const BALLAST = 'ballast';
const CHUNK_BYTES = 1024 * 1024;

export interface BallastOptions {
  fs: FileSystem;
  dir: string;
  /** 0: none. */
  bytes: number;
  /** Kept free in addition. */
  reserveBytes: number;
  /** It was released, or restored afterwards. */
  changed(state: 'given_up' | 'kept'): void;
}

/**
 * A file that only occupies space. Removing acknowledged records requires writing a checkpoint first, and a disk that others
 * have filled completely has no room even for that: then this file is removed.
 */
export class Ballast {
  readonly #o: BallastOptions;
  readonly #path: string;
  #bytes = 0;
  #isGivenUp = false;

  constructor(options: BallastOptions) {
    this.#o = options;
    this.#path = join(options.dir, BALLAST);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Uses the existing file, or creates it. */
  async open(): Promise<void> {
    const { fs, bytes } = this.#o;
    const size = await this.#size();
    if (size === bytes) this.#bytes = bytes;
    else {
      if (size !== undefined) await fs.unlink(this.#path).catch(() => {});
      await this.restore();
    }
  }

  /** Creates the file if it is missing and there is room. Without it everything works except on a full disk. */
  async restore(): Promise<void> {
    const { fs, dir, bytes, reserveBytes, changed } = this.#o;
    if (bytes === 0 || this.#bytes > 0) return;
    try {
      if ((await fs.freeBytes(dir)) - bytes < reserveBytes) return;
      await this.#write();
    } catch {
      await fs.unlink(this.#path).catch(() => {});
      return;
    }
    this.#bytes = bytes;
    if (this.#isGivenUp) changed('kept');
    this.#isGivenUp = false;
  }

  /** Runs a write, and again without the ballast if the disk is full. */
  async inItsRoom<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write();
    } catch (error) {
      if (!isFull(error) || this.#bytes === 0) throw error;
    }
    await this.#giveUp();
    return write();
  }

  async #giveUp(): Promise<void> {
    const { fs, changed } = this.#o;
    await fs.unlink(this.#path).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
    });
    this.#bytes = 0;
    this.#isGivenUp = true;
    changed('given_up');
  }

  async #write(): Promise<void> {
    const { fs, bytes } = this.#o;
    const file = await fs.open(this.#path, 'create');
    try {
      for (let at = 0; at < bytes; at += CHUNK_BYTES) {
        // Random, because a compressing file system would store zeros in no space.
        await file.write(randomBytes(Math.min(CHUNK_BYTES, bytes - at)), at);
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #size(): Promise<number | undefined> {
    try {
      const file = await this.#o.fs.open(this.#path, 'read');
      try {
        return await file.size();
      } finally {
        await file.close();
      }
    } catch {
      return undefined;
    }
  }
}
