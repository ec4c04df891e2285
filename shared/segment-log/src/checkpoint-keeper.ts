import type { AreaOptions } from './area.ts';
import { writeCheckpoint } from './checkpoint.ts';
import type { WriteOffs } from './entry.ts';
import type { Inventory } from './inventory.ts';
import { oneByOne } from './one-by-one.ts';
import type { RunningClock } from './running-clock.ts';
import { rememberedOf } from './segment.ts';

/** How much of its running time retention may lose in a kill. */
const CLOCK_BEHIND_MS = 60_000;

/** Writes an area's checkpoints one after another, so that an earlier one never replaces a later one. */
export class CheckpointKeeper {
  readonly #o: AreaOptions;
  readonly #inventory: Inventory;
  readonly #clock: RunningClock;
  readonly #alone = oneByOne();
  #writtenAtMs = 0;
  #told = '';

  constructor(options: AreaOptions, inventory: Inventory, clock: RunningClock) {
    this.#o = options;
    this.#inventory = inventory;
    this.#clock = clock;
  }

  /** Once it resolves, earlier acknowledgements are durable: by this write, or one that was in flight. */
  async writeIfChanged(): Promise<void> {
    await this.#alone(async () => {});
    const { isChanged, segments } = this.#inventory;
    const isBehind = segments.length > 0 && this.#clock.ms - this.#writtenAtMs > CLOCK_BEHIND_MS;
    if (isChanged || isBehind) await this.write();
  }

  write(): Promise<void> {
    return this.#alone(() => this.#write());
  }

  async #write(): Promise<void> {
    const inventory = this.#inventory;
    inventory.isChanged = false;
    const segments = inventory.segments.filter(({ records }) => records > 0).map(rememberedOf);
    const writtenOff = { ...inventory.writtenOff };
    const ranMs = this.#clock.ms;
    const checkpoint = { nextSequence: inventory.nextSequence, segments, writtenOff, ranMs };
    this.#writtenAtMs = ranMs;
    const { fs, ballast } = this.#o;
    try {
      await ballast.inItsRoom(() => writeCheckpoint(fs, inventory.dir, checkpoint));
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
    this.#o.events.writtenOff(this.#inventory.area, writtenOff);
  }
}
