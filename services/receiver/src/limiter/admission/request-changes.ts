import type { DailyKeys } from './daily-keys.ts';
import type { KeyTable } from './key-table.ts';
import type { Label, Metric, MetricTable } from './metric-table.ts';

interface RuleChange {
  metric: Metric;
  label: Label;
  wasRemoved: boolean;
  removedAtMs: number;
  ruleSinceMs: number;
}

interface KeyChange {
  lo: number;
  hi: number;
  metricId: number;
  seenSec: number;
}

/** A series that is sent for the first time on this UTC day, as far as this receiver knows. */
interface CountedSeries {
  metric: Metric;
  lo: number;
  hi: number;
  /** The key's previous mark; -1 if it has no key. */
  markBefore: number;
}

/**
 * What one request has changed in the key table and the rules: shared with other receivers in the step that makes the request
 * durable, and reverted if that step fails.
 */
export class RequestChanges {
  /** Hashes, low and high in turn: inserted keys. */
  readonly inserted: number[] = [];
  /** Keys last seen so long ago that they must be reported to Redis again. */
  readonly remembered: number[] = [];
  /** Cumulative streams that pass unmerged, among inserted and remembered keys. */
  readonly counting: number[] = [];
  /** Streams that are forwarded without a key in the table. */
  readonly forwarded: number[] = [];
  /** Series that were not seen before today. */
  readonly counted: CountedSeries[] = [];
  /** Metrics whose rule has changed. */
  readonly rules = new Set<Metric>();
  /** An unknown key-set was refused or lost a label, though another receiver may know it. */
  hasRefused = false;
  /** It has cumulative points and labels may be stripped at any time. */
  reliesOnRules = false;
  readonly #touched: KeyChange[] = [];
  readonly #removed: KeyChange[] = [];
  readonly #ruleChanges: RuleChange[] = [];
  readonly #counting: Metric[] = [];

  /** Records that a known key from an earlier generation was seen. */
  touched(lo: number, hi: number, seenSec: number, counts: boolean): void {
    this.#touched.push({ lo, hi, metricId: 0, seenSec });
    this.remembered.push(lo, hi);
    if (counts) this.counting.push(lo, hi);
  }

  removed(lo: number, hi: number, metricId: number, seenSec: number): void {
    this.#removed.push({ lo, hi, metricId, seenSec });
  }

  /** Hashes of removed keys, low and high in turn. */
  get gone(): number[] {
    return this.#removed.length === 0 ? [] : this.#removed.flatMap(({ lo, hi }) => [lo, hi]);
  }

  /** To be called before the label changes. */
  ruleChanges(metric: Metric, label: Label): void {
    const { removed: wasRemoved, removedAtMs } = label;
    this.#ruleChanges.push({ metric, label, wasRemoved, removedAtMs, ruleSinceMs: metric.ruleSinceMs });
    this.rules.add(metric);
  }

  /** Records that counters of a metric are merged: from now on its rule does not end by itself. */
  counts(metric: Metric): void {
    metric.mergedCounts = true;
    this.#counting.push(metric);
    this.rules.add(metric);
  }

  undo(table: KeyTable, metrics: MetricTable, daily: DailyKeys): void {
    for (const { lo, hi, markBefore } of this.counted) {
      const at = markBefore < 0 ? -1 : table.find(lo, hi);
      if (at >= 0) table.setMark(at, markBefore);
    }
    daily.forget(this.counted.length);
    for (const metric of this.#counting) metric.mergedCounts = false;
    for (const { metric, label, wasRemoved, removedAtMs, ruleSinceMs } of this.#ruleChanges.reverse())
      metric.setRemoved(label, wasRemoved, removedAtMs, ruleSinceMs);
    for (const { lo, hi, metricId, seenSec } of this.#removed) {
      if (table.find(lo, hi) >= 0 || !table.add(lo, hi, metricId, seenSec)) continue;
      metrics.byId(metricId).keys++;
    }
    for (const { lo, hi, seenSec } of this.#touched) {
      const at = table.find(lo, hi);
      if (at >= 0) table.setSeen(at, seenSec);
    }
    for (let i = 0; i < this.inserted.length; i += 2) {
      const at = table.find(this.inserted[i]!, this.inserted[i + 1]!);
      if (at < 0) continue;
      const metric = metrics.byId(table.metricId(at));
      metric.keys--;
      metric.dailyNew = Math.max(0, metric.dailyNew - 1);
      table.remove(at);
    }
  }
}
