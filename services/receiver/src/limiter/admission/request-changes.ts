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

/** A series that goes out for the first time on this UTC day, as far as this receiver knows. */
interface CountedSeries {
  metric: Metric;
  lo: number;
  hi: number;
  /** The mark that its key had; -1 when it has no key. */
  markBefore: number;
}

/**
 * What one request changed in the table of keys and in the rules of metrics, so that it can be told to the other receivers with
 * the step that makes it durable, and be taken back when that step fails.
 */
export class RequestChanges {
  /** Hashes, low and high in turn: keys that came in. */
  readonly inserted: number[] = [];
  /** Keys that were last seen so long ago that Redis has to hear of them again. */
  readonly remembered: number[] = [];
  /** Cumulative streams that go by themselves, of the keys that came in or are remembered. */
  readonly counting: number[] = [];
  /** Streams that are forwarded without a place in the table. */
  readonly forwarded: number[] = [];
  /** Series that this request is the first of today to bring. */
  readonly counted: CountedSeries[] = [];
  /** Metrics whose rule is another one now. */
  readonly rules = new Set<Metric>();
  /** A key-set that is not known here was refused or lost a label: another receiver may know it. */
  hasRefused = false;
  /** It has cumulative points, and labels may be given up at any time. */
  reliesOnRules = false;
  readonly #touched: KeyChange[] = [];
  readonly #removed: KeyChange[] = [];
  readonly #ruleChanges: RuleChange[] = [];
  readonly #counting: Metric[] = [];

  /** A key that was known, and was last seen in an earlier generation. */
  touched(lo: number, hi: number, seenSec: number, counts: boolean): void {
    this.#touched.push({ lo, hi, metricId: 0, seenSec });
    this.remembered.push(lo, hi);
    if (counts) this.counting.push(lo, hi);
  }

  removed(lo: number, hi: number, metricId: number, seenSec: number): void {
    this.#removed.push({ lo, hi, metricId, seenSec });
  }

  /** Hashes of keys that are none any more, low and high in turn. */
  get gone(): number[] {
    return this.#removed.length === 0 ? [] : this.#removed.flatMap(({ lo, hi }) => [lo, hi]);
  }

  /** To be called before the label changes. */
  ruleChanges(metric: Metric, label: Label): void {
    const { removed: wasRemoved, removedAtMs } = label;
    this.#ruleChanges.push({ metric, label, wasRemoved, removedAtMs, ruleSinceMs: metric.ruleSinceMs });
    this.rules.add(metric);
  }

  /** The first counters of a metric are merged: from now on its rule does not end by itself. */
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
      if (table.find(lo, hi) >= 0 || !table.insert(lo, hi, metricId, seenSec)) continue;
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
