import { join } from 'node:path';
import type { Ballast } from './ballast.ts';
import { createFile, type FileSystem, sizeOf } from './file-system.ts';
import { patient } from './patience.ts';

export const QUARANTINE = 'quarantine';

/** Keeps files with unreadable parts, each with a report. Only people remove them; they count as used space. */
export class Quarantine {
  readonly #fs: FileSystem;
  readonly #root: string;
  readonly #dir: string;
  readonly #ballast: Ballast;
  #bytes = 0;

  constructor(fs: FileSystem, root: string, ballast: Ballast) {
    this.#fs = fs;
    this.#ballast = ballast;
    this.#root = root;
    this.#dir = join(root, QUARANTINE);
  }

  get bytes(): number {
    return this.#bytes;
  }

  async measure(): Promise<void> {
    const fs = patient(this.#fs);
    this.#bytes = 0;
    for (const name of await fs.list(this.#dir))
      this.#bytes += (await sizeOf(fs, join(this.#dir, name))) ?? 0;
  }

  /** Moves a file here, after its report is on disk. */
  take(dir: string, file: string, as: string, report: object): Promise<void> {
    return this.#ballast.inItsRoom(() => this.#take(dir, file, as, report));
  }

  async #take(dir: string, file: string, as: string, report: object): Promise<void> {
    const fs = this.#fs;
    const bytes = (await sizeOf(fs, join(dir, file))) ?? 0;
    await fs.mkdir(this.#dir);
    await fs.syncDir(this.#root);
    const taken = new Set(await fs.list(this.#dir));
    let name = as;
    for (let n = 2; taken.has(name) || taken.has(`${name}.json`); n++) name = `${as}-${n}`;
    await createFile(fs, join(this.#dir, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
    await fs.rename(join(dir, file), join(this.#dir, name));
    await fs.syncDir(this.#dir);
    await fs.syncDir(dir);
    this.#bytes += bytes;
  }
}
