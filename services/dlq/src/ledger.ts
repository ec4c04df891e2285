import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { RedisSeen } from '@nrdot/queue';
import {
  type Area,
  type FileSystem,
  NodeFileSystem,
  replaceFile,
  WRITE_OFF_REASONS,
  type WriteOffs,
  withFile,
} from '@nrdot/segment-log';

const FILE = 'ledger.json';
/** Up to this number, ids of the last run count as unsettled until Redis was asked: the file has them, with 50 bytes each. */
const UNSETTLED_MAX = 10_000;

/** Items by field of the accounting, such as `accepted` or `dropped:corrupted`. */
export type Counts = Record<string, number>;

/** An entry that is being added to Redis' accounting. Its id makes that idempotent if the answer is lost. */
export interface Entry {
  id: string;
  counts: Counts;
}

interface Kept {
  counts: Counts;
  entry?: Entry;
  /** Items of batches that are being written to disk without Redis, by id. */
  underWay?: Record<string, number>;
  /** See `Ledger.unsettled`. Absent in older versions. */
  unsettled?: string[];
  /** How much of the segment log's write-offs is in `counts`, in an entry or in Redis' accounting, by area and reason. */
  writtenOff?: Record<string, number>;
  /** The last snapshot of Redis. */
  seen?: RedisSeen;
}

/**
 * What happened on disk that Redis' accounting lacks: items accepted without Redis, items lost from the disk. It also keeps the
 * last snapshot of the accounting, to restore it if Redis loses its data. All this is in a small file beside the segments, so
 * that each change reaches the accounting exactly once despite kills and outages of Redis.
 */
export class Ledger {
  /**
   * Ids of batches from Redis that are on the disk, and that Redis may not know to be there: if it was away when they were to be
   * settled, they come again. Any number of direct batches may be written until then, and each first writes this to the file.
   * Includes what the last run wrote shortly before its end, until Redis was asked.
   */
  readonly unsettled: Set<string>;
  readonly #dir: string;
  readonly #fs: FileSystem;
  #counts: Counts;
  #entry: Entry | undefined;
  /** The entry in the file. Only that one may be added to the accounting: a kill would have its items be told in another. */
  #written: Entry | undefined;
  readonly #inFlight: Map<string, number>;
  readonly #writtenOff: Record<string, number>;
  #seen: RedisSeen | undefined;
  /** Those of `#inFlight` that an earlier run left behind. */
  readonly #found: ReadonlySet<string>;
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(
    dir: string,
    fs: FileSystem,
    { counts, entry, underWay = {}, unsettled, writtenOff = {}, seen }: Kept,
  ) {
    this.#dir = dir;
    this.#fs = fs;
    this.#counts = counts;
    this.#entry = entry;
    this.#written = entry;
    this.#inFlight = new Map(Object.entries(underWay));
    this.unsettled = new Set(unsettled);
    this.#writtenOff = writtenOff;
    this.#seen = seen;
    this.#found = new Set(this.#inFlight.keys());
  }

  /** @throws Error if the file is malformed: it is written atomically, so somebody or the disk has changed it */
  static async open(dir: string, fs: FileSystem = new NodeFileSystem()): Promise<Ledger> {
    const isThere = (await fs.list(dir)).includes(FILE);
    return new Ledger(dir, fs, isThere ? await keptIn(fs, join(dir, FILE)) : { counts: {} });
  }

  /** Items of a field that Redis may not have yet. */
  pending(field: string): number {
    return (this.#counts[field] ?? 0) + (this.#entry?.counts[field] ?? 0);
  }

  /** Items dropped from the disk that Redis may not have accounted for yet. */
  get pendingDrops(): number {
    return [this.#counts, this.#entry?.counts ?? {}]
      .flatMap((counts) => Object.entries(counts))
      .reduce((sum, [field, items]) => sum + (field.startsWith('dropped:') ? items : 0), 0);
  }

  /** Whether a batch is being written to disk without Redis. */
  get isBusy(): boolean {
    return this.#inFlight.size > 0;
  }

  /** The last snapshot of Redis, if any. */
  get seen(): RedisSeen | undefined {
    return this.#seen;
  }

  /** Keeps a snapshot of Redis, with the next change or now if `keep`. @throws as `add` does */
  saw(seen: RedisSeen, keep: boolean): Promise<void> {
    this.#seen = seen;
    return keep ? this.#keep() : Promise.resolve();
  }

  /**
   * Adds items to a field.
   * @returns when that is on the disk
   * @throws Error of the file system; the items are kept in memory and written with the next change
   */
  add(field: string, items: number): Promise<void> {
    this.#count(field, items);
    return this.#keep();
  }

  #count(field: string, items: number): void {
    this.#counts[field] = (this.#counts[field] ?? 0) + items;
  }

  /**
   * Takes over the segment log's write-offs as far as they are new. The log's totals are in the file that makes them true, so a
   * kill between that write and this one loses nothing: the next start gets the same totals.
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
      // Lower after a damaged checkpoint, which makes the log count from 0 again.
      if (now <= before) continue;
      this.#count(`dropped:${limitOf(area, reason)}`, now - before);
    }
    return isNews ? this.#keep() : Promise.resolve();
  }

  /**
   * Records that a batch is about to be written to disk without Redis, so that a kill between its record and `accepted` does
   * not make the accounting wrong.
   * @returns when that is on the disk
   * @throws Error of the file system; then the batch must not be written
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

  /** The batch was not written, or was on the disk before. */
  abandon(id: string): void {
    this.#inFlight.delete(id);
  }

  /** The batch is on the disk and thereby accepted. @throws as `add` does */
  accepted(id: string): Promise<void> {
    const items = this.#inFlight.get(id) ?? 0;
    this.#inFlight.delete(id);
    return this.add('accepted', items);
  }

  /**
   * Resolves what a kill has left in flight; called once, before the first batch is accepted. Works on a full disk too: what
   * cannot be written is kept in memory, and after another kill the file is resolved again.
   * @param onDisk ids of the records that were written last
   */
  async conclude(onDisk: ReadonlySet<string>): Promise<void> {
    for (const id of this.#found) {
      if (onDisk.has(id)) await this.accepted(id).catch(() => {});
      else this.abandon(id);
    }
    for (const id of onDisk) if (this.unsettled.size < UNSETTLED_MAX) this.unsettled.add(id);
  }

  /**
   * Sends the pending entry to Redis.
   * @param book adds an entry to the accounting, once per id however often it is called
   * @throws as `add` does, or what `book` throws; the next call repeats it
   */
  async tell(book: (entry: Entry) => Promise<void>): Promise<void> {
    if (!this.#entry) {
      if (Object.keys(this.#counts).length === 0) return;
      this.#entry = { id: randomUUID(), counts: this.#counts };
      this.#counts = {};
    }
    if (this.#written !== this.#entry) await this.#keep();
    await book(this.#entry);
    this.#entry = undefined;
    await this.#keep();
  }

  /** Waits until no write is in flight. */
  async close(): Promise<void> {
    await (this.#next ?? this.#writing)?.catch(() => {});
  }

  /** Writes the file; calls during a write share the next one. */
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
      entry: this.#entry,
      underWay: this.#inFlight.size > 0 ? Object.fromEntries(this.#inFlight) : undefined,
      unsettled: this.unsettled.size > 0 ? [...this.unsettled] : undefined,
      writtenOff: Object.keys(this.#writtenOff).length > 0 ? this.#writtenOff : undefined,
      seen: this.#seen,
    };
    await replaceFile(this.#fs, this.#dir, FILE, JSON.stringify(kept));
    this.#written = kept.entry;
  }
}

/** By which limit: what the upstream refused has limits of its own, and another remedy. */
function limitOf(area: Area, reason: keyof WriteOffs): string {
  const isLimit = reason === 'retention' || reason === 'capacity';
  return area === 'rejected' && isLimit ? `rejected_${reason}` : reason;
}

async function keptIn(fs: FileSystem, path: string): Promise<Kept> {
  const text = await withFile(fs, path, 'read', async (file) => {
    const bytes = Buffer.alloc(await file.size());
    await file.read(bytes, 0);
    return bytes.toString('utf8');
  });
  try {
    const kept = JSON.parse(text) as Kept;
    const { counts, entry, underWay = {}, unsettled = [], writtenOff = {} } = kept;
    const areIds = Array.isArray(unsettled) && unsettled.every((id) => typeof id === 'string');
    if (areIds && [counts, entry ? entry.counts : {}, underWay, writtenOff].every(areCounts)) return kept;
  } catch {}
  throw new Error(
    `${path} is damaged; expected JSON with "counts", numbers by name. Move the file away: this loses only what had not yet been reported to the accounting`,
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
