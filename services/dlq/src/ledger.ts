import { randomUUID } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

const FILE = 'ledger.json';
/** What versions before 0.1.0 left: the number of items taken without Redis. */
const OLD_FILE = 'accepted-without-redis';

/** Items by field of Redis' books, such as `accepted` or `dropped:corrupted`. */
export type Counts = Record<string, number>;

/** A booking under way. It has a name, so that one whose answer got lost is not made twice. */
export interface Entry {
  id: string;
  counts: Counts;
}

interface Kept {
  counts: Counts;
  entry?: Entry;
}

/**
 * What happened on the disk that Redis' books have to hear of: items taken without Redis, items lost from the disk.
 * It is kept in a small file of its own beside the segments, so that neither a kill nor a Redis that is away makes
 * the books wrong, and booked exactly once.
 */
export class Ledger {
  readonly #dir: string;
  #counts: Counts;
  #entry: Entry | undefined;
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(dir: string, { counts, entry }: Kept) {
    this.#dir = dir;
    this.#counts = counts;
    this.#entry = entry;
  }

  /** @throws SyntaxError when the file is no JSON: it is written whole or not at all, so somebody has changed it */
  static async open(dir: string): Promise<Ledger> {
    const text = await readFile(join(dir, FILE), 'utf8').catch(() => undefined);
    if (text !== undefined) return new Ledger(dir, JSON.parse(text) as Kept);
    const old = Number(await readFile(join(dir, OLD_FILE), 'utf8').catch(() => '0'));
    const ledger = new Ledger(dir, { counts: old > 0 ? { accepted: old } : {} });
    if (old > 0) {
      await ledger.#keep();
      await rm(join(dir, OLD_FILE));
    }
    return ledger;
  }

  /** Items of a field that Redis may not have heard of yet. */
  pending(field: string): number {
    return (this.#counts[field] ?? 0) + (this.#entry?.counts[field] ?? 0);
  }

  /**
   * Notes items at once.
   * @returns when it is on the disk
   * @throws Error of the file system; they are noted in memory, and written with what comes next
   */
  add(field: string, items: number): Promise<void> {
    this.#counts[field] = (this.#counts[field] ?? 0) + items;
    return this.#keep();
  }

  /**
   * Tells what is noted.
   * @param book books an entry, once for each id however often it is called
   * @returns whether there was anything to tell
   */
  async tell(book: (entry: Entry) => Promise<void>): Promise<boolean> {
    if (!this.#entry) {
      if (Object.keys(this.#counts).length === 0) return false;
      this.#entry = { id: randomUUID(), counts: this.#counts };
      this.#counts = {};
      await this.#keep();
    }
    await book(this.#entry);
    this.#entry = undefined;
    await this.#keep();
    return true;
  }

  /** Writes the file; calls that come while it is being written share the next write. */
  #keep(): Promise<void> {
    this.#next ??= (this.#writing ?? Promise.resolve())
      .catch(() => {}) // whoever asked for that one was told
      .then(() => {
        this.#writing = this.#next;
        this.#next = undefined;
        return this.#write();
      });
    return this.#next;
  }

  async #write(): Promise<void> {
    const kept: Kept = { counts: this.#counts, ...(this.#entry ? { entry: this.#entry } : {}) };
    const path = join(this.#dir, FILE);
    const file = await open(`${path}.tmp`, 'w');
    try {
      await file.writeFile(JSON.stringify(kept));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.tmp`, path);
    const dir = await open(this.#dir, 'r');
    try {
      await dir.sync();
    } finally {
      await dir.close();
    }
  }
}
