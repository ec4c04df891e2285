import type { PipelineStatus } from './pipeline-status.ts';

const COUNTERS = ['dropped', 'rejected', 'delivered'] as const;
type Counter = (typeof COUNTERS)[number];

/** Rejections for so long, without a delivery in between, mean that everything is rejected. */
const ALL_REJECTED_MS = 3_000;

/** When totals of the accounting last grew: drops of years ago matter less than current ones. */
export class Lately {
  #last: Record<Counter, number> | undefined;
  readonly #grewAt = new Map<Counter, number>();
  /** Time of the first rejection after the last delivery. */
  #onlyRejectedSince: number | undefined;

  read(books: Readonly<Record<string, number>>, now: number): NonNullable<PipelineStatus['lately']> {
    const totals = { dropped: 0, rejected: books.rejected ?? 0, delivered: books.delivered ?? 0 };
    // What an operator purged was dropped on purpose.
    for (const [field, items] of Object.entries(books))
      if (field.startsWith('dropped:') && field !== 'dropped:purged') totals.dropped += items;
    const before = this.#last;
    this.#last = totals;
    const grew = COUNTERS.filter((counter) => before && totals[counter] > before[counter]);
    for (const counter of grew) this.#grewAt.set(counter, now);
    if (grew.includes('delivered')) this.#onlyRejectedSince = undefined;
    else if (grew.includes('rejected')) this.#onlyRejectedSince ??= now;
    const ago = Object.fromEntries([...this.#grewAt].map(([counter, at]) => [`${counter}Ms`, now - at]));
    const rejectedMs =
      (this.#grewAt.get('rejected') ?? 0) - (this.#onlyRejectedSince ?? Number.POSITIVE_INFINITY);
    return { ...ago, ...(rejectedMs >= ALL_REJECTED_MS ? { allRejected: true } : {}) };
  }
}
