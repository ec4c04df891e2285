import { byClass, CLASSES, type PriorityClass } from '@nrdot/queue/priority-class';

export type ByClass = Record<PriorityClass, number>;

/** The state at one moment, in items. */
export interface Snapshot {
  /** Waiting for the scheduler. */
  waiting: ByClass;
  /** Moved by the scheduler, since its start. */
  moved: ByClass;
  /** Delivered to the upstream, since its start. */
  delivered: ByClass;
}

/** How far the counts may be off, because waiting and moved items are not read at the same time. */
const SKEW_ITEMS = 100;

/**
 * Shares are only defined while every class has work. A class has had work throughout between two snapshots if more of it
 * waited at the first than was moved until the second, regardless of the time between. The longest sequence of such snapshots
 * is kept.
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

  /** Items delivered in it, all classes together. */
  get items(): number {
    return this.#best ? between(...this.#best) : 0;
  }

  /** Items delivered in it, by class. */
  get delivered(): ByClass {
    const [from, to] = this.#best ?? [];
    return byClass((c) => (from && to ? to.delivered[c] - from.delivered[c] : 0));
  }
}

function between(from: Snapshot, to: Snapshot): number {
  return CLASSES.reduce((sum, c) => sum + to.delivered[c] - from.delivered[c], 0);
}
