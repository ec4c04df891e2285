import { slotHash } from '../hash.ts';
import type { NumberValue } from './accumulate-number.ts';

/*
 * One output is 20 int32, 80 bytes:
 *
 *   0,1 hash       2 flags             3 request that changed it last    4 last seen, s      5,6 start
 *   7,8 time of the last point         9,10 bounds      11 block in the arena, or 0          12 cells of it
 *   13 bounds seen, s                  14 value is integer               16,17 value         18 place in the journal
 */
export const OUTPUT_WORDS = 20;
export const OUTPUT_BLOCK = 11;
export const OUTPUT_CELLS = 12;
const HASH = 0;
const FLAGS = 2;
const CHANGED_BY = 3;
const SEEN = 4;
const START = 5;
const TIME = 7;
const BOUNDS = 9;
const BOUNDS_SEEN = 13;
const IS_INT = 14;
const VALUE = 16;
const RECORD = 18;

const LIVE = 1;
const NO_SUM = 2;
const IS_LEVEL = 4;
const IS_NEW = 8;
const IS_DELTA = 16;

/** A merged stream across requests, as a view of its words. */
export class Output {
  readonly id: number;
  /** Start of its words in the table. */
  readonly at: number;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;

  constructor(id: number, words: Int32Array, doubles: Float64Array) {
    this.id = id;
    this.#words = words;
    this.#doubles = doubles;
    this.at = id * OUTPUT_WORDS;
  }

  /** Resets it for a stream of this hash. */
  reset(lo: number, hi: number): void {
    this.#words.fill(0, this.at, this.at + OUTPUT_WORDS);
    this.#words[this.at + HASH] = lo;
    this.#words[this.at + HASH + 1] = hi;
    this.#words[this.at + FLAGS] = LIVE;
    this.#words[this.at + IS_INT] = 1;
  }

  /** Copies the total of a number into `into`. */
  readValue(into: NumberValue): NumberValue {
    const at = this.at + VALUE;
    if (this.#words[this.at + IS_INT] === 1) return into.setInt(this.#words[at]!, this.#words[at + 1]!);
    return into.setDouble(this.#doubles[at >> 1]!);
  }

  writeValue(value: NumberValue): void {
    const at = this.at + VALUE;
    this.#words[this.at + IS_INT] = value.isInt ? 1 : 0;
    if (value.isInt) {
      this.#words[at] = value.lo;
      this.#words[at + 1] = value.hi;
    } else this.#doubles[at >> 1] = value.double;
  }
  get lo(): number {
    return this.#words[this.at + HASH]!;
  }
  get hi(): number {
    return this.#words[this.at + HASH + 1]!;
  }
  get seenSec(): number {
    return this.#words[this.at + SEEN]!;
  }
  set seenSec(value: number) {
    this.#words[this.at + SEEN] = value;
  }
  get startLo(): number {
    return this.#words[this.at + START]!;
  }
  set startLo(value: number) {
    this.#words[this.at + START] = value;
  }
  get startHi(): number {
    return this.#words[this.at + START + 1]!;
  }
  set startHi(value: number) {
    this.#words[this.at + START + 1] = value;
  }
  /** Time of the last point sent; 0 before the first. */
  get timeLo(): number {
    return this.#words[this.at + TIME]!;
  }
  set timeLo(value: number) {
    this.#words[this.at + TIME] = value;
  }
  get timeHi(): number {
    return this.#words[this.at + TIME + 1]!;
  }
  set timeHi(value: number) {
    this.#words[this.at + TIME + 1] = value;
  }
  get boundsLo(): number {
    return this.#words[this.at + BOUNDS]!;
  }
  set boundsLo(value: number) {
    this.#words[this.at + BOUNDS] = value;
  }
  get boundsHi(): number {
    return this.#words[this.at + BOUNDS + 1]!;
  }
  set boundsHi(value: number) {
    this.#words[this.at + BOUNDS + 1] = value;
  }
  get boundsSeenSec(): number {
    return this.#words[this.at + BOUNDS_SEEN]!;
  }
  set boundsSeenSec(value: number) {
    this.#words[this.at + BOUNDS_SEEN] = value;
  }
  /** Totals of a histogram: a block of the arena, and how many of its cells are used. */
  get block(): number {
    return this.#words[this.at + OUTPUT_BLOCK]!;
  }
  set block(value: number) {
    this.#words[this.at + OUTPUT_BLOCK] = value;
  }
  get cells(): number {
    return this.#words[this.at + OUTPUT_CELLS]!;
  }
  set cells(value: number) {
    this.#words[this.at + OUTPUT_CELLS] = value;
  }
  /** The request that changed it last. */
  get changedBy(): number {
    return this.#words[this.at + CHANGED_BY]!;
  }
  set changedBy(value: number) {
    this.#words[this.at + CHANGED_BY] = value;
  }
  /** Position of its record among the changes of that request. */
  get record(): number {
    return this.#words[this.at + RECORD]!;
  }
  set record(value: number) {
    this.#words[this.at + RECORD] = value;
  }
  get live(): boolean {
    return (this.#words[this.at + FLAGS]! & LIVE) !== 0;
  }
  /** Every part of the histogram has had a sum. */
  get hasSum(): boolean {
    return (this.#words[this.at + FLAGS]! & NO_SUM) === 0;
  }

  /** A non-monotonic sum. */
  get isLevel(): boolean {
    return (this.#words[this.at + FLAGS]! & IS_LEVEL) !== 0;
  }
  set isLevel(value: boolean) {
    this.#setFlag(IS_LEVEL, value);
  }
  /** It starts from zero with every request. */
  get isDelta(): boolean {
    return (this.#words[this.at + FLAGS]! & IS_DELTA) !== 0;
  }
  set isDelta(value: boolean) {
    this.#setFlag(IS_DELTA, value);
  }
  /** It was created by an open request; the journal has it as unused. */
  get isNew(): boolean {
    return (this.#words[this.at + FLAGS]! & IS_NEW) !== 0;
  }
  set isNew(value: boolean) {
    this.#setFlag(IS_NEW, value);
  }

  #setFlag(mask: number, value: boolean): void {
    if (value) this.#words[this.at + FLAGS]! |= mask;
    else this.#words[this.at + FLAGS]! &= ~mask;
  }

  /** Clears its totals, which must not have a block. */
  empty(): void {
    this.#setFlag(NO_SUM, false);
    this.#words[this.at + IS_INT] = 1;
    this.#words[this.at + VALUE] = this.#words[this.at + VALUE + 1] = 0;
  }

  withoutSum(): void {
    this.#words[this.at + FLAGS]! |= NO_SUM;
  }

  end(): void {
    this.#words[this.at + FLAGS] = 0;
  }

  /** No point has been sent yet. */
  get fresh(): boolean {
    return this.timeLo === 0 && this.timeHi === 0;
  }
}

/** Outputs by hash; each keeps its number while it lives. */
export class OutputTable {
  readonly maxOutputs: number;
  readonly #outputs: Output[] = [];
  readonly #free: number[] = [];
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #index: Int32Array;
  readonly #mask: number;
  #hand = 0;
  #used = 0;

  constructor(maxOutputs: number) {
    this.maxOutputs = maxOutputs;
    let slots = 16;
    while (slots < 2 * maxOutputs) slots *= 2;
    this.#words = new Int32Array(maxOutputs * OUTPUT_WORDS);
    this.#doubles = new Float64Array(this.#words.buffer);
    this.#index = new Int32Array(slots);
    this.#mask = slots - 1;
  }

  get used(): number {
    return this.#used;
  }

  get words(): Int32Array {
    return this.#words;
  }

  all(): readonly Output[] {
    return this.#outputs;
  }

  /** The output whose words begin here. */
  at(word: number): Output {
    return this.#outputs[word / OUTPUT_WORDS]!;
  }

  /** Words, index, and about 48 bytes for the view of each output ever used. */
  get memoryBytes(): number {
    return this.#words.byteLength + this.#index.byteLength + this.#outputs.length * 48;
  }

  find(lo: number, hi: number): Output | undefined {
    let slot = slotHash(lo, hi) & this.#mask;
    for (;;) {
      const id = this.#index[slot]! - 1;
      if (id < 0) return undefined;
      const output = this.#outputs[id]!;
      if (output.lo === lo && output.hi === hi) return output;
      slot = (slot + 1) & this.#mask;
    }
  }

  /** @returns a new output, or undefined at the maximum number */
  insert(lo: number, hi: number): Output | undefined {
    let output: Output;
    const free = this.#free.pop();
    if (free !== undefined) output = this.#outputs[free]!;
    else if (this.#outputs.length < this.maxOutputs) {
      output = new Output(this.#outputs.length, this.#words, this.#doubles);
      this.#outputs.push(output);
    } else return undefined;
    output.reset(lo, hi);
    let slot = slotHash(lo, hi) & this.#mask;
    while (this.#index[slot] !== 0) slot = (slot + 1) & this.#mask;
    this.#index[slot] = output.id + 1;
    this.#used++;
    return output;
  }

  remove(output: Output): void {
    const mask = this.#mask;
    let hole = slotHash(output.lo, output.hi) & mask;
    while (this.#index[hole] !== output.id + 1) hole = (hole + 1) & mask;
    let next = hole;
    for (;;) {
      next = (next + 1) & mask;
      const id = this.#index[next]! - 1;
      if (id < 0) break;
      const other = this.#outputs[id]!;
      const home = slotHash(other.lo, other.hi) & mask;
      if (((next - home) & mask) >= ((next - hole) & mask)) {
        this.#index[hole] = this.#index[next]!;
        hole = next;
      }
    }
    this.#index[hole] = 0;
    output.end();
    this.#free.push(output.id);
    this.#used--;
  }

  /** Checks the next `steps` outputs and calls `expire` for those not seen since `beforeSec`. */
  sweep(steps: number, beforeSec: number, expire: (output: Output) => void): void {
    for (let step = Math.min(steps, this.#outputs.length); step > 0; step--) {
      this.#hand = (this.#hand + 1) % this.#outputs.length;
      const output = this.#outputs[this.#hand]!;
      if (output.live && output.seenSec < beforeSec) expire(output);
    }
  }
}
