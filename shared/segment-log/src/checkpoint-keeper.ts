import type { Ballast } from './ballast.ts';
import { writeCheckpoint } from './checkpoint.ts';
import type { LogEvents, WriteOffs } from './entry.ts';
import type { FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';
import type { RunningClock } from './running-clock.ts';

/** How much of its running time retention may lose in a kill. */
const CLOCK_BEHIND_MS = 60_000;

/** Writes an area's checkpoints one after another, so that an earlier one never replaces a later one. */
export class CheckpointKeeper {
  readonly #fs: FileSystem;
  readonly #inventory: Inventory;
  readonly #nextSequence: () => number;
  readonly #events: LogEvents;
  readonly #ballast: Ballast;
  readonly #clock: RunningClock;
  #writtenAtMs = 0;
  #told = '';
  #writing: Promise<void> = Promise.resolve();

  constructor(
    fs: FileSystem,
    inventory: Inventory,
    nextSequence: () => number,
    events: LogEvents,
    ballast: Ballast,
    clock: RunningClock,
  ) {
    this.#ballast = ballast;
    this.#clock = clock;
    this.#fs = fs;
    this.#events = events;
    this.#inventory = inventory;
    this.#nextSequence = nextSequence;
  }

  /** Once it resolves, earlier acknowledgements are durable: by this write, or one that was in flight. */
  async writeIfChanged(): Promise<void> {
    await this.#writing;
    const { isChanged, segments } = this.#inventory;
    const isBehind = segments.length > 0 && this.#clock.ms - this.#writtenAtMs > CLOCK_BEHIND_MS;
    if (isChanged || isBehind) await this.write();
  }

  /** Writes a checkpoint with the acknowledgements. */
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
      .map(({ sequence, records, items, acked, ackedItems, writtenAtMs }) => {
        return { sequence, records, items, ranges: acked.toRanges(), ackedItems, writtenAtMs };
      });
    const writtenOff = { ...inventory.writtenOff };
    try {
      const nextSequence = this.#nextSequence();
      const ranMs = this.#clock.ms;
      const checkpoint = { nextSequence, segments, writtenOff, ranMs };
      this.#writtenAtMs = ranMs;
      await this.#ballast.inItsRoom(() => writeCheckpoint(this.#fs, inventory.dir, checkpoint));
    } catch (error) {
      inventory.isChanged = true;
      throw error;
    }
    this.tell(writtenOff);
  }

  /** Reports the write-offs that are on disk, if they have changed. */
  tell(writtenOff: Readonly<WriteOffs>): void {
    const news = JSON.stringify(writtenOff);
    if (news === this.#told) return;
    this.#told = news;
    this.#events.writtenOff(this.#inventory.area, writtenOff);
  }
}
