const DAY_MS = 24 * 3_600_000;
/** Period over which growth is measured. */
const SPAN_MS = 3_600_000;
const EVERY_MS = 5 * 60_000;
/** At the start of a day all continuing series are new at once: that growth says nothing about the rest of the day. */
const SETTLED_MS = 30 * 60_000;

interface Reading {
  at: number;
  keys: number;
}

/** Forecasts the number of series at the end of a UTC day from the growth in the last hour. */
export class DailyForecast {
  #dayMs = 0;
  /** By metric, oldest first. */
  #readings = new Map<string, Reading[]>();

  /** @param counts metrics to follow; all others are removed */
  record(nowMs: number, counts: ReadonlyMap<string, number>): void {
    const dayMs = Math.floor(nowMs / DAY_MS) * DAY_MS;
    const before = dayMs === this.#dayMs ? this.#readings : new Map<string, Reading[]>();
    this.#dayMs = dayMs;
    this.#readings = new Map();
    for (const [metric, keys] of counts) {
      const readings = (before.get(metric) ?? []).filter(({ at }) => nowMs - at <= SPAN_MS);
      const last = readings.at(-1);
      if (nowMs - dayMs >= SETTLED_MS && (!last || nowMs - last.at >= EVERY_MS))
        readings.push({ at: nowMs, keys });
      this.#readings.set(metric, readings);
    }
  }

  /** @returns undefined without enough data */
  at(nowMs: number, metric: string, keys: number): number | undefined {
    const first = this.#readings.get(metric)?.[0];
    if (!first || nowMs - first.at < EVERY_MS) return undefined;
    const growth = Math.max(0, keys - first.keys) / (nowMs - first.at);
    return Math.round(keys + growth * Math.max(0, this.#dayMs + DAY_MS - nowMs));
  }
}
