import type { PipelineStatus } from './pipeline-status.ts';

const FIELDS = { dropped: isDropped, rejected: is('rejected'), delivered: is('delivered') } as const;
type Counter = keyof typeof FIELDS;

/** Refusals that were seen for so long, with no delivery between, are all there is. */
const ALL_REJECTED_MS = 3_000;

/** When the books were last seen to grow, and where: what was dropped years ago is another matter than what is dropped now. */
export class Lately {
  readonly #last = new Map<Counter, number>();
  readonly #grewAt = new Map<Counter, number>();
  /** The first refusal after the last delivery. */
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

/** What a person purged was given up on purpose. */
function isDropped(field: string): boolean {
  return field.startsWith('dropped:') && field !== 'dropped:purged';
}
