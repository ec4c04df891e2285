import type { Ballast } from './ballast.ts';
import { writeCheckpoint } from './checkpoint.ts';
import type { LogEvents, WriteOffs } from './entry.ts';
import type { FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';

/** Writes an area's checkpoints: one after another, so that a later one is never overtaken by an earlier. */
export class CheckpointKeeper {
  readonly #fs: FileSystem;
  readonly #inventory: Inventory;
  readonly #nextSequence: () => number;
  readonly #events: LogEvents;
  readonly #ballast: Ballast;
  #told = '';
  #writing: Promise<void> = Promise.resolve();

  constructor(
    fs: FileSystem,
    inventory: Inventory,
    nextSequence: () => number,
    events: LogEvents,
    ballast: Ballast,
  ) {
    this.#ballast = ballast;
    this.#fs = fs;
    this.#events = events;
    this.#inventory = inventory;
    this.#nextSequence = nextSequence;
  }

  /** When it resolves, what was done with before is written down: by this call, or by one that was under way. */
  async writeIfChanged(): Promise<void> {
    await this.#writing;
    if (this.#inventory.isChanged) await this.write();
  }

  /** Writes down what is done with. */
  write(): Promise<void> {
    const done = this.#writing.then(() => this.#write());
    this.#writing = done.catch(() => {});
    return done;
  }

  async #write(): Promise<void> {
    const inventory = this.#inventory;
    inventory.isChanged = false;
    const segments = inventory.segments
      .filter(({ records }) => records > 0)
      .map(({ sequence, records, items, acked, ackedItems }) => {
        return { sequence, records, items, ranges: acked.toRanges(), ackedItems };
      });
    const writtenOff = { ...inventory.writtenOff };
    try {
      const nextSequence = this.#nextSequence();
      const checkpoint = { nextSequence, segments, writtenOff };
      await this.#ballast.inItsRoom(() => writeCheckpoint(this.#fs, inventory.dir, checkpoint));
    } catch (error) {
      inventory.isChanged = true;
      throw error;
    }
    this.tell(writtenOff);
  }

  /** Tells what has been written off according to the disk, if that is news. */
  tell(writtenOff: Readonly<WriteOffs>): void {
    const news = JSON.stringify(writtenOff);
    if (news === this.#told) return;
    this.#told = news;
    this.#events.writtenOff(this.#inventory.area, writtenOff);
  }
}
