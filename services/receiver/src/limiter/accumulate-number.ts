import { addInt64, lessInt64, subtractInt64 } from './int64.ts';
import type { GaugeReducer } from './options.ts';
import type { NumberPoint } from './point.ts';
import { doubleOf, lessThan, signed } from './reader.ts';

/** A number that is an int64 (`lo`, `hi`) or a double (`double`). */
export class NumberValue {
  isInt = false;
  lo = 0;
  hi = 0;
  double = 0;

  setInt(lo: number, hi: number): this {
    this.isInt = true;
    this.lo = lo;
    this.hi = hi;
    return this;
  }

  setDouble(double: number): this {
    this.isInt = false;
    this.double = double;
    return this;
  }

  set(isInt: boolean, lo: number, hi: number): this {
    return isInt ? this.setInt(lo, hi) : this.setDouble(doubleOf(lo, hi));
  }

  copy(other: NumberValue): this {
    return other.isInt ? this.setInt(other.lo, other.hi) : this.setDouble(other.double);
  }

  /** Whether it is written as these 64 bits. */
  sameBits(lo: number, hi: number): boolean {
    return this.isInt ? this.lo === lo && this.hi === hi : Object.is(this.double, doubleOf(lo, hi));
  }

  /** As a double: rounded to the nearest when it is an integer beyond 2^53. */
  get number(): number {
    return this.isInt ? signed(this.lo, this.hi) : this.double;
  }

  /** Adds; what does not fit into an int64, or is not all integers, goes on as a double. */
  add(other: NumberValue): this {
    if (this.isInt && other.isInt && addInt64(this.lo, this.hi, other.lo, other.hi, this)) return this;
    return this.setDouble(this.number + other.number);
  }

  subtract(other: NumberValue): this {
    if (this.isInt && other.isInt && subtractInt64(this.lo, this.hi, other.lo, other.hi, this)) return this;
    return this.setDouble(this.number - other.number);
  }

  lessThan(other: NumberValue): boolean {
    if (this.isInt && other.isInt) return lessInt64(this.lo, this.hi, other.lo, other.hi);
    return this.number < other.number;
  }
}

const incoming = new NumberValue();

/** Points of one stream that become one: delta sums, or gauges with their reducer. */
export class NumberTotal {
  readonly value = new NumberValue();
  startLo = 0;
  startHi = 0;
  timeLo = 0;
  timeHi = 0;
  #points = 0;

  /** Adds a point of a delta sum: from the earliest start to the latest time. */
  add(point: NumberPoint): void {
    incoming.set(point.isInt, point.lo, point.hi);
    if (this.#points === 0) this.value.copy(incoming);
    else this.value.add(incoming);
    this.#span(point);
  }

  /** Takes in a point of a gauge. */
  reduce(point: NumberPoint, reducer: GaugeReducer): void {
    incoming.set(point.isInt, point.lo, point.hi);
    if (this.#points === 0) this.value.copy(incoming);
    else if (reducer === 'sum' || reducer === 'mean') this.value.add(incoming);
    else if (reducer === 'min') this.#pick(incoming.lessThan(this.value));
    else if (reducer === 'max') this.#pick(this.value.lessThan(incoming));
    else {
      this.#pick(!lessThan(point.timeLo, point.timeHi, this.timeLo, this.timeHi));
    }
    this.#span(point);
  }

  /** The value after the last point: the mean is only known then. */
  finish(reducer: GaugeReducer | undefined): void {
    if (reducer === 'mean' && this.#points > 1) this.value.setDouble(this.value.number / this.#points);
  }

  /** NaN loses against everything: it says nothing about the least or the greatest. */
  #pick(better: boolean): void {
    if (better || Number.isNaN(this.value.number)) this.value.copy(incoming);
  }

  #span(point: NumberPoint): void {
    const first = this.#points++ === 0;
    if (first || lessThan(point.startLo, point.startHi, this.startLo, this.startHi)) {
      this.startLo = point.startLo;
      this.startHi = point.startHi;
    }
    if (first || lessThan(this.timeLo, this.timeHi, point.timeLo, point.timeHi)) {
      this.timeLo = point.timeLo;
      this.timeHi = point.timeHi;
    }
  }
}
