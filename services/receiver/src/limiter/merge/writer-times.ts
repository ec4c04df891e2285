import type { Halves } from '../hash.ts';
import { Nanoseconds } from '../wire/nanoseconds.ts';
import type { Point } from '../wire/point.ts';
import { lessThan } from '../wire/reader.ts';
import type { Output } from './output-table.ts';

const moment = new Nanoseconds();
const begin = new Nanoseconds();
const interval = new Nanoseconds();

/** How far an output may be ahead of the clock, at a millisecond per point, before it advances by microseconds. */
const AHEAD_MS = 60_000;
/** Times further ahead are replaced by the receiver's. */
const CLOCK_AHEAD_MS = 600_000;

export type DatedRange = Pick<Point, 'startLo' | 'startHi' | 'timeLo' | 'timeHi'>;

/** Starts and times of what this writer sends. They only move forward in each stream, and are not far ahead of the clock. */
export class WriterTimes {
  /** Points of the current request whose time was replaced. */
  skewed = 0;
  /** Start of new streams: later than any point of this writer in other streams. */
  readonly start = new Nanoseconds();
  readonly #now = new Nanoseconds();
  readonly #believed = new Nanoseconds();
  readonly #aheadMost = new Nanoseconds();
  readonly #written = new Nanoseconds();
  /** Latest time ever written, also by undone requests, which may have been sent all the same. */
  readonly #latest = new Nanoseconds();

  restart(startMs: number): void {
    this.start.setMs(startMs);
    if (!this.#latest.isBefore(this.start.lo, this.start.hi)) this.start.copy(this.#latest).add(1_000_000);
  }

  tick(wallMs: number): void {
    this.#now.setMs(wallMs);
    this.#believed.setMs(wallMs + CLOCK_AHEAD_MS);
    this.#aheadMost.setMs(wallMs + AHEAD_MS);
  }

  /** Begins a request. */
  begin(): void {
    this.skewed = 0;
    this.#written.set(0, 0);
  }

  /** Latest time that the current request writes into a cumulative stream, Unix ms; 0 if it writes none. */
  get writtenMs(): number {
    const { ms } = this.#written;
    return ms === 0 ? 0 : ms + 1;
  }

  /** The point's time, or the receiver's if it is missing or far ahead. */
  of({ timeLo, timeHi }: Pick<Point, 'timeLo' | 'timeHi'>): Nanoseconds {
    const isBelieved = !isMissing(timeLo, timeHi) && !this.#believed.isBefore(timeLo, timeHi);
    return isBelieved ? moment.set(timeLo, timeHi) : moment.copy(this.#now);
  }

  /** Time of a sent point: `time` advances, no further than the clock, and always forward. */
  advance(output: Output, timeLo: number, timeHi: number): void {
    const time = moment.set(timeLo, timeHi).min(this.#now.lo, this.#now.hi);
    // A level that is continued after a restart has an earlier start than its writer.
    const floor = output.fresh ? this.start : { lo: output.timeLo, hi: output.timeHi };
    if (!lessThan(floor.lo, floor.hi, time.lo, time.hi)) this.#step(time, floor);
    output.setTime(time);
    this.#written.max(time.lo, time.hi);
    this.#latest.max(time.lo, time.hi);
  }

  /**
   * The same for an increment: it begins where the stream's previous one ended, and ends later.
   * @returns whether its start or time was moved
   */
  follow(output: Output, point: DatedRange): boolean {
    const { startLo, startHi, timeLo, timeHi } = point;
    const time = this.of(point);
    const isDated = startLo !== 0 || startHi !== 0;
    if (isDated && time.isBefore(startLo, startHi)) {
      // The time was replaced, so the start is moved with it: no point may begin after its end.
      const length = interval.set(timeLo, timeHi).minus(startLo, startHi);
      const start = begin.copy(time).minus(length.lo, length.hi);
      point.startLo = start.lo;
      point.startHi = start.hi;
    }
    if (!output.fresh) {
      if (isDated && lessThan(point.startLo, point.startHi, output.timeLo, output.timeHi)) {
        point.startLo = output.timeLo;
        point.startHi = output.timeHi;
      }
      const floor = { lo: output.timeLo, hi: output.timeHi };
      if (!lessThan(floor.lo, floor.hi, time.lo, time.hi)) this.#step(time, floor);
    }
    output.setTime(time);
    point.timeLo = time.lo;
    point.timeHi = time.hi;
    return point.startLo !== startLo || point.startHi !== startHi || time.lo !== timeLo || time.hi !== timeHi;
  }

  /** Sets a time just after another one: by whole milliseconds if possible, since some backends keep no more. */
  #step(time: Nanoseconds, { lo, hi }: Halves): void {
    time.set(lo, hi).add(this.#aheadMost.isBefore(lo, hi) ? 1000 : 1_000_000);
  }
}

export function isMissing(lo: number, hi: number): boolean {
  return lo === 0 && hi === 0;
}
