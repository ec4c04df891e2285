import type { Arena } from './arena.ts';
import { BLOCK, CELLS } from './stream-words.ts';

/** Layout of a record: position of the entry, position of its saved cells, then the entry as it was. */
export const BEFORE = 2;

/**
 * Undo log of open requests: the words of each entry before a request first changed it, and the cells of its block. Requests
 * are undone from the last and kept from the first.
 *
 * A block that a request replaces stays allocated until the request is kept, since undoing restores it.
 */
export class Journal {
  readonly #entries: Int32Array;
  readonly recordWords: number;
  readonly #arena: Arena;
  records = new Int32Array(1024);
  #cells = new Float64Array(1024);
  #frees = new Int32Array(64);
  /** Used length of the arrays above. */
  end = 0;
  #cellsUsed = 0;
  #freesUsed = 0;
  /** Start of the oldest open request. */
  oldest = 0;
  #freesKept = 0;
  /**
   * Words discarded so far: marks keep counting, since requests without changes may still be open when the arrays are emptied.
   */
  #wordsGone = 0;
  #cellsGone = 0;
  #freesGone = 0;

  /** @param stride words per entry, a multiple of four */
  constructor(entries: Int32Array, stride: number, arena: Arena) {
    this.#entries = entries;
    this.recordWords = BEFORE + stride;
    this.#arena = arena;
  }

  get isEmpty(): boolean {
    return this.end === this.oldest;
  }

  /** Start of the next request. */
  mark(): JournalMark {
    return {
      words: this.#wordsGone + this.end,
      frees: this.#freesGone + this.#freesUsed,
      cells: this.#cellsGone + this.#cellsUsed,
    };
  }

  /** Saves the entry at `at`. */
  remember(at: number): void {
    const words = this.#entries;
    const to = this.end;
    const end = to + this.recordWords;
    if (end > this.records.length) this.records = grown(this.records, Int32Array, end);
    const kept = this.records;
    const keptCells = this.#cellsUsed;
    kept[to] = at;
    kept[to + 1] = keptCells;
    for (let i = at, k = to + BEFORE; k < end; i += 4, k += 4) {
      kept[k] = words[i]!;
      kept[k + 1] = words[i + 1]!;
      kept[k + 2] = words[i + 2]!;
      kept[k + 3] = words[i + 3]!;
    }
    this.end = end;
    const block = words[at + BLOCK]!;
    if (block !== 0) this.#rememberCells(block, words[at + CELLS]!);
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

  /** The entry's block before the current request changed it; `record` is relative to the request's mark. */
  blockBefore(mark: JournalMark, record: number): number {
    return this.records[this.first(mark) + record * this.recordWords + BEFORE + BLOCK]!;
  }

  /** Frees a block once the request is kept. */
  freeLater(block: number, cells: number): void {
    if (this.#freesUsed + 2 > this.#frees.length)
      this.#frees = grown(this.#frees, Int32Array, this.#freesUsed + 2);
    this.#frees[this.#freesUsed] = block;
    this.#frees[this.#freesUsed + 1] = cells;
    this.#freesUsed += 2;
  }

  /**
   * The changes of the request from `mark` on are at `first(mark)` to `end`, one every `recordWords` of `records`: the entry's
   * position and, `BEFORE` words further, the entry as it was. Exposed like this because a callback for each of 1,000 changes
   * takes 5 % of a request.
   */
  first(mark: JournalMark): number {
    return Math.max(0, mark.words - this.#wordsGone);
  }

  /** Undoes the requests from `mark` on; calls `undone` for each restored entry. */
  undo(mark: JournalMark, undone: (at: number) => void): void {
    const words = this.#entries;
    const begin = this.first(mark);
    for (let from = this.end - this.recordWords; from >= begin; from -= this.recordWords) {
      const at = this.records[from]!;
      const block = words[at + BLOCK]!;
      const before = this.records[from + BEFORE + BLOCK]!;
      if (block !== 0 && block !== before) this.#arena.give(block, words[at + CELLS]!);
      words.set(this.records.subarray(from + BEFORE, from + this.recordWords), at);
      if (before !== 0) {
        const cellsFrom = this.records[from + 1]!;
        this.#arena.cells.set(this.#cells.subarray(cellsFrom, cellsFrom + words[at + CELLS]!), before);
      }
      undone(at);
    }
    this.end = begin;
    this.#freesUsed = Math.max(0, mark.frees - this.#freesGone);
    this.#cellsUsed = Math.max(0, mark.cells - this.#cellsGone);
    if (this.isEmpty) this.#clear();
  }

  /** Makes the changes of the oldest open request final, up to `end`. */
  keep(end: JournalMark): void {
    this.oldest = Math.max(this.oldest, this.first(end));
    const frees = end.frees - this.#freesGone;
    for (; this.#freesKept < frees; this.#freesKept += 2)
      this.#arena.give(this.#frees[this.#freesKept]!, this.#frees[this.#freesKept + 1]!);
    if (this.isEmpty) this.#clear();
  }

  #clear(): void {
    this.#wordsGone += this.end;
    this.#cellsGone += this.#cellsUsed;
    this.#freesGone += this.#freesUsed;
    this.end = this.oldest = this.#cellsUsed = this.#freesUsed = this.#freesKept = 0;
    // One large request must not keep its memory allocated.
    if (this.records.length > 1_048_576) this.records = new Int32Array(1024);
    if (this.#cells.length > 1_048_576) this.#cells = new Float64Array(1024);
  }
}

/** Positions in the journal, counted as if it were never emptied. */
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
