/** Readings kept per counter: enough for the longest span at one per second. */
const READINGS_MAX = 32;

/**
 * Rates of counters that several sources report from time to time. Each reading has the time at which it was taken, so that a
 * late one causes no spike.
 */
export class RateMeter {
  readonly #spanMs: number;
  readonly #staleMs: number;
  readonly #everyMs: number;
  readonly #counters = new Map<string, Map<string, { at: number; value: number }[]>>();

  /**
   * @param spanMs approximate period over which a rate is computed
   * @param staleMs a source that is silent for longer counts as standing still, and is removed
   * @param everyMs minimum time between readings; others are skipped, so that those kept cover the span
   */
  constructor(spanMs: number, staleMs: number, everyMs = 1) {
    this.#spanMs = spanMs;
    this.#staleMs = staleMs;
    this.#everyMs = everyMs;
  }

  record(counter: string, source: string, value: number, at: number): void {
    let sources = this.#counters.get(counter);
    if (!sources) this.#counters.set(counter, (sources = new Map()));
    let readings = sources.get(source);
    if (!readings) sources.set(source, (readings = []));
    const last = readings.at(-1);
    if (last && at - last.at < this.#everyMs) return;
    if (last && value < last.value) readings.length = 0; // the counter was reset
    readings.push({ at, value });
    if (readings.length > READINGS_MAX) readings.shift();
  }

  /** Per second, all sources together; 0 until a counter has two readings. */
  perSecond(counter: string, now: number): number {
    let sum = 0;
    const sources = this.#counters.get(counter);
    for (const [source, readings] of sources ?? []) {
      const last = readings.at(-1)!;
      if (now - last.at > this.#staleMs) {
        sources!.delete(source);
        continue;
      }
      const from = readings.findLast(({ at }) => last.at - at >= this.#spanMs) ?? readings[0]!;
      if (last.at > from.at) sum += ((last.value - from.value) * 1_000) / (last.at - from.at);
    }
    return sum;
  }
}
