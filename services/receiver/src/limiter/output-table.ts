import type { NumberValue } from './accumulate-number.ts';
import { slotHash } from './hash.ts';
import { lessThan, unsigned } from './reader.ts';

/*
 * One output is 24 int32, 96 bytes:
 *
 *   0,1 hash       2 flags             3 sources     4 last seen, s      5,6 start            7,8 time of the last point
 *   9,10 watch     11,12 block         13,14 bounds  15 bounds seen, s   16 value is integer  18,19 value
 *   20,21 when its identity was seen before it, Unix milliseconds, a double
 */
const OUTPUT_WORDS = 24;
const FLAGS = 2;

/** One stream that others are merged into, over requests: a view of its words. */
export class Output {
  readonly id: number;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #at: number;

  constructor(id: number, words: Int32Array, doubles: Float64Array) {
    this.id = id;
    this.#words = words;
    this.#doubles = doubles;
    this.#at = id * OUTPUT_WORDS;
  }

  /** As new, for a stream of this hash. */
  reset(lo: number, hi: number): void {
    this.#words.fill(0, this.#at, this.#at + OUTPUT_WORDS);
    this.lo = lo;
    this.hi = hi;
    this.live = this.hasSum = true;
    this.#words[this.#at + 16] = 1;
  }

  /** Copies the total of a number into `into`. */
  readValue(into: NumberValue): NumberValue {
    const at = this.#at;
    if (this.#words[at + 16] === 1) return into.setInt(this.#words[at + 18]!, this.#words[at + 19]!);
    return into.setDouble(this.#doubles[(at + 18) >> 1]!);
  }

  writeValue(value: NumberValue): void {
    const at = this.#at;
    this.#words[at + 16] = value.isInt ? 1 : 0;
    if (value.isInt) {
      this.#words[at + 18] = value.lo;
      this.#words[at + 19] = value.hi;
    } else this.#doubles[(at + 18) >> 1] = value.double;
  }

  /** When a stream of its identity was last seen that it does not go on with: it has to start after it. */
  get earliestMs(): number {
    return this.#doubles[(this.#at + 20) >> 1]!;
  }
  set earliestMs(value: number) {
    this.#doubles[(this.#at + 20) >> 1] = value;
  }

  get lo(): number {
    return this.#words[this.#at + 0]!;
  }
  set lo(value: number) {
    this.#words[this.#at + 0] = value;
  }
  get hi(): number {
    return this.#words[this.#at + 1]!;
  }
  set hi(value: number) {
    this.#words[this.#at + 1] = value;
  }
  /** Sources in the table that feed it. */
  get sources(): number {
    return this.#words[this.#at + 3]!;
  }
  set sources(value: number) {
    this.#words[this.#at + 3] = value;
  }
  get seenSec(): number {
    return this.#words[this.#at + 4]!;
  }
  set seenSec(value: number) {
    this.#words[this.#at + 4] = value;
  }
  get startLo(): number {
    return this.#words[this.#at + 5]!;
  }
  set startLo(value: number) {
    this.#words[this.#at + 5] = value;
  }
  get startHi(): number {
    return this.#words[this.#at + 6]!;
  }
  set startHi(value: number) {
    this.#words[this.#at + 6] = value;
  }
  /** Time of the last point that went out; 0 before the first. */
  get timeLo(): number {
    return this.#words[this.#at + 7]!;
  }
  set timeLo(value: number) {
    this.#words[this.#at + 7] = value;
  }
  get timeHi(): number {
    return this.#words[this.#at + 8]!;
  }
  set timeHi(value: number) {
    this.#words[this.#at + 8] = value;
  }
  /** Sources that began before this are taken in without their past. */
  get watchLo(): number {
    return this.#words[this.#at + 9]!;
  }
  set watchLo(value: number) {
    this.#words[this.#at + 9] = value;
  }
  get watchHi(): number {
    return this.#words[this.#at + 10]!;
  }
  set watchHi(value: number) {
    this.#words[this.#at + 10] = value;
  }
  /** Totals of a histogram: a block of the arena, and how many cells of it are used. */
  get block(): number {
    return this.#words[this.#at + 11]!;
  }
  set block(value: number) {
    this.#words[this.#at + 11] = value;
  }
  get blockLength(): number {
    return this.#words[this.#at + 12]!;
  }
  set blockLength(value: number) {
    this.#words[this.#at + 12] = value;
  }
  get boundsLo(): number {
    return this.#words[this.#at + 13]!;
  }
  set boundsLo(value: number) {
    this.#words[this.#at + 13] = value;
  }
  get boundsHi(): number {
    return this.#words[this.#at + 14]!;
  }
  set boundsHi(value: number) {
    this.#words[this.#at + 14] = value;
  }
  get boundsSeenSec(): number {
    return this.#words[this.#at + 15]!;
  }
  set boundsSeenSec(value: number) {
    this.#words[this.#at + 15] = value;
  }
  get live(): boolean {
    return this.#flag(1);
  }
  set live(value: boolean) {
    this.#setFlag(1, value);
  }
  /** Every part of the histogram had a sum. */
  get hasSum(): boolean {
    return this.#flag(2);
  }
  set hasSum(value: boolean) {
    this.#setFlag(2, value);
  }
  /** A stream of this very identity was forwarded by itself before. */
  get preexisting(): boolean {
    return this.#flag(4);
  }
  set preexisting(value: boolean) {
    this.#setFlag(4, value);
  }
  /** It goes on with that stream's value and start. */
  get adopted(): boolean {
    return this.#flag(8);
  }
  set adopted(value: boolean) {
    this.#setFlag(8, value);
  }
  /** It is the overflow stream of a metric. */
  get overflow(): boolean {
    return this.#flag(16);
  }
  set overflow(value: boolean) {
    this.#setFlag(16, value);
  }

  #flag(mask: number): boolean {
    return (this.#words[this.#at + FLAGS]! & mask) !== 0;
  }

  #setFlag(mask: number, value: boolean): void {
    if (value) this.#words[this.#at + FLAGS]! |= mask;
    else this.#words[this.#at + FLAGS]! &= ~mask;
  }

  /** No point has gone out yet. */
  get fresh(): boolean {
    return this.timeLo === 0 && this.timeHi === 0;
  }

  /** Before the first point goes out: the start is the earliest of what was taken in. */
  begin(lo: number, hi: number): void {
    if (!this.fresh || this.adopted) return;
    if ((this.startLo === 0 && this.startHi === 0) || lessThan(lo, hi, this.startLo, this.startHi)) {
      this.startLo = lo;
      this.startHi = hi;
    }
  }

  /**
   * Moves `time` on to that of the point that goes out now. A stream has one writer and its time only moves forward: a
   * collection that is split over several requests, or producers whose clocks differ, get the next millisecond.
   */
  advance(timeLo: number, timeHi: number): void {
    if (this.fresh && !this.adopted && unsigned(this.startLo, this.startHi) < this.earliestMs * 1e6) {
      const startNs = Math.min(this.earliestMs * 1e6, unsigned(timeLo, timeHi));
      this.startLo = startNs | 0;
      this.startHi = Math.floor(startNs / 4294967296) | 0;
    }
    if (lessThan(this.timeLo, this.timeHi, timeLo, timeHi)) {
      this.timeLo = timeLo;
      this.timeHi = timeHi;
      return;
    }
    const aheadNs = unsigned(this.timeLo, this.timeHi) - unsigned(timeLo, timeHi);
    // Some backends keep milliseconds; but a stream must not run away from its sources, so a second ahead is the most.
    const low = (this.timeLo >>> 0) + (aheadNs < 1e9 ? 1_000_000 : 1);
    this.timeLo = low | 0;
    this.timeHi = (this.timeHi + (low > 0xffffffff ? 1 : 0)) | 0;
  }
}

/** Outputs by hash; each keeps its number for as long as it lives. */
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

  /** The words, the index, and about 48 bytes for the view of each output there ever was. */
  get memoryBytes(): number {
    return this.#words.byteLength + this.#index.byteLength + this.#outputs.length * 48;
  }

  byId(id: number): Output {
    return this.#outputs[id]!;
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

  /** @returns a new output, or undefined when there are as many as may be */
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
    output.live = false;
    this.#free.push(output.id);
    this.#used--;
  }

  /** Looks at the next `steps` outputs and calls `expire` for each without sources, unseen since `beforeSec`. */
  sweep(steps: number, beforeSec: number, expire: (output: Output) => void): void {
    for (let step = Math.min(steps, this.#outputs.length); step > 0; step--) {
      this.#hand = (this.#hand + 1) % this.#outputs.length;
      const output = this.#outputs[this.#hand]!;
      if (output.live && output.sources === 0 && output.seenSec < beforeSec) expire(output);
    }
  }
}
