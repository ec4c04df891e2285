import type { KeyTable } from './key-table.ts';
import type { Metric } from './metric-table.ts';
import type { RequestChanges } from './request-changes.ts';

const DAY_MS = 24 * 3_600_000;
/** Series that wait to be told, 8 bytes each. Beyond it they are not marked, and are noted when they are seen again. */
const WAITING_MAX = 65_536;
const MARKS = 255;

/** Series that wait to be told, of one UTC day: hashes by metric, low and high in turn. */
export interface UntoldSeries {
  day: string;
  series: Map<Metric, number[]>;
}

/**
 * Which series were counted on this UTC day. A key of the table has the mark of the day on which it was counted last, so a series is
 * told once a day and receiver. Pure: what is to be told is taken from here, and the counts of all receivers come back.
 */
export class DailyKeys {
  /** Of this day, 1 to 255; 0 while nothing is counted. */
  mark = 0;
  /** `2026-11-29`, in UTC; empty while nothing is counted. */
  day = '';
  /** Keys still have it after nothing was counted for a while. */
  #lastMark = 0;
  #limit = 0;
  #isEnforced = false;
  #untold: UntoldSeries[] = [];
  /** Of requests that are open or kept, and not told yet. */
  #waiting = 0;

  /** @param limit series of a metric and day; 0: nothing is counted */
  configure(limit: number, isEnforced: boolean): void {
    this.#limit = limit;
    this.#isEnforced = isEnforced;
    if (limit > 0) return;
    this.mark = 0;
    this.day = '';
  }

  get limit(): number {
    return this.#limit;
  }

  get isEnforced(): boolean {
    return this.#isEnforced;
  }

  /** @returns whether a new day has begun: then nothing was counted yet */
  tick(nowMs: number): boolean {
    if (this.#limit === 0) return false;
    const day = new Date(Math.floor(nowMs / DAY_MS) * DAY_MS).toISOString().slice(0, 10);
    if (day === this.day) return false;
    this.day = day;
    this.countAgain();
    return true;
  }

  /** All series are told once more, when they are seen again: Redis has lost its memory. */
  countAgain(): void {
    if (this.day !== '') this.mark = this.#lastMark = (this.#lastMark % MARKS) + 1;
  }

  /** Notes a series that goes out, unless it was counted today. */
  note(changes: RequestChanges, metric: Metric, table: KeyTable, at: number, lo: number, hi: number): void {
    if (this.mark === 0) return;
    const markBefore = table.mark(at);
    if (markBefore === this.mark || this.#waiting >= WAITING_MAX) return;
    table.setMark(at, this.mark);
    this.#waiting++;
    changes.counted.push({ metric, lo, hi, markBefore });
  }

  /**
   * Notes one that has no key yet, or never gets one.
   * @returns the mark for its key
   */
  noteNew(changes: RequestChanges, metric: Metric, lo: number, hi: number): number {
    if (this.mark === 0 || this.#waiting >= WAITING_MAX) return 0;
    this.#waiting++;
    changes.counted.push({ metric, lo, hi, markBefore: -1 });
    return this.mark;
  }

  /** What a request noted goes out with it. */
  keep({ counted }: RequestChanges): void {
    if (counted.length === 0) return;
    let last = this.#untold.at(-1);
    if (last?.day !== this.day) this.#untold.push((last = { day: this.day, series: new Map() }));
    let metric: Metric | undefined;
    let hashes: number[] = [];
    for (const one of counted) {
      if (one.metric !== metric) {
        metric = one.metric;
        hashes = last.series.get(metric) ?? [];
        last.series.set(metric, hashes);
      }
      hashes.push(one.lo, one.hi);
    }
  }

  /** So many are not on their way any more: their request was undone, or they were told. */
  forget(series: number): void {
    this.#waiting -= series;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** All that is to be told; to be given back, or forgotten once it was. */
  take(): UntoldSeries[] {
    return this.#untold.splice(0);
  }

  giveBack(untold: readonly UntoldSeries[]): void {
    this.#untold.unshift(...untold);
  }

  /**
   * Whether new series of a metric have to stay out.
   * @param isMerged others are merged into it: the last of the budget is for those
   */
  isUsedUp(metric: Metric, isMerged: boolean): boolean {
    if (!this.#isEnforced || this.#limit === 0 || metric.id === 0) return false;
    const kept = isMerged ? 0 : Math.max(this.#limit >> 6, Math.min(16, this.#limit >> 3));
    return metric.dailyKeys + metric.dailyNew >= this.#limit - kept;
  }

  /** Whether another receiver may find it used up before this one does. */
  isNearlyUsedUp({ id, dailyKeys, dailyNew }: Metric): boolean {
    return this.#isEnforced && this.#limit > 0 && id !== 0 && 2 * (dailyKeys + dailyNew) >= this.#limit;
  }
}
