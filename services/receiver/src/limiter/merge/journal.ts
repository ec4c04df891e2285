import type { Arena } from './arena.ts';

/**
 * What the requests of one step have changed, so that it can be taken back: the words of an entry as they were before a request
 * changed it first, and the cells of its block. Requests are undone from the last to the first, and kept from the first on.
 *
 * A block that a request replaces stays allocated until the request is kept: undone, it is the entry's block again.
 */
export class Journal {
  readonly #stride: number;
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
    const stride = this.#stride;
    const needed = this.#wordsUsed + stride + 2;
    if (needed > this.#words.length) this.#words = grown(this.#words, Int32Array, needed);
    const to = this.#wordsUsed;
    this.#words[to] = at;
    this.#words[to + 1] = this.#cellsUsed;
    for (let i = 0; i < stride; i++) this.#words[to + 2 + i] = words[at + i]!;
    this.#wordsUsed = needed;
    const block = words[at + this.#blockAt]!;
    if (block === 0) return;
    const count = words[at + this.#cellsAt]!;
    const cells = this.#cellsUsed + count;
    if (cells > this.#cells.length) this.#cells = grown(this.#cells, Float64Array, cells);
    const { cells: from } = this.#arena;
    for (let i = 0; i < count; i++) this.#cells[this.#cellsUsed + i] = from[block + i]!;
    this.#cellsUsed = cells;
  }

  /** The block that the entry had when the request at hand changed it first; `record` counts from the request's mark. */
  blockBefore(mark: JournalMark, record: number): number {
    return this.#words[this.#wordsSince(mark) + record * (this.#stride + 2) + 2 + this.#blockAt]!;
  }

  /** A block that nothing refers to once the request is kept. */
  freeLater(block: number, cells: number): void {
    if (this.#freesUsed + 2 > this.#frees.length)
      this.#frees = grown(this.#frees, Int32Array, this.#freesUsed + 2);
    this.#frees[this.#freesUsed] = block;
    this.#frees[this.#freesUsed + 1] = cells;
    this.#freesUsed += 2;
  }

  /**
   * Calls `visit` for each entry that the request from `mark` on has changed.
   * @param visit where the entry is; the words and where in them it lies as it was before
   */
  changes(mark: JournalMark, visit: (at: number, words: Int32Array, before: number) => void): void {
    const size = this.#stride + 2;
    for (let from = this.#wordsSince(mark); from < this.#wordsUsed; from += size)
      visit(this.#words[from]!, this.#words, from + 2);
  }

  /** Takes back what the requests from `mark` on have changed; `undone` is called for each entry once it is as it was. */
  undo(mark: JournalMark, words: Int32Array, undone: (at: number) => void): void {
    const stride = this.#stride;
    const begin = this.#wordsSince(mark);
    for (let from = this.#wordsUsed - stride - 2; from >= begin; from -= stride + 2) {
      const at = this.#words[from]!;
      const block = words[at + this.#blockAt]!;
      const before = this.#words[from + 2 + this.#blockAt]!;
      if (block !== 0 && block !== before) this.#arena.give(block, words[at + this.#cellsAt]!);
      for (let i = 0; i < stride; i++) words[at + i] = this.#words[from + 2 + i]!;
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

  /** Makes what the oldest open request has changed final, up to `end`; `kept` is called for each entry. */
  keep(end: JournalMark, kept: (at: number) => void): void {
    const size = this.#stride + 2;
    const words = this.#wordsSince(end);
    const frees = end.frees - this.#freesGone;
    for (; this.#wordsKept < words; this.#wordsKept += size) kept(this.#words[this.#wordsKept]!);
    for (; this.#freesKept < frees; this.#freesKept += 2)
      this.#arena.give(this.#frees[this.#freesKept]!, this.#frees[this.#freesKept + 1]!);
    if (this.isEmpty) this.#clear();
  }

  /** Where in the words the mark is now. */
  #wordsSince(mark: JournalMark): number {
    return Math.max(0, mark.words - this.#wordsGone);
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
