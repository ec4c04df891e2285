/**
 * Every decision of a simulated run, from a seed or from a list of decisions that was recorded. 0 is always the harmless
 * one: no fault, whatever waits longest goes next. So a list with more zeros, or a shorter one, is a simpler story, and
 * shrinking needs to know nothing else.
 */
import { seededRandom } from '@nrdot/testbed';

export class Choices {
  readonly taken: number[] = [];
  readonly #next: (bound: number, zeroShare: number) => number;

  private constructor(next: (bound: number, zeroShare: number) => number) {
    this.#next = next;
  }

  static fromSeed(seed: number): Choices {
    const random = seededRandom(seed);
    return new Choices((bound, zeroShare) => {
      if (random() < zeroShare) return 0;
      return Math.floor(random() * bound);
    });
  }

  static replayed(list: readonly number[]): Choices {
    let at = 0;
    return new Choices((bound) => {
      const choice = list[at++] ?? 0;
      return choice < bound ? choice : 0;
    });
  }

  /** A whole number below `bound`; 0 in at least `zeroShare` of all cases. */
  pick(bound: number, zeroShare = 0): number {
    const choice = this.#next(bound, zeroShare);
    this.taken.push(choice);
    return choice;
  }
}

/** Makes a list of decisions that fails shorter and plainer, as long as it fails. */
export async function shrink(
  failing: readonly number[],
  fails: (list: readonly number[]) => Promise<boolean>,
  mostRuns: number,
): Promise<number[]> {
  let best = trimmed(failing);
  let runs = 0;
  const attempt = async (candidate: number[]) => {
    if (runs++ >= mostRuns || !(await fails(candidate))) return false;
    best = trimmed(candidate);
    return true;
  };
  for (let before = -1; before !== runs && runs < mostRuns; ) {
    before = runs;
    let changed = false;
    for (let size = Math.max(1, best.length >> 1); size >= 1; size >>= 1) {
      for (let at = 0; at + size <= best.length; ) {
        const zeroed = best.map((choice, i) => (i >= at && i < at + size ? 0 : choice));
        const cut = [...best.slice(0, at), ...best.slice(at + size)];
        const plain = best.slice(at, at + size).every((choice) => choice === 0);
        if ((!plain && (await attempt(zeroed))) || (await attempt(cut))) changed = true;
        else at += size;
        if (runs >= mostRuns) return best;
      }
    }
    if (!changed) return best;
  }
  return best;
}

function trimmed(list: readonly number[]): number[] {
  let end = list.length;
  while (end > 0 && list[end - 1] === 0) end--;
  return list.slice(0, end);
}
