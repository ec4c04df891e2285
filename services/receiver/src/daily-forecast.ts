const DAY_MS = 24 * 3_600_000;
/** Growth is taken over this. */
const SPAN_MS = 3_600_000;
const EVERY_MS = 5 * 60_000;
/** All series of yesterday that go on come first in a day: what grows then says nothing about the rest of it. */
const SETTLED_MS = 30 * 60_000;

interface Reading {
  at: number;
  keys: number;
}

/** How many series there will be at the end of a UTC day, by how their number has grown in the last hour. */
export class DailyForecast {
  #dayMs = 0;
  /** By metric, oldest first. */
  #readings = new Map<string, Reading[]>();

  /** @param counts of the metrics that are followed: the others are forgotten */
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

  /** @returns undefined while there is too little to go by */
  at(nowMs: number, metric: string, keys: number): number | undefined {
    const first = this.#readings.get(metric)?.[0];
    if (!first || nowMs - first.at < EVERY_MS) return undefined;
    const growth = Math.max(0, keys - first.keys) / (nowMs - first.at);
    return Math.round(keys + growth * Math.max(0, this.#dayMs + DAY_MS - nowMs));
  }
}
