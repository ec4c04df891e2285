import { HashTable } from '../hash-table.ts';
import { type Arena, sameSize } from './arena.ts';
import { Journal, type JournalMark } from './journal.ts';
import { BLOCK, CELLS, CHANGED_BY, FLAGS, GONE, PLACE, SEEN } from './stream-words.ts';

/** Streams by hash, in fixed memory. Changes by open requests can be undone. */
export class StreamTable extends HashTable {
  readonly journal: Journal;
  readonly #arena: Arena;
  #request = 0;
  #mark: JournalMark;
  /** Number of streams that the current request has changed. */
  changed = 0;

  constructor(maxStreams: number, stride: number, arena: Arena) {
    super(maxStreams, stride, SEEN);
    this.#arena = arena;
    this.journal = new Journal(this.words, stride, arena);
    this.#mark = this.journal.mark();
  }

  /** Begins a request. @param mark the journal's position before it */
  begin(request: number, mark: JournalMark): void {
    this.#request = request;
    this.#mark = mark;
    this.changed = 0;
  }

  /** Forgets which request changed which stream, so that their numbers can be used again. Not while a request is open. */
  forgetRequests(): void {
    const { words, stride } = this;
    for (let at = CHANGED_BY; at < words.length; at += stride) words[at] = 0;
  }

  /** Saves a stream for undo; to be called before every change. @returns true at the first change by the current request */
  remember(at: number): boolean {
    const { words } = this;
    if (words[at + CHANGED_BY] === this.#request) return false;
    this.journal.remember(at);
    words[at + CHANGED_BY] = this.#request;
    words[at + PLACE] = this.changed++;
    return true;
  }

  /** Undoes all requests from `mark` on. */
  undo(mark: JournalMark): void {
    this.journal.undo(mark, (at) => {
      if ((this.words[at + FLAGS]! & GONE) !== 0) this.remove(at);
    });
  }

  /**
   * Gives a remembered stream a block for `needed` cells: the one it has if the size fits, or a new one.
   * @param take allocates a block, 0 if there is no room
   * @returns 0 if there is no room; the stream is unchanged then
   */
  fit(at: number, needed: number, take: (cells: number) => number): number {
    const { words } = this;
    let block = words[at + BLOCK]!;
    if (block === 0 || !sameSize(needed, words[at + CELLS]!)) {
      block = take(needed);
      if (block === 0) return 0;
      this.release(at);
    }
    words[at + BLOCK] = block;
    words[at + CELLS] = needed;
    return block;
  }

  /** Detaches the block of a remembered stream. It is freed once no undo can need it. */
  release(at: number): void {
    const { words } = this;
    const block = words[at + BLOCK]!;
    const cells = words[at + CELLS]!;
    if (block === 0) return;
    if (block === this.journal.blockBefore(this.#mark, words[at + PLACE]!))
      this.journal.freeLater(block, cells);
    else this.#arena.give(block, cells);
    words[at + BLOCK] = words[at + CELLS] = 0;
  }

  /** Removes a stream that no open request has changed, with its block. */
  drop(at: number): void {
    const { words } = this;
    const block = words[at + BLOCK]!;
    if (block !== 0) this.#arena.give(block, words[at + CELLS]!);
    this.remove(at);
  }
}
