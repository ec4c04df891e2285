/**
 * Counters, gauges and histograms that are plain numbers until they are scraped; prom-client's registry formats them.
 * prom-client's own instruments build a string of the labels for every value: 0.3 to 0.7 µs, a dozen times per request
 * (`bench/instruments.bench.ts`).
 */

/** Label values by name. A missing label is missing in the exposition. */
export type Labels<L extends string> = Readonly<Partial<Record<L, string | number>>>;

/** One line of the exposition. */
interface Sample {
  labels: Record<string, string | number>;
  value: number;
  /** If it differs from the metric's own name. */
  metricName?: string;
}

interface Options<L extends string> {
  name: string;
  help: string;
  labelNames: readonly L[];
}

/** The cells of one metric, by its label values in order. */
class Cells<L extends string, C> {
  readonly #names: readonly L[];
  readonly #make: () => C;
  /** Nested maps, one level per label; the cells are in the last. */
  readonly #byValue = new Map<unknown, unknown>();
  readonly #all: { labels: Record<string, string | number>; cell: C }[] = [];

  constructor(names: readonly L[], make: () => C) {
    this.#names = names;
    this.#make = make;
    if (names.length === 0) this.of();
  }

  of(labels?: Labels<L>): C {
    const last = this.#names.length - 1;
    let level = this.#byValue;
    for (let i = 0; i < last; i++) {
      const value = labels?.[this.#names[i]!];
      let next = level.get(value) as Map<unknown, unknown> | undefined;
      if (!next) level.set(value, (next = new Map()));
      level = next;
    }
    const value = last < 0 ? undefined : labels?.[this.#names[last]!];
    return (level.get(value) as C | undefined) ?? this.#add(level, value, labels);
  }

  clear(): void {
    this.#byValue.clear();
    this.#all.length = 0;
  }

  *[Symbol.iterator](): Iterator<{ labels: Record<string, string | number>; cell: C }> {
    yield* this.#all;
  }

  #add(level: Map<unknown, unknown>, value: unknown, labels?: Labels<L>): C {
    for (const name of Object.keys(labels ?? {}))
      if (!this.#names.includes(name as L))
        throw new TypeError(`${name} is not a label of this metric; expected ${this.#names.join(', ')}`);
    const cell = this.#make();
    level.set(value, cell);
    this.#all.push({ labels: { ...labels } as Record<string, string | number>, cell });
    return cell;
  }
}

class NumberCell {
  value = 0;
}

abstract class Numbers<L extends string> {
  abstract readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  protected readonly cells: Cells<L, NumberCell>;

  constructor({ name, help, labelNames }: Options<L>) {
    this.name = name;
    this.help = help;
    this.cells = new Cells(labelNames, () => new NumberCell());
  }

  /** What a prom-client registry reads at a scrape. */
  async get() {
    const values: Sample[] = [...this.cells].map(({ labels, cell }) => ({ labels, value: cell.value }));
    return { name: this.name, help: this.help, type: this.type, values, aggregator: 'sum' };
  }
}

export class Counter<L extends string = string> extends Numbers<L> {
  readonly type = 'counter';

  /**
   * Adds one, or `by`.
   * @throws TypeError for a negative value or NaN
   */
  inc(by?: number): void;
  inc(labels: Labels<L>, by?: number): void;
  inc(first: Labels<L> | number = 1, second = 1): void {
    const plain = typeof first === 'number';
    const by = plain ? first : second;
    if (!(by >= 0)) throw new TypeError(`${this.name} cannot count ${by}; expected a number of 0 or more`);
    this.cells.of(plain ? undefined : first).value += by;
  }
}

export class Gauge<L extends string = string> extends Numbers<L> {
  readonly type = 'gauge';

  /** @throws TypeError for NaN */
  set(value: number): void;
  set(labels: Labels<L>, value: number): void;
  set(first: Labels<L> | number, second?: number): void {
    const plain = typeof first === 'number';
    const value = plain ? first : second;
    if (typeof value !== 'number') throw new TypeError(`${this.name} cannot be ${value}; expected a number`);
    this.cells.of(plain ? undefined : first).value = value;
  }

  /** Removes all label values. */
  reset(): void {
    this.cells.clear();
  }
}

/** The observations with the same labels. */
class Distribution {
  readonly #bounds: readonly number[];
  /** Count per bucket; the last one is for values above all bounds. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** @throws TypeError for a value that is not finite */
  observe(value: number): void {
    if (!Number.isFinite(value)) throw new TypeError(`${value} cannot be observed; expected a finite number`);
    let at = 0;
    while (at < this.#bounds.length && value > this.#bounds[at]!) at++;
    this.#counts[at]! += 1;
    this.#sum += value;
  }

  samples(name: string, labels: Record<string, string | number>): Sample[] {
    let count = 0;
    const buckets = Array.from(this.#counts, (own, at) => {
      count += own;
      const le = this.#bounds[at] ?? '+Inf';
      return { labels: { le, ...labels }, value: count, metricName: `${name}_bucket` };
    });
    return [
      ...buckets,
      { labels, value: this.#sum, metricName: `${name}_sum` },
      { labels, value: count, metricName: `${name}_count` },
    ];
  }
}

export class Histogram<L extends string = string> {
  readonly type = 'histogram';
  readonly name: string;
  readonly help: string;
  readonly #cells: Cells<L, Distribution>;

  /** @param options with the upper bounds of its buckets, ascending */
  constructor({ name, help, labelNames, buckets }: Options<L> & { buckets: readonly number[] }) {
    this.name = name;
    this.help = help;
    this.#cells = new Cells(labelNames, () => new Distribution(buckets));
  }

  observe(value: number): void;
  observe(labels: Labels<L>, value: number): void;
  observe(first: Labels<L> | number, second = Number.NaN): void {
    if (typeof first === 'number') this.#cells.of().observe(first);
    else this.#cells.of(first).observe(second);
  }

  /** The histogram with these labels, for many observations. */
  labels(labels: Labels<L>): { observe(value: number): void } {
    return this.#cells.of(labels);
  }

  /** @returns to be called at the end of what is timed */
  startTimer(labels?: Labels<L>): () => void {
    const cell = this.#cells.of(labels);
    const startedAt = performance.now();
    return () => cell.observe((performance.now() - startedAt) / 1000);
  }

  async get() {
    const values = [...this.#cells].flatMap(({ labels, cell }) => cell.samples(this.name, labels));
    return { name: this.name, help: this.help, type: this.type, values, aggregator: 'sum' };
  }
}
