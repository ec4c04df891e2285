import type { Series } from './finding.ts';

const EVERY_MS = 250;

/** Samples the stage four times a second, for plots and the progress line. */
export class Recorder<N extends string> implements Disposable {
  readonly #startedAt = performance.now();
  readonly #series = new Map<N, Series>();
  readonly #read: () => Promise<Partial<Record<N, number>>>;
  readonly #seen: (values: Partial<Record<N, number>>, seconds: number) => void;
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  /**
   * @param names of the values, in the order of plots
   * @param read reads the values; while it fails, the pipeline is down and there are none
   */
  constructor(
    names: readonly N[],
    read: () => Promise<Partial<Record<N, number>>>,
    seen: (values: Partial<Record<N, number>>, seconds: number) => void,
  ) {
    for (const name of names) this.#series.set(name, { name, points: [] });
    this.#read = read;
    this.#seen = seen;
    this.#timer = setInterval(() => void this.#record(), EVERY_MS);
  }

  /** Since the act began. */
  get seconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  series(...names: N[]): Series[] {
    return names.map((name) => this.#series.get(name)!);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  async #record(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const at = this.seconds;
    try {
      const values = await this.#read();
      for (const [name, value] of Object.entries(values) as [N, number][])
        this.#series.get(name)!.points.push([at, value]);
      this.#seen(values, at);
    } catch {
      // down, drawn as a gap
    } finally {
      this.#looking = false;
    }
  }
}

/**
 * Maximum growth of a counter in any window of so many seconds, per second.
 * @param points seconds by the counter's own clock, and the count
 */
export function steepest(points: readonly (readonly [number, number])[], windowSeconds: number): number {
  let most = 0;
  let from = 0;
  for (const [at, value] of points) {
    while (at - (points[from + 1]?.[0] ?? at) >= windowSeconds) from++;
    const [since, before] = points[from]!;
    // A counter that has decreased was reset by a restart of its process.
    if (at - since >= windowSeconds && value > before) most = Math.max(most, (value - before) / (at - since));
  }
  return most;
}

/** Growth of a counter per second, over windows of about a second. */
export function rateOf({ name, points }: Series): Series {
  const rates: [number, number][] = [];
  let from = 0;
  for (const [at, value] of points) {
    while (at - points[from]![0] > 1) from++;
    const [since, before] = points[from]!;
    if (at > since) rates.push([at, Math.max(0, value - before) / (at - since)]);
  }
  return { name, points: rates };
}
