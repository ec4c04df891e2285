export const CLASSES = ['critical', 'high', 'normal'] as const;
export type ByClass = Record<(typeof CLASSES)[number], number>;

/** What was so at one moment, in items. */
export interface Snapshot {
  /** Waiting for the scheduler. */
  waiting: ByClass;
  /** Moved on by the scheduler, since it began. */
  moved: ByClass;
  /** Arrived upstream, since it began. */
  delivered: ByClass;
}

/** What waits and what was moved are read one after the other: so much may move in between. */
const SKEW_ITEMS = 100;

/**
 * Shares mean something only while every class has work. From one snapshot to the next a class had work throughout when
 * more of it waited at the first than was moved until the second, however long that took. What is kept is the longest
 * stretch of such snapshots.
 */
export class FairStretch {
  #from: Snapshot | undefined;
  #last: Snapshot | undefined;
  #best: [Snapshot, Snapshot] | undefined;

  add(snapshot: Snapshot): void {
    const last = this.#last;
    this.#last = snapshot;
    if (!last || !CLASSES.every((c) => last.waiting[c] - SKEW_ITEMS > snapshot.moved[c] - last.moved[c])) {
      this.#from = snapshot;
      return;
    }
    this.#from ??= last;
    if (between(this.#from, snapshot) > this.items) this.#best = [this.#from, snapshot];
  }

  /** Delivered in it, of all classes. */
  get items(): number {
    return this.#best ? between(...this.#best) : 0;
  }

  /** Delivered in it, by class. */
  get delivered(): ByClass {
    const [from, to] = this.#best ?? [];
    return Object.fromEntries(
      CLASSES.map((c) => [c, from && to ? to.delivered[c] - from.delivered[c] : 0]),
    ) as ByClass;
  }
}

function between(from: Snapshot, to: Snapshot): number {
  return CLASSES.reduce((sum, c) => sum + to.delivered[c] - from.delivered[c], 0);
}
