/** Half-open ranges of record numbers, flat: [from, to, from, to, …], ascending and not adjacent. */
export type Ranges = number[];

/** The acknowledged records of a segment. Records are mostly acknowledged in order, so a few ranges suffice. */
export class Acked {
  #ranges: Ranges;
  #count: number;

  constructor(ranges: Ranges = []) {
    this.#ranges = ranges;
    this.#count = 0;
    for (let i = 0; i < ranges.length; i += 2) this.#count += ranges[i + 1]! - ranges[i]!;
  }

  get count(): number {
    return this.#count;
  }

  has(record: number): boolean {
    const at = this.#find(record);
    return at < this.#ranges.length && this.#ranges[at]! <= record;
  }

  /** @returns false if it was acknowledged before */
  add(record: number): boolean {
    const r = this.#ranges;
    const at = this.#find(record);
    if (at < r.length && r[at]! <= record) return false;
    const joinsBefore = at > 0 && r[at - 1] === record;
    const joinsAfter = at < r.length && r[at] === record + 1;
    if (joinsBefore && joinsAfter) r.splice(at - 1, 2);
    else if (joinsBefore) r[at - 1] = record + 1;
    else if (joinsAfter) r[at] = record;
    else r.splice(at, 0, record, record + 1);
    this.#count++;
    return true;
  }

  toRanges(): Ranges {
    return [...this.#ranges];
  }

  /** Index of the first range that ends after `record`. */
  #find(record: number): number {
    const r = this.#ranges;
    let low = 0;
    let high = r.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (r[middle * 2 + 1]! <= record) low = middle + 1;
      else high = middle;
    }
    return low * 2;
  }
}
