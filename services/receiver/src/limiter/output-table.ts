import { NumberValue } from './accumulate-number.ts';
import { slotHash } from './hash.ts';
import { lessThan, unsigned } from './reader.ts';

/** One stream that others are merged into, over requests. Objects are made once and used again. */
export class Output {
  readonly id: number;
  lo = 0;
  hi = 0;
  live = false;
  /** Sources in the table that feed it. */
  sources = 0;
  seenSec = 0;
  startLo = 0;
  startHi = 0;
  /** Time of the last point that went out; 0 before the first. */
  timeLo = 0;
  timeHi = 0;
  /** Sources that began before this are taken in without their past. */
  watchLo = 0;
  watchHi = 0;
  readonly value = new NumberValue();
  /** Totals of a histogram: a block of the arena, and how many cells of it are used. */
  block = 0;
  blockLength = 0;
  hasSum = true;
  boundsLo = 0;
  boundsHi = 0;
  boundsSeenSec = 0;
  /** A stream of this very identity was forwarded by itself before. */
  preexisting = false;
  /** It is the overflow stream of a metric. */
  overflow = false;
  /** It goes on with that stream's value and start. */
  adopted = false;
  /** When that stream was last seen: what does not go on with it has to start after it. */
  earliestMs = 0;

  constructor(id: number) {
    this.id = id;
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
  readonly #index: Int32Array;
  readonly #mask: number;
  #hand = 0;
  #used = 0;

  constructor(maxOutputs: number) {
    this.maxOutputs = maxOutputs;
    let slots = 16;
    while (slots < 2 * maxOutputs) slots *= 2;
    this.#index = new Int32Array(slots);
    this.#mask = slots - 1;
  }

  get used(): number {
    return this.#used;
  }

  /** The index, and about 300 bytes for each output there ever was. */
  get memoryBytes(): number {
    return this.#index.byteLength + this.#outputs.length * 300;
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
      output = new Output(this.#outputs.length);
      this.#outputs.push(output);
    } else return undefined;
    output.lo = lo;
    output.hi = hi;
    output.live = true;
    output.sources = output.block = output.blockLength = output.boundsSeenSec = 0;
    output.startLo = output.startHi = output.timeLo = output.timeHi = output.watchLo = output.watchHi = 0;
    output.boundsLo = output.boundsHi = 0;
    output.hasSum = true;
    output.preexisting = output.adopted = output.overflow = false;
    output.earliestMs = 0;
    output.value.setInt(0, 0);
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
