import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { RedisSeen } from '@nrdot/queue';
import {
  type Area,
  type FileSystem,
  NodeFileSystem,
  WRITE_OFF_REASONS,
  type WriteOffs,
} from '@nrdot/segment-log';

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
  /** Batches on their way to the disk, by id: their items. */
  underWay?: Record<string, number>;
  /** Of what the segment log has written off: how much is in `counts`, in an entry or in Redis' books, by area and reason. */
  writtenOff?: Record<string, number>;
  /** What Redis was like when it was seen last. */
  seen?: RedisSeen;
}

/**
 * What happened on the disk that Redis' books have to hear of: items taken without Redis, items lost from the disk; and how the
 * books stood last, for the day on which Redis has lost them.
 * It is kept in a small file of its own beside the segments, so that neither a kill nor a Redis that is away makes
 * the books wrong, and booked exactly once.
 */
export class Ledger {
  readonly #dir: string;
  readonly #fs: FileSystem;
  #counts: Counts;
  #entry: Entry | undefined;
  readonly #inFlight: Map<string, number>;
  readonly #writtenOff: Record<string, number>;
  #seen: RedisSeen | undefined;
  /** Of those in flight: what an earlier run left. */
  readonly #found: ReadonlySet<string>;
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(
    dir: string,
    fs: FileSystem,
    { counts, entry, underWay = {}, writtenOff = {}, seen }: Kept,
  ) {
    this.#dir = dir;
    this.#fs = fs;
    this.#counts = counts;
    this.#entry = entry;
    this.#inFlight = new Map(Object.entries(underWay));
    this.#writtenOff = writtenOff;
    this.#seen = seen;
    this.#found = new Set(this.#inFlight.keys());
  }

  /** @throws Error when the file is none of its own: it is written whole or not at all, so somebody or the disk has changed it */
  static async open(dir: string, fs: FileSystem = new NodeFileSystem()): Promise<Ledger> {
    const names = await fs.list(dir);
    if (names.includes(FILE))
      return new Ledger(dir, fs, keptOf(await textOf(fs, join(dir, FILE)), join(dir, FILE)));
    const old = names.includes(OLD_FILE) ? Number(await textOf(fs, join(dir, OLD_FILE))) : 0;
    const ledger = new Ledger(dir, fs, { counts: old > 0 ? { accepted: old } : {} });
    if (old > 0) {
      await ledger.#keep();
      await fs.unlink(join(dir, OLD_FILE));
    }
    return ledger;
  }

  /** Items of a field that Redis may not have heard of yet. */
  pending(field: string): number {
    return (this.#counts[field] ?? 0) + (this.#entry?.counts[field] ?? 0);
  }

  /** Items that the disk has dropped and Redis may not have heard of yet. */
  get pendingDrops(): number {
    const fields = new Set([...Object.keys(this.#counts), ...Object.keys(this.#entry?.counts ?? {})]);
    return [...fields].reduce(
      (sum, field) => sum + (field.startsWith('dropped:') ? this.pending(field) : 0),
      0,
    );
  }

  /** Whether a batch is on its way to the disk without Redis. */
  get isBusy(): boolean {
    return this.#inFlight.size > 0;
  }

  /** What Redis was like when it was seen last; absent when it never was. */
  get seen(): RedisSeen | undefined {
    return this.#seen;
  }

  /**
   * Remembers what Redis is like.
   * @param keep whether that is written down now; else with what is written next
   * @throws as `add` does
   */
  saw(seen: RedisSeen, keep: boolean): Promise<void> {
    this.#seen = seen;
    return keep ? this.#keep() : Promise.resolve();
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
   * Takes over what the segment log has written off and was not taken over yet. The log's totals stand in the very file that
   * makes them true, so a kill between that write and this one loses nothing: the next start is told the same totals.
   * @throws as `add` does
   */
  writtenOff(area: Area, totals: Readonly<WriteOffs>): Promise<void> {
    let isNews = false;
    for (const reason of WRITE_OFF_REASONS) {
      const key = `${area}:${reason}`;
      const [before = 0, now = 0] = [this.#writtenOff[key], totals[reason]];
      if (now === before) continue;
      isNews = true;
      this.#writtenOff[key] = now;
      // Fewer: a checkpoint was damaged, and counts from 0 again.
      if (now <= before) continue;
      const field = `dropped:${limitOf(area, reason)}`;
      this.#counts[field] = (this.#counts[field] ?? 0) + now - before;
    }
    return isNews ? this.#keep() : Promise.resolve();
  }

  /**
   * Notes that a batch is about to go to the disk without Redis, so that a kill between its record and `accepted` does not
   * make the books wrong.
   * @returns when that is on the disk
   * @throws Error of the file system; then the batch may not go
   */
  async begin(id: string, items: number): Promise<void> {
    this.#inFlight.set(id, items);
    try {
      await this.#keep();
    } catch (error) {
      this.#inFlight.delete(id);
      throw error;
    }
  }

  /** The batch is not on the disk, or was there before. */
  abandon(id: string): void {
    this.#inFlight.delete(id);
  }

  /**
   * The batch is on the disk, and with that accepted.
   * @throws as `add` does
   */
  accepted(id: string): Promise<void> {
    const items = this.#inFlight.get(id) ?? 0;
    this.#inFlight.delete(id);
    return this.add('accepted', items);
  }

  /**
   * Concludes what a kill has left under way; once, before the first batch is taken. A disk that is full does not keep it
   * from that: what cannot be written is noted in memory, and what stands in the file is concluded again after a kill.
   * @param onDisk ids of the records that were written last
   */
  async conclude(onDisk: ReadonlySet<string>): Promise<void> {
    for (const id of this.#found) {
      if (onDisk.has(id)) await this.accepted(id).catch(() => {});
      else this.abandon(id);
    }
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

  /** Waits until nothing is being written any more. */
  async close(): Promise<void> {
    await (this.#next ?? this.#writing)?.catch(() => {});
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
    const kept: Kept = {
      counts: this.#counts,
      ...(this.#entry ? { entry: this.#entry } : {}),
      ...(this.#inFlight.size > 0 ? { underWay: Object.fromEntries(this.#inFlight) } : {}),
      ...(Object.keys(this.#writtenOff).length > 0 ? { writtenOff: this.#writtenOff } : {}),
      ...(this.#seen ? { seen: this.#seen } : {}),
    };
    const [fs, path] = [this.#fs, join(this.#dir, FILE)];
    const temporary = `${path}.tmp`;
    if ((await fs.list(this.#dir)).includes(`${FILE}.tmp`)) await fs.unlink(temporary);
    const file = await fs.open(temporary, 'create');
    try {
      await file.write(Buffer.from(JSON.stringify(kept)), 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temporary, path);
    await fs.syncDir(this.#dir);
  }
}

/** By which limit: what the upstream refused has limits of its own, and another remedy. */
function limitOf(area: Area, reason: keyof WriteOffs): string {
  const isLimit = reason === 'retention' || reason === 'capacity';
  return area === 'rejected' && isLimit ? `rejected_${reason}` : reason;
}

function keptOf(text: string, path: string): Kept {
  try {
    const kept = JSON.parse(text) as Kept;
    const { counts, entry, underWay = {}, writtenOff = {} } = kept;
    if ([counts, entry ? entry.counts : {}, underWay, writtenOff].every(areCounts)) return kept;
  } catch {}
  throw new Error(
    `${path} is damaged; expected JSON with "counts", numbers by name. Move it away: only what the books had still to hear of is lost with it`,
  );
}

function areCounts(counts: unknown): boolean {
  return (
    typeof counts === 'object' &&
    counts !== null &&
    !Array.isArray(counts) &&
    Object.values(counts).every((count) => Number.isFinite(count))
  );
}

async function textOf(fs: FileSystem, path: string): Promise<string> {
  const file = await fs.open(path, 'read');
  try {
    const bytes = Buffer.alloc(await file.size());
    await file.read(bytes, 0);
    return bytes.toString('utf8');
  } finally {
    await file.close();
  }
}
