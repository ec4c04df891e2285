import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { DiskReported, RedisSeen, Store } from '@nrdot/queue';
import type { SegmentLog } from '@nrdot/segment-log';
import type { Intake } from './intake.ts';
import type { Ledger } from './ledger.ts';
import type { Replayer } from './replayer.ts';
import { REPLAY_AREAS } from './selection.ts';

export interface HousekeepingDeps {
  store: Store;
  segments: SegmentLog;
  ledger: Ledger;
  replayer: Replayer;
  intake: Pick<Intake, 'crossing'>;
  /** Why Redis cannot be told now; undefined when it can. */
  notReady(): string | undefined;
  /** Redis has lost what it held: how much of that is nowhere now, and when it was seen last. */
  lost?(items: number, seen: RedisSeen): void;
  /** Redis was restored from a state in which fewer items had been accepted. */
  older?(items: number): void;
}

/**
 * A Redis that was restarted may have forgotten what it was told last, so it is told again every so many turns. As often the books are
 * looked at: what was accepted since the last look is not known when Redis loses them.
 */
const TELL_AGAIN_TURNS = 2;
/** So often what was seen is written down, for a dlq that is not there when Redis loses it. */
const KEEP_TURNS = 10;
const PATIENCE_MS = 1_000;

/** What the dlq does each second: it tidies the disk up, writes down what is acknowledged, and tells the books. */
export class Housekeeping {
  readonly #d: HousekeepingDeps;
  #changed = true;
  #verifying = false;
  #turns = 0;
  #keptAt = Number.NEGATIVE_INFINITY;
  /** Books that are on the disk. */
  #kept = '';

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
    const { store, ledger, intake } = this.#d;
    if (await ledger.tell((entry) => store.book(entry))) this.#changed = true;
    if (!this.#changed) return;
    this.#changed = false;
    const reported = await intake.crossing
      .hold(PATIENCE_MS, (isStill) => this.#tell(isStill))
      .catch((error: Error) => {
        this.#changed = true; // told at the next turn
        throw error;
      });
    await this.#learn(reported);
  }

  async #tell(isStill: boolean): Promise<DiskReported> {
    const { store, segments, ledger, replayer } = this.#d;
    // It may be busy with the whole disk, and what spills does not wait for that.
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
    // An epoch counts once Redis had it at two looks: the first may be in the end of its AOF that a crash takes with it.
    if (state !== 'same' && state !== 'older') return;
    const books = JSON.stringify([seen.epoch, seen.books, seen.live, seen.paused]);
    const isDue = books !== this.#kept && this.#turns - this.#keptAt >= KEEP_TURNS;
    if (isDue) {
      this.#kept = books;
      this.#keptAt = this.#turns;
    }
    await ledger.saw(seen, isDue);
  }
}
