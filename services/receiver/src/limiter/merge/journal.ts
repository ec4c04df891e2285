import type { Arena } from './arena.ts';

/** Of a record: where the entry is, where its cells are kept, and then the entry as it was. */
export const BEFORE = 2;

/**
 * What the requests of one step have changed, so that it can be taken back: the words of an entry as they were before a request
 * changed it first, and the cells of its block. Requests are undone from the last to the first, and kept from the first on.
 *
 * A block that a request replaces stays allocated until the request is kept: undone, it is the entry's block again.
 */
export class Journal {
  readonly #stride: number;
  readonly recordWords: number;
  readonly #arena: Arena;
  readonly #blockAt: number;
  readonly #cellsAt: number;
  #words = new Int32Array(1024);
  #cells = new Float64Array(1024);
  #frees = new Int32Array(64);
  /** In use, of the arrays above. */
  #wordsUsed = 0;
  #cellsUsed = 0;
  #freesUsed = 0;
  /** Where the oldest request that is still open begins. */
  #wordsKept = 0;
  #freesKept = 0;
  /** What was there before the arrays were emptied: marks count on, since requests that changed nothing may still be open then. */
  #wordsGone = 0;
  #cellsGone = 0;
  #freesGone = 0;

  /**
   * @param stride words of an entry
   * @param blockAt the word of an entry that is its block in the arena, 0 for none
   * @param cellsAt the word that is the number of its cells
   */
  constructor(stride: number, arena: Arena, blockAt: number, cellsAt: number) {
    this.#stride = stride;
    this.recordWords = BEFORE + stride;
    this.#arena = arena;
    this.#blockAt = blockAt;
    this.#cellsAt = cellsAt;
  }

  get isEmpty(): boolean {
    return this.#wordsUsed === this.#wordsKept;
  }

  /** Where the next request begins. */
  mark(): JournalMark {
    return {
      words: this.#wordsGone + this.#wordsUsed,
      frees: this.#freesGone + this.#freesUsed,
      cells: this.#cellsGone + this.#cellsUsed,
    };
  }

  /** Remembers the entry at `at` as it is. */
  remember(words: Int32Array, at: number): void {
    const to = this.#wordsUsed;
    const end = to + this.recordWords;
    if (end > this.#words.length) this.#words = grown(this.#words, Int32Array, end);
    const kept = this.#words;
    const keptCells = this.#cellsUsed;
    kept[to] = at;
    kept[to + 1] = keptCells;
    for (let i = at, k = to + BEFORE; k < end; i += 4, k += 4) {
      kept[k] = words[i]!;
      kept[k + 1] = words[i + 1]!;
      kept[k + 2] = words[i + 2]!;
      kept[k + 3] = words[i + 3]!;
    }
    this.#wordsUsed = end;
    const block = words[at + this.#blockAt]!;
    if (block !== 0) this.#rememberCells(block, words[at + this.#cellsAt]!);
  }

  #rememberCells(block: number, count: number): void {
    const to = this.#cellsUsed;
    const end = to + ((count + 3) & ~3);
    if (end > this.#cells.length) this.#cells = grown(this.#cells, Float64Array, end);
    const kept = this.#cells;
    const { cells } = this.#arena;
    for (let i = block, k = to; k < end; i += 4, k += 4) {
      kept[k] = cells[i]!;
      kept[k + 1] = cells[i + 1]!;
      kept[k + 2] = cells[i + 2]!;
      kept[k + 3] = cells[i + 3]!;
    }
    this.#cellsUsed = end;
  }

  /** The block that the entry had when the request at hand changed it first; `record` counts from the request's mark. */
  blockBefore(mark: JournalMark, record: number): number {
    return this.#words[this.first(mark) + record * this.recordWords + BEFORE + this.#blockAt]!;
  }

  /** A block that nothing refers to once the request is kept. */
  freeLater(block: number, cells: number): void {
    if (this.#freesUsed + 2 > this.#frees.length)
      this.#frees = grown(this.#frees, Int32Array, this.#freesUsed + 2);
    this.#frees[this.#freesUsed] = block;
    this.#frees[this.#freesUsed + 1] = cells;
    this.#freesUsed += 2;
  }

  /*
   * The changes of the request from `mark` on are those from `first(mark)` to `end`, one every `recordWords` of `words`: where the
   * entry is, and, `BEFORE` words further, the entry as it was. A function called for each of 1,000 takes 5 % of a request.
   */
  first(mark: JournalMark): number {
    return Math.max(0, mark.words - this.#wordsGone);
  }

  /** Where the oldest request that is still open begins. */
  get oldest(): number {
    return this.#wordsKept;
  }

  get end(): number {
    return this.#wordsUsed;
  }

  get words(): Int32Array {
    return this.#words;
  }

  /** Takes back what the requests from `mark` on have changed; `undone` is called for each entry once it is as it was. */
  undo(mark: JournalMark, words: Int32Array, undone: (at: number) => void): void {
    const stride = this.#stride;
    const begin = this.first(mark);
    for (let from = this.#wordsUsed - this.recordWords; from >= begin; from -= this.recordWords) {
      const at = this.#words[from]!;
      const block = words[at + this.#blockAt]!;
      const before = this.#words[from + BEFORE + this.#blockAt]!;
      if (block !== 0 && block !== before) this.#arena.give(block, words[at + this.#cellsAt]!);
      for (let i = 0; i < stride; i++) words[at + i] = this.#words[from + BEFORE + i]!;
      if (before !== 0) {
        const cellsFrom = this.#words[from + 1]!;
        const count = words[at + this.#cellsAt]!;
        const { cells } = this.#arena;
        for (let i = 0; i < count; i++) cells[before + i] = this.#cells[cellsFrom + i]!;
      }
      undone(at);
    }
    this.#wordsUsed = begin;
    this.#freesUsed = Math.max(0, mark.frees - this.#freesGone);
    this.#cellsUsed = Math.max(0, mark.cells - this.#cellsGone);
    if (this.isEmpty) this.#clear();
  }

  /** Makes what the oldest open request has changed final, up to `end`. */
  keep(end: JournalMark): void {
    this.#wordsKept = Math.max(this.#wordsKept, this.first(end));
    const frees = end.frees - this.#freesGone;
    for (; this.#freesKept < frees; this.#freesKept += 2)
      this.#arena.give(this.#frees[this.#freesKept]!, this.#frees[this.#freesKept + 1]!);
    if (this.isEmpty) this.#clear();
  }

  #clear(): void {
    this.#wordsGone += this.#wordsUsed;
    this.#cellsGone += this.#cellsUsed;
    this.#freesGone += this.#freesUsed;
    this.#wordsUsed = this.#wordsKept = this.#cellsUsed = this.#freesUsed = this.#freesKept = 0;
    // One big request must not hold on to its memory.
    if (this.#words.length > 1_048_576) this.#words = new Int32Array(1024);
    if (this.#cells.length > 1_048_576) this.#cells = new Float64Array(1024);
  }
}

/** Places in the journal as if it were never emptied. */
export interface JournalMark {
  readonly words: number;
  readonly frees: number;
  readonly cells: number;
}

function grown<T extends Int32Array | Float64Array>(from: T, Type: new (n: number) => T, needed: number): T {
  const to = new Type(Math.max(needed, from.length * 2));
  to.set(from);
  return to;
}
