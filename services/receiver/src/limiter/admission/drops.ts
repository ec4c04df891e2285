import type { Label, Metric } from './metric-table.ts';

export type DropReason =
  | 'critical'
  | 'full'
  | 'daily'
  | 'unmergeable'
  | 'not_finite'
  | 'tracker_full'
  | 'histogram_bounds';

/** Points of one request dropped for the same reason. */
export interface Dropped {
  metric: string;
  /** Empty if no label was the cause. */
  label: string;
  reason: DropReason;
  count: number;
}

/** Maximum number of rows reported to a client; the rest is summed up. */
const ROWS_MAX = 64;

/** Counts drops of one request by metric, label and reason. */
export class Drops {
  readonly rows: Dropped[] = [];
  total = 0;
  #metric: Metric | undefined;
  #label: Label | undefined;
  #row: Dropped | undefined;

  add(metric: Metric, label: Label | undefined, reason: DropReason): void {
    this.total++;
    if (this.#row && this.#metric === metric && this.#label === label && this.#row.reason === reason) {
      this.#row.count++;
      return;
    }
    this.#metric = metric;
    this.#label = label;
    const wanted = { metric: metric.name, label: label?.name ?? '' };
    let row = this.#find(wanted.metric, wanted.label, reason);
    if (!row && this.rows.length >= ROWS_MAX) {
      wanted.metric = '(others)';
      wanted.label = '';
      row = this.#find(wanted.metric, wanted.label, reason);
    }
    if (!row) {
      row = { ...wanted, reason, count: 0 };
      this.rows.push(row);
    }
    row.count++;
    this.#row = row;
  }

  #find(metric: string, label: string, reason: DropReason): Dropped | undefined {
    return this.rows.find((row) => row.metric === metric && row.label === label && row.reason === reason);
  }
}
