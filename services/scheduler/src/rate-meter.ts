/** Readings kept of one counter: enough for the longest span at one a second. */
const READINGS_MAX = 32;

/**
 * Rates of counters that are read now and then, by several sources: each source's readings carry the time at which
 * they were true, so that one that came late makes no spike.
 */
export class RateMeter {
  readonly #spanMs: number;
  readonly #staleMs: number;
  readonly #everyMs: number;
  readonly #counters = new Map<string, Map<string, { at: number; value: number }[]>>();

  /**
   * @param spanMs a rate is taken over about this time
   * @param staleMs a source that has been silent for longer counts as standing still, and is forgotten
   * @param everyMs readings that come sooner after one are left out, so that those kept reach back over the span
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
    if (last && value < last.value) readings.length = 0; // it began anew
    readings.push({ at, value });
    if (readings.length > READINGS_MAX) readings.shift();
  }

  /** Per second, all sources together; 0 until a counter has been read twice. */
  perSecond(counter: string, now: number): number {
    let sum = 0;
    const sources = this.#counters.get(counter) ?? new Map<string, { at: number; value: number }[]>();
    for (const [source, readings] of sources) {
      const last = readings.at(-1);
      if (!last || now - last.at > this.#staleMs) {
        sources.delete(source);
        continue;
      }
      const from = readings.findLast(({ at }) => last.at - at >= this.#spanMs) ?? readings[0];
      if (from && last.at > from.at) sum += ((last.value - from.value) * 1_000) / (last.at - from.at);
    }
    return sum;
  }
}
