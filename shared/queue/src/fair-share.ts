import { byClass, CLASSES, type PriorityClass } from './priority-class.ts';

/**
 * Picks between classes by weight, counting items, in O(1): the rule of `scripts/move.ts`, which explains it, for one process.
 */
export class FairShare {
  #step: Record<PriorityClass, number>;
  readonly #finish: Record<PriorityClass, number> = { critical: 0, high: 0, normal: 0 };
  #virtual = 0;

  /** @param weights whole numbers above 0 */
  constructor(weights: Readonly<Record<PriorityClass, number>>) {
    this.#step = stepsOf(weights);
  }

  /** Sets new weights; each class keeps its lead in items. @param weights whole numbers above 0 */
  setWeights(weights: Readonly<Record<PriorityClass, number>>): void {
    const step = stepsOf(weights);
    for (const c of CLASSES) {
      const lead = Math.max(0, this.#finish[c] - this.#virtual) / this.#step[c];
      this.#finish[c] = Math.floor(lead * step[c]);
    }
    this.#virtual = 0;
    this.#step = step;
  }

  /** The class to serve next among those that wait; undefined if none waits. Changes nothing. */
  pick(waits: (priorityClass: PriorityClass) => boolean): PriorityClass | undefined {
    let best: PriorityClass | undefined;
    for (const c of CLASSES)
      if (waits(c) && (best === undefined || this.#start(c) < this.#start(best))) best = c;
    return best;
  }

  /** Records items of a class as served. */
  served(priorityClass: PriorityClass, items: number): void {
    const start = this.#start(priorityClass);
    this.#virtual = start;
    this.#finish[priorityClass] = start + items * this.#step[priorityClass];
    if (start <= 2 ** 45) return;
    // Keeps the numbers small and thus exact; only their differences matter.
    this.#virtual = 0;
    for (const c of CLASSES) this.#finish[c] = Math.max(0, this.#finish[c] - start);
  }

  #start(priorityClass: PriorityClass): number {
    return Math.max(this.#virtual, this.#finish[priorityClass]);
  }
}

/** Step per item as an integer, so that no rounding errors accumulate. */
function stepsOf(weights: Readonly<Record<PriorityClass, number>>): Record<PriorityClass, number> {
  const product = CLASSES.reduce((all, c) => all * weights[c], 1);
  return byClass((c) => product / weights[c]);
}
