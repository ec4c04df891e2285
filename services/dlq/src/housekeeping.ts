import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { DiskReported, RedisSeen, Store } from '@nrdot/queue';
import type { SegmentLog } from '@nrdot/segment-log';
import type { Intake } from './intake.ts';
import type { Entry, Ledger } from './ledger.ts';
import type { Replayer } from './replayer.ts';
import { REPLAY_AREAS } from './selection.ts';

export interface HousekeepingDeps {
  store: Store;
  segments: SegmentLog;
  ledger: Ledger;
  replayer: Replayer;
  intake: Pick<Intake, 'crossing'>;
  /** Why Redis cannot be reached now; undefined if it can. */
  notReady(): string | undefined;
  /** Redis has lost data: `items` that are nowhere now, and the last snapshot before. */
  lost?(items: number, seen: RedisSeen): void;
  /** Redis was restored from a state with fewer accepted items. */
  older?(items: number): void;
}

/**
 * Report again every so many turns: a Redis that was restarted may have lost the last report. The snapshot of the accounting is
 * taken as often; items accepted since the last one are unknown if Redis loses them.
 */
const TELL_AGAIN_TURNS = 2;
/** How often the snapshot is written to disk, for the case that Redis loses data while the dlq is down. */
const KEEP_TURNS = 10;
const PATIENCE_MS = 1_000;

/** Runs once a second: maintains segments, writes checkpoints, reports totals to Redis. */
export class Housekeeping {
  readonly #d: HousekeepingDeps;
  #changed = true;
  #verifying = false;
  #turns = 0;
  #keptAt = Number.NEGATIVE_INFINITY;
  /** The snapshot that is on disk, as text. */
  #kept = '';

  constructor(deps: HousekeepingDeps) {
    this.#d = deps;
  }

  /** To be called when something on disk has changed: the next turn reports it, and new batches are replayed. */
  changed(): void {
    this.#changed = true;
    this.#d.replayer.wake();
  }

  /** @throws when the disk or Redis fails; the next turn repeats what was not done */
  async turn(): Promise<void> {
    const { segments, notReady } = this.#d;
    await segments.maintain();
    if (!this.#verifying) {
      this.#verifying = true;
      void segments.verifyOne().finally(() => {
        this.#verifying = false;
      });
    }
    if (notReady()) return;
    if (++this.#turns % TELL_AGAIN_TURNS === 0) this.#changed = true;
    await this.report();
    await this.#forgetSettled();
  }

  /** Forgets which batches an earlier run had written, except those that Redis still has and that will come again. */
  async #forgetSettled(): Promise<void> {
    const { store, ledger } = this.#d;
    const ids = [...ledger.unsettled];
    if (ids.length === 0) return;
    const held = await store.holds(ids);
    for (const [i, id] of ids.entries()) if (!held[i]) ledger.unsettled.delete(id);
  }

  /**
   * Writes what replay has achieved, and reports to Redis. A disk that accepts no writes does not keep Redis from being told.
   * @throws as `turn` does
   */
  async report(): Promise<void> {
    const { store, ledger, replayer } = this.#d;
    let isUnsure = false;
    const book = async (entry: Entry) => {
      isUnsure = true; // whether the accounting has it: a report would count it as pending too
      await store.book(entry);
      isUnsure = false;
      this.#changed = true;
    };
    await replayer
      .checkpoint()
      .finally(() => ledger.tell(book))
      .finally(() => (isUnsure ? undefined : this.#reportDisk()));
  }

  async #reportDisk(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    const reported = await this.#d.intake.crossing
      .hold(PATIENCE_MS, (isStill) => this.#tell(isStill))
      .catch((error: Error) => {
        this.#changed = true; // report it in the next turn
        throw error;
      });
    await this.#learn(reported);
  }

  async #tell(isStill: boolean): Promise<DiskReported> {
    const { store, segments, ledger, replayer } = this.#d;
    // The replayer may be busy reading the whole disk; spilled batches must not wait for that.
    const next = await Promise.race([replayer.caughtUp(), wait(PATIENCE_MS, -1, { ref: false })]);
    return store.reportDisk({
      waiting: REPLAY_AREAS.reduce((sum, area) => sum + segments.stats(area).items, 0),
      rejected: segments.stats('rejected').items,
      unbooked: ledger.pending('accepted'),
      undropped: ledger.pendingDrops,
      outcomesSeen: isStill && !ledger.isBusy ? next : -1,
      seen: ledger.seen,
      freshEpoch: randomUUID(),
    });
  }

  async #learn({ state, lostItems, seen }: DiskReported): Promise<void> {
    const { ledger, replayer, lost, older } = this.#d;
    const before = ledger.seen;
    if (state === 'lost' && before) {
      lost?.(lostItems, before);
      await replayer.redisLost();
    }
    if (state === 'older' && before) older?.((before.books.accepted ?? 0) - (seen.books.accepted ?? 0));
    // Trust an epoch once Redis has had it in two reports: after the first it may still be lost with the tail of the AOF.
    if (state !== 'same' && state !== 'older') return;
    const books = JSON.stringify([seen.epoch, seen.books, seen.live, seen.paused]);
    const isDue = books !== this.#kept && this.#turns - this.#keptAt >= KEEP_TURNS;
    await ledger.saw(seen, isDue);
    if (!isDue) return;
    this.#kept = books;
    this.#keptAt = this.#turns;
  }
}
