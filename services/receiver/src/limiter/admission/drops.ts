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
  /** Of the last drop. */
  #row: Dropped | undefined;

  add(metric: Metric, label: Label | undefined, reason: DropReason): void {
    this.total++;
    if (this.#metric !== metric || this.#label !== label || this.#row?.reason !== reason) {
      this.#metric = metric;
      this.#label = label;
      this.#row =
        this.#find(metric.name, label?.name ?? '', reason) ?? this.#find('(others)', '', reason, true)!;
    }
    this.#row.count++;
  }

  /** @param anyway adds a row even if there are too many */
  #find(metric: string, label: string, reason: DropReason, anyway = false): Dropped | undefined {
    let row = this.rows.find((one) => one.metric === metric && one.label === label && one.reason === reason);
    if (!row && (anyway || this.rows.length < ROWS_MAX))
      this.rows.push((row = { metric, label, reason, count: 0 }));
    return row;
  }
}
