import type { GaugeReducer } from '../options.ts';
import { addDoubles } from '../wire/double.ts';
import { addInt64, lessInt64, subtractInt64 } from '../wire/int64.ts';
import type { NumberPoint } from '../wire/point.ts';
import { doubleOf, lessThan, signed } from '../wire/reader.ts';
import type { ReverseWriter } from '../wire/writer.ts';
import type { Output } from './output-table.ts';
import { Total } from './total.ts';

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

  /** As a double; integers beyond 2^53 are rounded. */
  get number(): number {
    return this.isInt ? signed(this.lo, this.hi) : this.double;
  }

  /** Adds; becomes a double if the sum exceeds an int64 or one of them is a double. */
  add(other: NumberValue): this {
    if (this.isInt && other.isInt && addInt64(this.lo, this.hi, other.lo, other.hi, this)) return this;
    return this.setDouble(addDoubles(this.number, other.number));
  }

  subtract(other: NumberValue): this {
    if (this.isInt && other.isInt && subtractInt64(this.lo, this.hi, other.lo, other.hi, this)) return this;
    return this.setDouble(addDoubles(this.number, -other.number));
  }

  lessThan(other: NumberValue): boolean {
    if (this.isInt && other.isInt) return lessInt64(this.lo, this.hi, other.lo, other.hi);
    return this.number < other.number;
  }
}

const incoming = new NumberValue();
const FIELDS = [2, 3, 4, 5, 6, 8];

/** Accumulates points of one stream: sums, or gauges with their reducer. */
export class NumberTotal extends Total {
  readonly fields = FIELDS;
  readonly value = new NumberValue();
  readonly #reducer: GaugeReducer | 'add';
  /** For gauges: time of the last part, and whether there was a finite one. */
  #lastLo = 0;
  #lastHi = 0;
  #finite = true;

  constructor(reducer: GaugeReducer | 'add') {
    super();
    this.#reducer = reducer;
  }

  add(point: NumberPoint, parts = 1): void {
    this.include(point);
    incoming.set(point.isInt, point.lo, point.hi);
    if (this.#reducer === 'add') this.#addIncoming();
    else this.#reduce(point, this.#reducer, parts);
  }

  addOutput(output: Output): void {
    output.readValue(incoming);
    this.#addIncoming();
  }

  #addIncoming(): void {
    if (this.parts++ === 0) this.value.copy(incoming);
    else this.value.add(incoming);
  }

  /** NaN and infinities are ignored if another point is finite. */
  #reduce(point: NumberPoint, reducer: GaugeReducer, parts: number): void {
    if (this.parts > 0 && point.finite !== this.#finite) {
      if (this.#finite) return;
      this.parts = 0;
    }
    if (reducer === 'mean' && parts > 1) incoming.setDouble(incoming.number * parts);
    const isFirst = this.parts === 0;
    this.parts += parts;
    if (isFirst) {
      this.#finite = point.finite;
      this.#take(point);
    } else if (reducer === 'sum' || reducer === 'mean') this.value.add(incoming);
    else if (reducer === 'min') {
      if (incoming.lessThan(this.value)) this.value.copy(incoming);
    } else if (reducer === 'max') {
      if (this.value.lessThan(incoming)) this.value.copy(incoming);
    } else if (!lessThan(point.timeLo, point.timeHi, this.#lastLo, this.#lastHi)) this.#take(point);
  }

  override finish(): void {
    if (this.#reducer === 'mean' && this.parts > 1) this.value.setDouble(this.value.number / this.parts);
  }

  write(writer: ReverseWriter): void {
    if (this.value.isInt) writer.fixed64Field(6, this.value.lo, this.value.hi);
    else writer.doubleField(4, this.value.double);
  }

  #take(point: NumberPoint): void {
    this.value.copy(incoming);
    this.#lastLo = point.timeLo;
    this.#lastHi = point.timeHi;
  }
}
