import { foldKey } from '@nrdot/queue';
import { ALWAYS, type Area, type Position, type SegmentLog } from '@nrdot/segment-log';
import { REPLAY_AREAS } from './selection.ts';

const REMEMBERED_MAX = 10_000;
/** After so long, segments of the rejected area that could not be read are tried again. */
const SEARCH_AGAIN_MS = 60_000;

/**
 * Batches that an earlier run replayed and that were delivered; their records are yet to be acknowledged. An outcome whose
 * record is not on disk any more is forgotten, but not before all of the disk has been read.
 */
export class EarlierOutcomes {
  readonly #segments: SegmentLog;
  /** Index of the outcome, by key. */
  readonly #indexOf = new Map<string, number>();
  #searchAtMs = Number.NEGATIVE_INFINITY;
  /** Segments of the rejected area that were searched, by sequence: whether all their records could be read. */
  readonly #searched = new Map<number, boolean>();
  /** Whether something could not be read in the last pass over the areas that replay by themselves. */
  #hadUnread = true;

  constructor(segments: SegmentLog) {
    this.#segments = segments;
  }

  add(key: string, index: number): void {
    if (this.#indexOf.size < REMEMBERED_MAX) this.#indexOf.set(key, index);
  }

  /** Whether a batch had been delivered; asked once, by whoever acknowledges its record. */
  take(key: string): boolean {
    return this.#indexOf.delete(key);
  }

  /** Index of the oldest outcome. */
  get oldest(): number | undefined {
    const [oldest] = this.#indexOf.values();
    return oldest;
  }

  /**
   * To be called when all areas that replay by themselves were read to their ends. Nothing is forgotten while a segment of them
   * cannot be read: its records come later, and would be sent again. One that became readable during a pass may not have been
   * read in it.
   */
  allRead(): void {
    const hadUnread = this.#hadUnread;
    this.#hadUnread = this.#indexOf.size === 0 || REPLAY_AREAS.some((area) => this.#segments.hasUnread(area));
    if (hadUnread || this.#hadUnread) return;
    this.#forget((key) => !isOfRejected(key));
  }

  #forget(isOver: (key: string) => boolean): void {
    for (const key of this.#indexOf.keys()) if (isOver(key)) this.#indexOf.delete(key);
  }

  /** Whether the rejected area should be searched for records: it is read only on command. */
  isSearchDue(nowMs: number): boolean {
    return nowMs >= this.#searchAtMs && [...this.#indexOf.keys()].some(isOfRejected);
  }

  /**
   * Searches the segments of the rejected area and calls `finish` for each record that was delivered. One that cannot be read now
   * does not hold up the replay of other areas: it is searched later, unless an order reads it first.
   */
  async searchRejected(nowMs: number, finish: (position: Position) => void): Promise<void> {
    const segments = this.#segments.segments().filter(({ area }) => area === 'rejected');
    for (const { sequence, state, records, ackedRecords } of segments) {
      if (state === 'unreadable' || this.#searched.has(sequence)) continue;
      let unseen = records - ackedRecords;
      try {
        for await (const { record, position, acked } of this.#segments.scan('rejected', ALWAYS, sequence)) {
          if (!acked) unseen--;
          if (this.take(replayKey(record.envelope.id, 'rejected'))) finish(position);
        }
      } catch {
        continue;
      }
      this.#searched.set(sequence, unseen <= 0);
    }
    // A segment with damage is not searched again, and what may be in it is kept in mind until it is removed.
    if (segments.some(({ sequence }) => !this.#searched.get(sequence)))
      this.#searchAtMs = nowMs + SEARCH_AGAIN_MS;
    else this.#forget(isOfRejected);
  }
}

/** A replayed batch gets a key of its own, so that the spilled batch with the old key is not settled in its place. */
export function replayKey(id: string, area: Area): string {
  return foldKey(`${area === 'rejected' ? 'x' : 'r'}${id}`);
}

function isOfRejected(key: string): boolean {
  return key.startsWith('x');
}
