/** Cells of a unit: a block is some of them, and a free one has to hold what is written into it. */
const UNIT = 4;
/** The longest block. */
export const BLOCK_MAX = 512;
/** Free blocks of 1, 2, 3 … units each have a list of their own; those that are longer than any block share one. */
const LISTS = BLOCK_MAX / UNIT + 2;

/** Of a unit: a free block begins, or ends, with it. */
const BEGINS = 1;
const ENDS = 2;

/**
 * A fixed piece of memory for many small arrays of doubles. A block that is given back joins its free neighbours, and is
 * split for shorter ones: what room there is serves blocks of any length. Taking and giving cost the same however many
 * blocks there are. A free block holds, in its own cells: its units, the next and the one before in its list, and in its last
 * cell its units again, so that it is found from behind.
 */
export class Arena {
  readonly cells: Float64Array;
  readonly #marks: Uint8Array;
  /** The first free block of each list, as its first unit. Unit 0 is never given out, so that 0 can mean none. */
  readonly #first = new Int32Array(LISTS);
  /** A bit for each list that is not empty. */
  readonly #filled = new Int32Array((LISTS + 31) >> 5);
  #used = 0;

  constructor(cells: number) {
    const units = Math.floor(cells / UNIT);
    this.cells = new Float64Array(cells);
    this.#marks = new Uint8Array(units + 1);
    if (units > 1) this.#link(1, units - 1);
  }

  get memoryBytes(): number {
    return this.cells.byteLength + this.#marks.byteLength;
  }

  get usedCells(): number {
    return this.#used * UNIT;
  }

  /** @returns where a block of at least `length` cells begins, or 0 when there is no room */
  take(length: number): number {
    if (length > BLOCK_MAX) return 0;
    const units = unitsOf(length);
    const unit = this.#first[this.#listFrom(units)]!;
    if (unit === 0) return 0;
    const found = this.cells[unit * UNIT]!;
    this.#unlink(unit, found);
    if (found > units) this.#link(unit + units, found - units);
    this.#used += units;
    return unit * UNIT;
  }

  /** @param length as it was asked for */
  give(at: number, length: number): void {
    const { cells } = this;
    let unit = at / UNIT;
    let units = unitsOf(length);
    this.#used -= units;
    const next = unit + units;
    if ((this.#marks[next]! & BEGINS) !== 0) {
      const more = cells[next * UNIT]!;
      this.#unlink(next, more);
      units += more;
    }
    if ((this.#marks[unit - 1]! & ENDS) !== 0) {
      const more = cells[unit * UNIT - 1]!;
      unit -= more;
      this.#unlink(unit, more);
      units += more;
    }
    this.#link(unit, units);
  }

  /** The first list from that of `units` on that is not empty, or 0, which always is. */
  #listFrom(units: number): number {
    const filled = this.#filled;
    let word = units >> 5;
    let bits = filled[word]! & (-1 << (units & 31));
    while (bits === 0) {
      if (++word === filled.length) return 0;
      bits = filled[word]!;
    }
    return (word << 5) + 31 - Math.clz32(bits & -bits);
  }

  #link(unit: number, units: number): void {
    const { cells } = this;
    const list = Math.min(units, LISTS - 1);
    const next = this.#first[list]!;
    const at = unit * UNIT;
    cells[at] = units;
    cells[at + 1] = next;
    cells[at + 2] = 0;
    cells[at + units * UNIT - 1] = units;
    if (next !== 0) cells[next * UNIT + 2] = unit;
    this.#first[list] = unit;
    this.#filled[list >> 5]! |= 1 << (list & 31);
    this.#marks[unit]! |= BEGINS;
    this.#marks[unit + units - 1]! |= ENDS;
  }

  #unlink(unit: number, units: number): void {
    const { cells } = this;
    const list = Math.min(units, LISTS - 1);
    const next = cells[unit * UNIT + 1]!;
    const before = cells[unit * UNIT + 2]!;
    if (next !== 0) cells[next * UNIT + 2] = before;
    if (before !== 0) cells[before * UNIT + 1] = next;
    else {
      this.#first[list] = next;
      if (next === 0) this.#filled[list >> 5]! &= ~(1 << (list & 31));
    }
    this.#marks[unit]! &= ~BEGINS;
    this.#marks[unit + units - 1]! &= ~ENDS;
  }
}

/**
 * Units of a block: multiples of one up to 16, of two up to 32, and so on, at most an eighth too much. Fewer lengths leave fewer
 * holes that fit nobody.
 */
function unitsOf(length: number): number {
  const units = Math.max(2, Math.ceil(length / UNIT));
  const step = units <= 16 ? 1 : 1 << (28 - Math.clz32(units - 1));
  return Math.ceil(units / step) * step;
}

/** Whether two lengths are served by blocks of one size. */
export function sameSize(a: number, b: number): boolean {
  return unitsOf(a) === unitsOf(b);
}
