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
  /** Kept free beside it. */
  reserveBytes: number;
  /** It was given up, or made again after that. */
  changed(state: 'given_up' | 'kept'): void;
}

/**
 * A file that only takes up room. To remove what is acknowledged, it is written down first that it is acknowledged, and a disk
 * that others have filled to the last byte takes not even that: then this file goes.
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

  /** Takes up what is there, or makes it. */
  async open(): Promise<void> {
    const { fs, bytes } = this.#o;
    const size = await this.#size();
    if (size === bytes) this.#bytes = bytes;
    else {
      if (size !== undefined) await fs.unlink(this.#path).catch(() => {});
      await this.restore();
    }
  }

  /** Makes it where it is missing and there is room. It may stay missing: without it all works, but on a full disk. */
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

  /** Does some writing, again in the room of the ballast when the disk is full. */
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
        // Random: zeros are nothing to a file system that compresses.
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
