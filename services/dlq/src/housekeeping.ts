import type { Store } from '@nrdot/queue';
import type { SegmentLog } from '@nrdot/segment-log';
import type { Ledger } from './ledger.ts';
import type { Replayer } from './replayer.ts';
import { REPLAY_AREAS } from './selection.ts';

export interface HousekeepingDeps {
  store: Store;
  segments: SegmentLog;
  ledger: Ledger;
  replayer: Replayer;
  /** Why Redis cannot be told now; undefined when it can. */
  notReady(): string | undefined;
}

/** A Redis that was restarted may have forgotten what it was told last, so it is told again every so many turns. */
const TELL_AGAIN_TURNS = 10;

/** What the dlq does each second: it tidies the disk up, writes down what is done with, and tells the books. */
export class Housekeeping {
  readonly #d: HousekeepingDeps;
  #changed = true;
  #verifying = false;
  #turns = 0;

  constructor(deps: HousekeepingDeps) {
    this.#d = deps;
  }

  /** Something on disk changed: Redis is told with the next turn, and what is new is replayed. */
  changed(): void {
    this.#changed = true;
    this.#d.replayer.wake();
  }

  /** @throws when the disk or Redis fails; the next turn does what this one did not */
  async turn(): Promise<void> {
    const { segments, replayer, notReady } = this.#d;
    await segments.maintain();
    if (!this.#verifying) {
      this.#verifying = true;
      void segments.verifyOne().finally(() => {
        this.#verifying = false;
      });
    }
    if (notReady()) return;
    if (++this.#turns % TELL_AGAIN_TURNS === 0) this.#changed = true;
    await replayer.checkpoint();
    await this.report();
  }

  async report(): Promise<void> {
    const { store, segments, ledger } = this.#d;
    if (await ledger.tell((entry) => store.book(entry))) this.#changed = true;
    if (!this.#changed) return;
    this.#changed = false;
    const held = {
      waiting: REPLAY_AREAS.reduce((sum, area) => sum + segments.stats(area).items, 0),
      rejected: segments.stats('rejected').items,
      unbooked: ledger.pending('accepted'),
    };
    await store.reportDisk(held).catch((error: Error) => {
      this.#changed = true; // told at the next turn
      throw error;
    });
  }
}
