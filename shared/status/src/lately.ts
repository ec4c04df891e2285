import type { PipelineStatus } from './pipeline-status.ts';

const FIELDS = { dropped: isDropped, rejected: is('rejected'), delivered: is('delivered') } as const;
type Counter = keyof typeof FIELDS;

/** Rejections for so long, without a delivery in between, mean that everything is rejected. */
const ALL_REJECTED_MS = 3_000;

/** When totals of the accounting last grew: drops of years ago matter less than current ones. */
export class Lately {
  readonly #last = new Map<Counter, number>();
  readonly #grewAt = new Map<Counter, number>();
  /** Time of the first rejection after the last delivery. */
  #onlyRejectedSince: number | undefined;

  read(books: Readonly<Record<string, number>>, now: number): NonNullable<PipelineStatus['lately']> {
    const grew = (Object.keys(FIELDS) as Counter[]).filter((counter) => {
      const value = Object.entries(books)
        .filter(([field]) => FIELDS[counter](field))
        .reduce((sum, [, items]) => sum + items, 0);
      const before = this.#last.get(counter);
      this.#last.set(counter, value);
      return before !== undefined && value > before;
    });
    for (const counter of grew) this.#grewAt.set(counter, now);
    if (grew.includes('delivered')) this.#onlyRejectedSince = undefined;
    else if (grew.includes('rejected')) this.#onlyRejectedSince ??= now;
    const ago = (counter: Counter) => {
      const at = this.#grewAt.get(counter);
      return at === undefined ? {} : { [`${counter}Ms`]: now - at };
    };
    const rejectedAt = this.#grewAt.get('rejected');
    const all =
      this.#onlyRejectedSince !== undefined &&
      rejectedAt !== undefined &&
      rejectedAt - this.#onlyRejectedSince >= ALL_REJECTED_MS;
    return {
      ...ago('dropped'),
      ...ago('rejected'),
      ...ago('delivered'),
      ...(all ? { allRejected: true } : {}),
    };
  }
}

function is(name: string): (field: string) => boolean {
  return (field) => field === name;
}

/** What an operator purged was dropped on purpose. */
function isDropped(field: string): boolean {
  return field.startsWith('dropped:') && field !== 'dropped:purged';
}
