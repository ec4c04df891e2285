/**
 * A fixed piece of memory for many small arrays of doubles. Blocks come in sizes of at most a quarter too much; a block that
 * is given back is used again for its size.
 */
export class Arena {
  readonly cells: Float64Array;
  /** Cell 0 is never given out, so that 0 can mean none. */
  #next = 8;
  #used = 0;
  readonly #free: number[][] = SIZES.map(() => []);

  constructor(cells: number) {
    this.cells = new Float64Array(cells);
  }

  get memoryBytes(): number {
    return this.cells.byteLength;
  }

  get usedCells(): number {
    return this.#used;
  }

  /** @returns where a block of at least `length` cells begins, or 0 when there is no room */
  take(length: number): number {
    const size = sizeClass(length);
    if (size < 0) return 0;
    const cells = SIZES[size]!;
    let at = this.#free[size]!.pop() ?? 0;
    if (at === 0) {
      if (this.#next + cells > this.cells.length) return 0;
      at = this.#next;
      this.#next += cells;
    }
    this.#used += cells;
    return at;
  }

  /** @param length as it was asked for */
  give(at: number, length: number): void {
    const size = sizeClass(length);
    this.#free[size]!.push(at);
    this.#used -= SIZES[size]!;
  }
}

const SIZES = [8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512];

function sizeClass(length: number): number {
  for (let i = 0; i < SIZES.length; i++) if (SIZES[i]! >= length) return i;
  return -1;
}

/** Whether two lengths are served by blocks of one size. */
export function sameSize(a: number, b: number): boolean {
  return sizeClass(a) === sizeClass(b);
}
