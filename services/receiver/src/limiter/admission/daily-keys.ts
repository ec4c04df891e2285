import type { KeyTable } from './key-table.ts';
import type { Metric } from './metric-table.ts';
import type { RequestChanges } from './request-changes.ts';

const DAY_MS = 24 * 3_600_000;
/**
 * Maximum number of unreported series, 8 bytes each. Beyond it series are not marked, so that they are noted when they are seen
 * again.
 */
const WAITING_MAX = 65_536;
const MARKS = 255;

/** Unreported series of one UTC day: hashes by metric, low and high in turn. */
export interface UntoldSeries {
  day: string;
  series: Map<Metric, number[]>;
}

/**
 * Which series were counted on this UTC day. A key in the table has the mark of the day on which it was last counted, so that
 * each receiver reports a series once a day. Pure: the caller takes unreported series from here and passes the counts of all
 * receivers back.
 */
export class DailyKeys {
  /** Mark of this day, 1 to 255; 0 while nothing is counted. */
  mark = 0;
  /** `2026-11-29`, in UTC; empty while nothing is counted. */
  day = '';
  /** Keys may still have this mark after counting was off for a while. */
  #lastMark = 0;
  limit = 0;
  isEnforced = false;
  #untold: UntoldSeries[] = [];
  /** Unreported series of open and kept requests. */
  waiting = 0;

  /** @param limit series per metric and day; 0 turns counting off */
  configure(limit: number, isEnforced: boolean): void {
    this.limit = limit;
    this.isEnforced = isEnforced;
    if (limit > 0) return;
    this.mark = 0;
    this.day = '';
  }

  /** @returns whether a new day has begun, for which nothing was counted yet */
  tick(nowMs: number): boolean {
    if (this.limit === 0) return false;
    const day = new Date(Math.floor(nowMs / DAY_MS) * DAY_MS).toISOString().slice(0, 10);
    if (day === this.day) return false;
    this.day = day;
    this.countAgain();
    return true;
  }

  /** Makes all series be reported again when they are seen again, because Redis has lost its data. */
  countAgain(): void {
    if (this.day !== '') this.mark = this.#lastMark = (this.#lastMark % MARKS) + 1;
  }

  /** Notes a series that is sent, unless it was counted today. */
  note(changes: RequestChanges, metric: Metric, table: KeyTable, at: number, lo: number, hi: number): void {
    if (this.mark === 0) return;
    const markBefore = table.mark(at);
    if (markBefore === this.mark || this.waiting >= WAITING_MAX) return;
    table.setMark(at, this.mark);
    this.waiting++;
    changes.counted.push({ metric, lo, hi, markBefore });
  }

  /**
   * Notes a series that has no key yet, or never gets one.
   * @returns the mark for its key
   */
  noteNew(changes: RequestChanges, metric: Metric, lo: number, hi: number): number {
    if (this.mark === 0 || this.waiting >= WAITING_MAX) return 0;
    this.waiting++;
    changes.counted.push({ metric, lo, hi, markBefore: -1 });
    return this.mark;
  }

  /** Makes what a kept request noted reportable. */
  keep({ counted }: RequestChanges): void {
    if (counted.length === 0) return;
    let last = this.#untold.at(-1);
    if (last?.day !== this.day) this.#untold.push((last = { day: this.day, series: new Map() }));
    for (const { metric, lo, hi } of counted) {
      const hashes = last.series.get(metric);
      if (hashes) hashes.push(lo, hi);
      else last.series.set(metric, [lo, hi]);
    }
  }

  /** Subtracts series from the unreported ones: they were reported, or their request was undone. */
  forget(series: number): void {
    this.waiting -= series;
  }

  /** Takes all unreported series; to be given back, or forgotten once they were reported. */
  take(): UntoldSeries[] {
    return this.#untold.splice(0);
  }

  giveBack(untold: readonly UntoldSeries[]): void {
    this.#untold.unshift(...untold);
  }

  /**
   * Whether new series of a metric must be kept out.
   * @param isMerged it is a stream that others are merged into: the last part of the budget is reserved for those
   */
  isUsedUp(metric: Metric, isMerged: boolean): boolean {
    if (!this.isEnforced || this.limit === 0 || metric.id === 0) return false;
    const kept = isMerged ? 0 : Math.max(this.limit >> 6, Math.min(16, this.limit >> 3));
    return metric.dailyKeys + metric.dailyNew >= this.limit - kept;
  }

  /** Whether the budget is so nearly used up that other receivers may see it exceeded first. */
  isNearlyUsedUp({ id, dailyKeys, dailyNew }: Metric): boolean {
    return this.isEnforced && this.limit > 0 && id !== 0 && 2 * (dailyKeys + dailyNew) >= this.limit;
  }
}
