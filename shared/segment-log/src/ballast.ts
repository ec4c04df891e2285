import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { codeOf, isFull } from './errors.ts';
import { sizeOf, withFile } from './file-system.ts';
import type { SegmentLogOptions } from './segment-log.ts';

const BALLAST = 'ballast';
const CHUNK_BYTES = 1024 * 1024;

/**
 * A file that only occupies space. Removing acknowledged records requires writing a checkpoint first, and a disk that others
 * have filled completely has no room even for that: then this file is removed.
 */
export class Ballast {
  readonly #o: SegmentLogOptions;
  readonly #path: string;
  /** Its size when it is there; 0: none. */
  readonly #fullBytes: number;
  #bytes = 0;
  #isGivenUp = false;

  constructor(options: SegmentLogOptions) {
    this.#o = options;
    this.#fullBytes = options.ballastBytes ?? 0;
    this.#path = join(options.dir, BALLAST);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Uses the existing file, or creates it. */
  async open(): Promise<void> {
    const { fs } = this.#o;
    const size = await sizeOf(fs, this.#path);
    if (size === this.#fullBytes) this.#bytes = size;
    else {
      if (size !== undefined) await fs.unlink(this.#path).catch(() => {});
      await this.restore();
    }
  }

  /** Creates the file if it is missing and there is room. Without it everything works except on a full disk. */
  async restore(): Promise<void> {
    const { fs, dir, reserveBytes, events } = this.#o;
    const bytes = this.#fullBytes;
    if (bytes === 0 || this.#bytes > 0) return;
    try {
      if ((await fs.freeBytes(dir)) - bytes < reserveBytes) return;
      await withFile(fs, this.#path, 'create', async (file) => {
        for (let at = 0; at < bytes; at += CHUNK_BYTES) {
          // Random, because a compressing file system would store zeros in no space.
          await file.write(randomBytes(Math.min(CHUNK_BYTES, bytes - at)), at);
        }
        await file.sync();
      });
    } catch {
      await fs.unlink(this.#path).catch(() => {});
      return;
    }
    this.#bytes = bytes;
    if (this.#isGivenUp) events.ballast('kept');
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
    const { fs, events } = this.#o;
    await fs.unlink(this.#path).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
    });
    this.#bytes = 0;
    this.#isGivenUp = true;
    events.ballast('given_up');
  }
}
