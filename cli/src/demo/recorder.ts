import { oneRun } from '@nrdot/telemetry';
import type { Series } from './finding.ts';

const EVERY_MS = 250;

type Values<N extends string> = Partial<Record<N, number>>;

/** Samples the stage four times a second, for plots and the progress line. */
export class Recorder<N extends string> implements Disposable {
  readonly #startedAt = performance.now();
  readonly #points = new Map<N, Series['points']>();
  readonly #timer: NodeJS.Timeout;

  /** @param read reads the values; while it fails, the pipeline is down and there are none */
  constructor(read: () => Promise<Values<N>>, seen: (values: Values<N>, seconds: number) => void) {
    const record = oneRun(async () => {
      const at = this.seconds;
      const values = await read();
      for (const [name, value] of Object.entries(values) as [N, number][]) {
        const points = this.#points.get(name) ?? [];
        this.#points.set(name, points);
        points.push([at, value]);
      }
      seen(values, at);
    });
    this.#timer = setInterval(() => void record().catch(() => {}), EVERY_MS); // down, drawn as a gap
  }

  /** Since the act began. */
  get seconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  series(...names: N[]): Series[] {
    return names.map((name) => ({ name, points: this.#points.get(name) ?? [] }));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
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
