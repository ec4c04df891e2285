import {
  addExponential,
  type Exponential,
  type ExponentialPoint,
  emptyExponential,
  subtractExponential,
} from './accumulate-exponential.ts';
import { NumberValue } from './accumulate-number.ts';
import { Arena, sameSize } from './arena.ts';
import { exponentialCells, readExponential, writeExponential } from './exponential-block.ts';
import { type Output, OutputTable } from './output-table.ts';
import type { HistogramPoint, NumberPoint, Point } from './point.ts';
import { lessThan, unsigned } from './reader.ts';
import { BLOCK, OUTPUT, SEEN, SHAPE, SourceTable, START, TIME, VALUE } from './source-table.ts';

/*
 * Cumulative streams cannot simply be added: one that starts late, restarts or goes away would make the sum jump. So each
 * source is turned into increments against its own last point, and the increments are accumulated per output stream.
 *
 *   seen before, time not later          stale: nothing new, the point is merged away
 *   seen before, began anew (1)          the whole value is the increment
 *   seen before                          value − last value
 *   seen first, began while we watched   the whole value
 *   seen first, began before             nothing: it becomes the base line
 *   seen first, and it is the very stream that the output continues (2)   value and start are taken over
 *
 * (1) a start at or after its last time, or a value, a count or a bucket that fell.  (2) adoption.
 * "While we watched": the limiter ran, and nothing with the start of this source has been forgotten since. Sums that are not
 * monotonic are levels, not counts: the output is the sum of the last values, and what expires is taken off again.
 */
export type Outcome = 'added' | 'stale' | 'full' | 'bounds';

export interface TrackerLimits {
  maxSources: number;
  maxOutputs: number;
  arenaCells: number;
}

/** How a point stands to what is known of its source. */
const FULL = 0;
const DIFFERENCE = 1;
const BASELINE = 2;
const STALE = 3;

export interface Contribution {
  /** Hash of the stream with all its labels. */
  sourceLo: number;
  sourceHi: number;
  /** Where the source was found before, or -1. */
  sourceAt: number;
  output: Output;
  isMonotonic: boolean;
  /** What became of this stream until now: forwarded by itself, or that and the output goes on where it ended. */
  past: 'unknown' | 'forwarded' | 'adopted';
  /** Sources that began before this were perhaps forwarded already. Unix milliseconds. */
  watchMs: number;
}

/** Of the word SHAPE, when the source is a number. */
const INTEGER = 1;
const LEVEL = 2;

const now = new NumberValue();
const last = new NumberValue();
const difference = new NumberValue();
const total = new NumberValue();

export class Tracker {
  readonly sources: SourceTable;
  readonly outputs: OutputTable;
  readonly arena: Arena;
  sourceEvictions = 0;
  outputEvictions = 0;
  /** Sources of outputs that were forgotten began before this. Nanoseconds. */
  watchLo = 0;
  watchHi = 0;
  #nowSec = 1;

  constructor(limits: TrackerLimits) {
    this.sources = new SourceTable(limits.maxSources);
    this.outputs = new OutputTable(limits.maxOutputs);
    this.arena = new Arena(limits.arenaCells);
  }

  get memoryBytes(): number {
    return this.sources.memoryBytes + this.arena.memoryBytes + this.outputs.memoryBytes;
  }

  /** Moves time on and forgets a little of what has not been seen for `ttlSec`. */
  tick(nowSec: number, ttlSec: number): void {
    this.#nowSec = nowSec;
    if (this.sources.used > 0) this.sources.sweep(256, nowSec - ttlSec, nowSec, this.#expireSource);
    if (this.outputs.used > 0) this.outputs.sweep(64, nowSec - ttlSec, this.#expireOutput);
  }

  /**
   * The stream that this one is a source of.
   * @param hint where the source was found before, or -1
   */
  outputOf(lo: number, hi: number, hint: number): Output | undefined {
    const at = this.sources.find(lo, hi, hint);
    return at < 0 ? undefined : this.outputs.byId(this.sources.words[at + OUTPUT]! - 1);
  }

  /** The output stream of this hash; made when there is room, and then given to `onNew`. */
  output(lo: number, hi: number, onNew: (output: Output) => void = () => {}): Output | undefined {
    let output = this.outputs.find(lo, hi);
    if (!output) {
      output = this.outputs.insert(lo, hi);
      if (!output) return undefined;
      output.watchLo = this.watchLo;
      output.watchHi = this.watchHi;
      onNew(output);
    }
    output.seenSec = this.#nowSec;
    return output;
  }

  addNumber(to: Contribution, point: NumberPoint): Outcome {
    const { words } = this.sources;
    const { output } = to;
    const at = this.#source(to);
    if (at < 0) return 'full';
    now.set(point.isInt, point.lo, point.hi);
    last.set((words[at + SHAPE]! & INTEGER) !== 0, words[at + VALUE]!, words[at + VALUE + 1]!);
    let relation = this.#relation(to, at, point);
    if (relation === STALE) return 'stale';
    output.readValue(total);
    if (!to.isMonotonic) {
      // A level: what this source contributed until now is replaced.
      total.add(now);
      if (words[at + SEEN] !== 0) total.subtract(last);
      relation = FULL;
    } else if (relation === DIFFERENCE && !now.lessThan(last)) total.add(difference.copy(now).subtract(last));
    else if (relation !== BASELINE) total.add(now);
    output.writeValue(total);
    this.#begin(output, point, relation);
    this.#note(at, point);
    words[at + VALUE] = point.lo;
    words[at + VALUE + 1] = point.hi;
    words[at + SHAPE] = (point.isInt ? INTEGER : 0) | (to.isMonotonic ? 0 : LEVEL);
    return 'added';
  }

  addHistogram(to: Contribution, point: HistogramPoint): Outcome {
    const { output } = to;
    const { cells } = this.arena;
    const length = 2 + point.buckets;
    const known = this.sources.find(to.sourceLo, to.sourceHi, to.sourceAt);
    if (!this.#fitBounds(output, point, length)) return output.block === 0 ? 'full' : 'bounds';
    const at = this.#source(to);
    if (at < 0) return 'full';
    const { words } = this.sources;
    let relation = this.#relation(to, at, point);
    if (relation === STALE) return 'stale';
    let block = words[at + BLOCK]!;
    if (known < 0 || words[at + SHAPE]! >> 1 !== length || words[at + VALUE] !== point.boundsLo) {
      if (block !== 0) this.arena.give(block, words[at + SHAPE]! >> 1);
      block = this.arena.take(length);
      words[at + BLOCK] = block;
      words[at + SHAPE] = length << 1;
      words[at + VALUE] = point.boundsLo;
      if (block === 0) {
        words[at + SHAPE] = 0;
        this.#dropSource(at);
        return 'full';
      }
      // Other bounds: nothing to take the difference of, as if it had begun anew before we looked.
      if (relation === DIFFERENCE) relation = BASELINE;
      cells.fill(0, block, block + length);
    }
    if (relation === DIFFERENCE && this.#fell(block, point)) relation = FULL;
    if (relation !== BASELINE) {
      const keep = relation === DIFFERENCE ? 1 : 0;
      const sums = output.block;
      cells[sums]! += point.count - keep * cells[block]!;
      cells[sums + 1]! += point.sum - keep * cells[block + 1]!;
      for (let i = 0; i < point.buckets; i++)
        cells[sums + 2 + i]! += point.counts[i]! - keep * cells[block + 2 + i]!;
    }
    if (!point.hasSum) output.hasSum = false;
    this.#begin(output, point, relation);
    this.#note(at, point);
    cells[block] = point.count;
    cells[block + 1] = point.sum;
    for (let i = 0; i < point.buckets; i++) cells[block + 2 + i] = point.counts[i]!;
    return 'added';
  }

  addExponential(to: Contribution, point: ExponentialPoint): Outcome {
    const { output } = to;
    const at = this.#source(to);
    if (at < 0) return 'full';
    const { words } = this.sources;
    let relation = this.#relation(to, at, point);
    if (relation === STALE) return 'stale';
    const oldBlock = words[at + BLOCK]!;
    const oldLength = words[at + SHAPE]! >> 1;
    let increment: Exponential | undefined = point.value;
    if (relation === DIFFERENCE) {
      increment = subtractExponential(point.value, readExponential(this.arena.cells, oldBlock));
      if (!increment) {
        relation = FULL;
        increment = point.value;
      }
    }
    // What is stored may be scaled down, so that it fits; then the next difference is taken at that scale.
    const stored = addExponential(point.value, emptyExponential(point.value.scale));
    const before =
      output.block === 0
        ? emptyExponential(point.value.scale)
        : readExponential(this.arena.cells, output.block);
    const grown = relation === BASELINE ? before : addExponential(before, increment);
    const outputBlock = this.#store(grown, output.block, output.blockLength);
    if (outputBlock === 0) {
      if (words[at + SEEN] === 0) this.#dropSource(at);
      return 'full';
    }
    output.block = outputBlock;
    output.blockLength = exponentialCells(grown);
    const block = this.#store(stored, oldBlock, oldLength);
    if (block === 0) {
      // Counted already; without a base line the source has to be forgotten.
      this.#forgetPast(at, point);
      return 'added';
    }
    words[at + BLOCK] = block;
    words[at + SHAPE] = exponentialCells(stored) << 1;
    if (!point.value.hasSum) output.hasSum = false;
    this.#begin(output, point, relation);
    this.#note(at, point);
    return 'added';
  }

  /** How the point stands to what is known; never DIFFERENCE for a source that was seen first. */
  #relation(to: Contribution, at: number, point: Point): number {
    const { words } = this.sources;
    if (words[at + SEEN] !== 0) {
      const timeLo = words[at + TIME]!;
      const timeHi = words[at + TIME + 1]!;
      if (!lessThan(timeLo, timeHi, point.timeLo, point.timeHi)) return STALE;
      const anew =
        lessThan(words[at + START]!, words[at + START + 1]!, point.startLo, point.startHi) &&
        !lessThan(point.startLo, point.startHi, timeLo, timeHi);
      return anew ? FULL : DIFFERENCE;
    }
    const { output } = to;
    if (to.past === 'adopted') {
      output.adopted = true;
      output.startLo = point.startLo;
      output.startHi = point.startHi;
      return FULL;
    }
    const watched =
      to.past === 'unknown' &&
      unsigned(point.startLo, point.startHi) >= to.watchMs * 1e6 &&
      !lessThan(point.startLo, point.startHi, output.watchLo, output.watchHi);
    return watched ? FULL : BASELINE;
  }

  #begin(output: Output, point: Point, relation: number): void {
    const dated = relation !== BASELINE && (point.startLo !== 0 || point.startHi !== 0);
    if (dated) output.begin(point.startLo, point.startHi);
    else output.begin(point.timeLo, point.timeHi);
  }

  /** The source of a contribution; made when there is room, and led to its output. */
  #source(to: Contribution): number {
    const { sources } = this;
    const { output } = to;
    let at = sources.find(to.sourceLo, to.sourceHi, to.sourceAt);
    if (at < 0) {
      at = sources.insert(to.sourceLo, to.sourceHi, output.id);
      if (at < 0) return -1;
      output.sources++;
      return at;
    }
    const previous = sources.words[at + OUTPUT]! - 1;
    if (previous !== output.id) {
      // Another label was given up: from here on it feeds another stream.
      const old = this.outputs.byId(previous);
      old.sources--;
      if (!to.isMonotonic && sources.words[at + BLOCK] === 0) {
        this.#takeOff(at, old);
        sources.words[at + VALUE] = sources.words[at + VALUE + 1] = 0;
      }
      sources.words[at + OUTPUT] = output.id + 1;
      output.sources++;
    }
    return at;
  }

  #note(at: number, point: Point): void {
    const { words } = this.sources;
    words[at + SEEN] = this.#nowSec;
    words[at + START] = point.startLo;
    words[at + START + 1] = point.startHi;
    words[at + TIME] = point.timeLo;
    words[at + TIME + 1] = point.timeHi;
  }

  #fell(block: number, point: HistogramPoint): boolean {
    const { cells } = this.arena;
    if (point.count < cells[block]!) return true;
    for (let i = 0; i < point.buckets; i++) if (point.counts[i]! < cells[block + 2 + i]!) return true;
    return false;
  }

  /** Whether the point has the bounds of the output; the first sets them, and they change when none has come for 5 minutes. */
  #fitBounds(output: Output, point: HistogramPoint, length: number): boolean {
    const same =
      output.block !== 0 &&
      output.boundsLo === point.boundsLo &&
      output.boundsHi === point.boundsHi &&
      output.blockLength === length;
    if (!same) {
      if (output.block !== 0) {
        if (this.#nowSec - output.boundsSeenSec < 300) return false;
        this.arena.give(output.block, output.blockLength);
        output.startLo = output.timeLo; // it starts anew, where the old one ended
        output.startHi = output.timeHi;
      }
      output.block = this.arena.take(length);
      output.blockLength = output.block === 0 ? 0 : length;
      if (output.block === 0) return false;
      this.arena.cells.fill(0, output.block, output.block + length);
      output.boundsLo = point.boundsLo;
      output.boundsHi = point.boundsHi;
    }
    output.boundsSeenSec = this.#nowSec;
    return true;
  }

  /** @returns where the block is now; 0 when there is no room, and the old one is as it was */
  #store(value: Exponential, block: number, length: number): number {
    const needed = exponentialCells(value);
    let at = block;
    if (at === 0 || !sameSize(needed, length)) {
      at = this.arena.take(needed);
      if (at === 0) return 0;
      if (block !== 0) this.arena.give(block, length);
    }
    writeExponential(this.arena.cells, at, value);
    return at;
  }

  #takeOff(at: number, output: Output): void {
    const { words } = this.sources;
    last.set((words[at + SHAPE]! & INTEGER) !== 0, words[at + VALUE]!, words[at + VALUE + 1]!);
    output.writeValue(output.readValue(total).subtract(last));
  }

  /** Removes a source; if it came back with the same start, it must not be counted again. */
  #expireSource = (at: number): void => {
    const { words } = this.sources;
    const output = this.outputs.byId(words[at + OUTPUT]! - 1);
    if (words[at + BLOCK] === 0 && (words[at + SHAPE]! & LEVEL) !== 0) this.#takeOff(at, output);
    this.#raiseWatch(output, words[at + START]!, words[at + START + 1]!);
    this.sourceEvictions++;
    this.#dropSource(at);
  };

  #forgetPast(at: number, point: Point): void {
    const output = this.outputs.byId(this.sources.words[at + OUTPUT]! - 1);
    this.#raiseWatch(output, point.startLo, point.startHi);
    this.sourceEvictions++;
    this.#dropSource(at);
  }

  #raiseWatch(output: Output, startLo: number, startHi: number): void {
    const lo = (startLo >>> 0) + 1;
    const hi = (startHi + (lo > 0xffffffff ? 1 : 0)) | 0;
    if (lessThan(output.watchLo, output.watchHi, lo | 0, hi)) {
      output.watchLo = lo | 0;
      output.watchHi = hi;
    }
  }

  #dropSource(at: number): void {
    const { words } = this.sources;
    const block = words[at + BLOCK]!;
    if (block !== 0) this.arena.give(block, words[at + SHAPE]! >> 1);
    this.outputs.byId(words[at + OUTPUT]! - 1).sources--;
    this.sources.remove(at);
  }

  #expireOutput = (output: Output): void => {
    if (output.block !== 0) this.arena.give(output.block, output.blockLength);
    if (lessThan(this.watchLo, this.watchHi, output.timeLo, output.timeHi)) {
      this.watchLo = output.timeLo;
      this.watchHi = output.timeHi;
    }
    this.outputEvictions++;
    this.outputs.remove(output);
  };
}
