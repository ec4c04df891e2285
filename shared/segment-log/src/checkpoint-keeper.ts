import { writeCheckpoint } from './checkpoint.ts';
import type { FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';

/** Writes an area's checkpoints: one after another, so that a later one is never overtaken by an earlier. */
export class CheckpointKeeper {
  readonly #fs: FileSystem;
  readonly #inventory: Inventory;
  readonly #nextSequence: () => number;
  #writing: Promise<void> = Promise.resolve();

  constructor(fs: FileSystem, inventory: Inventory, nextSequence: () => number) {
    this.#fs = fs;
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
    try {
      await writeCheckpoint(this.#fs, inventory.dir, { nextSequence: this.#nextSequence(), segments });
    } catch (error) {
      inventory.isChanged = true;
      throw error;
    }
  }
}
