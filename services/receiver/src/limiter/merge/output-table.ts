import type { Halves } from '../hash.ts';
import type { NumberValue } from './accumulate-number.ts';
import type { Arena } from './arena.ts';
import { StreamTable } from './stream-table.ts';
import { BLOCK, CELLS, FLAGS, INTEGER, LEVEL, LIVE, START, TIME, VALUE } from './stream-words.ts';

/*
 * Merged streams across requests. 20 int32, 80 bytes each: those of stream-words.ts, and 10,11 hash of its bounds, 16 bounds
 * seen, s.
 */
const OUTPUT_WORDS = 20;
export const BOUNDS = 10;
export const BOUNDS_SEEN = 16;

/** Flags of an output. */
const NO_SUM = 8;
/** It starts from zero with every request. */
const DELTA = 32;

/** A merged stream across requests, as a view of its words. */
export class Output {
  /** Start of its words in the table. */
  readonly at: number;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;

  constructor(at: number, words: Int32Array, doubles: Float64Array) {
    this.at = at;
    this.#words = words;
    this.#doubles = doubles;
  }

  /** Copies the total of a number into `into`. */
  readValue(into: NumberValue): NumberValue {
    const at = this.at + VALUE;
    if (this.#has(INTEGER)) return into.setInt(this.#words[at]!, this.#words[at + 1]!);
    return into.setDouble(this.#doubles[at >> 1]!);
  }

  writeValue(value: NumberValue): void {
    const at = this.at + VALUE;
    if (value.isInt) {
      this.#words[this.at + FLAGS]! |= INTEGER;
      this.#words[at] = value.lo;
      this.#words[at + 1] = value.hi;
    } else {
      this.#words[this.at + FLAGS]! &= ~INTEGER;
      this.#doubles[at >> 1] = value.double;
    }
  }

  get lo(): number {
    return this.#words[this.at]!;
  }
  get hi(): number {
    return this.#words[this.at + 1]!;
  }
  get startLo(): number {
    return this.#words[this.at + START]!;
  }
  get startHi(): number {
    return this.#words[this.at + START + 1]!;
  }
  setStart({ lo, hi }: Halves): void {
    this.#words[this.at + START] = lo;
    this.#words[this.at + START + 1] = hi;
  }
  /** Time of the last point sent; 0 before the first. */
  get timeLo(): number {
    return this.#words[this.at + TIME]!;
  }
  get timeHi(): number {
    return this.#words[this.at + TIME + 1]!;
  }
  setTime({ lo, hi }: Halves): void {
    this.#words[this.at + TIME] = lo;
    this.#words[this.at + TIME + 1] = hi;
  }
  /** No point has been sent yet. */
  get fresh(): boolean {
    return this.timeLo === 0 && this.timeHi === 0;
  }
  get boundsLo(): number {
    return this.#words[this.at + BOUNDS]!;
  }
  get boundsHi(): number {
    return this.#words[this.at + BOUNDS + 1]!;
  }
  /** Totals of a histogram: a block of the arena, and how many of its cells are used. */
  get block(): number {
    return this.#words[this.at + BLOCK]!;
  }
  get cells(): number {
    return this.#words[this.at + CELLS]!;
  }
  /** Every part of the histogram has had a sum. */
  get hasSum(): boolean {
    return !this.#has(NO_SUM);
  }
  /** A non-monotonic sum. */
  get isLevel(): boolean {
    return this.#has(LEVEL);
  }
  get isDelta(): boolean {
    return this.#has(DELTA);
  }

  #has(flag: number): boolean {
    return (this.#words[this.at + FLAGS]! & flag) !== 0;
  }

  /** Makes it an empty stream of this kind. */
  begin(isLevel: boolean, isDelta: boolean): void {
    this.#words[this.at + FLAGS] = LIVE | (isLevel ? LEVEL : 0) | (isDelta ? DELTA : 0);
    this.empty();
  }

  /** Clears its totals, which must not have a block. */
  empty(): void {
    const { at } = this;
    this.#words[at + FLAGS] = (this.#words[at + FLAGS]! | INTEGER) & ~NO_SUM;
    this.#words[at + VALUE] = this.#words[at + VALUE + 1] = 0;
  }

  withoutSum(): void {
    this.#words[this.at + FLAGS]! |= NO_SUM;
  }
}

/** Outputs by hash. */
export class OutputTable extends StreamTable {
  /** Views, by number; each is reused for the next output at its place. */
  readonly #outputs: Output[] = [];
  readonly #doubles = new Float64Array(this.words.buffer);

  constructor(maxOutputs: number, arena: Arena) {
    super(maxOutputs, OUTPUT_WORDS, arena);
  }

  /** Words, index, and about 48 bytes for the view of each output ever used. */
  override get memoryBytes(): number {
    return super.memoryBytes + this.#outputs.length * 48;
  }

  /** The output whose words begin here. */
  at(word: number): Output {
    return (this.#outputs[word / OUTPUT_WORDS] ??= new Output(word, this.words, this.#doubles));
  }

  get(lo: number, hi: number): Output | undefined {
    const at = this.find(lo, hi);
    return at < 0 ? undefined : this.at(at);
  }

  all(): Output[] {
    const outputs: Output[] = [];
    this.forEach((at) => void outputs.push(this.at(at)));
    return outputs;
  }
}
