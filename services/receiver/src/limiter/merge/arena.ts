/** Cells per unit; a free block needs so many for its own data. */
const UNIT = 4;
/** Maximum block length, in cells. */
export const BLOCK_MAX = 512;
/** Free lists: one for each block size in units, and one for all larger blocks. */
const LISTS = BLOCK_MAX / UNIT + 2;

/** Flags of a unit: a free block begins or ends here. */
const BEGINS = 1;
const ENDS = 2;

/**
 * Allocates many small arrays of doubles in a fixed piece of memory. A freed block is joined with free neighbours and split for
 * shorter ones, so that free memory serves any length. Allocating and freeing take constant time. A free block stores in its
 * own cells its size in units, the next and the previous block of its list, and in its last cell its size again, so that it can
 * be found from behind.
 */
export class Arena {
  readonly cells: Float64Array;
  readonly #marks: Uint8Array;
  /** First free block of each list, as its first unit. Unit 0 is never allocated, so that 0 means none. */
  readonly #first = new Int32Array(LISTS);
  /** One bit per non-empty list. */
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

  /** @returns start of a block of at least `length` cells, or 0 if there is no room */
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

  /** @param length as requested */
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

  /** The first non-empty list from that of `units` on, or 0, which is always empty. */
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
 * Size of a block in units: multiples of one up to 16, of two up to 32, and so on, at most an eighth too large. Fewer sizes
 * cause less fragmentation.
 */
function unitsOf(length: number): number {
  const units = Math.max(2, Math.ceil(length / UNIT));
  const step = units <= 16 ? 1 : 1 << (28 - Math.clz32(units - 1));
  return Math.ceil(units / step) * step;
}

/** Whether two lengths have the same block size. */
export function sameSize(a: number, b: number): boolean {
  return unitsOf(a) === unitsOf(b);
}
