/** Kinds of metrics, by the field number of their data in `Metric`. */
export const GAUGE = 5;
export const SUM = 7;
export const HISTOGRAM = 9;
export const EXPONENTIAL = 10;

export const DELTA = 1;
export const CUMULATIVE = 2;

/** Field number of the attributes in a data point, by kind; 0 for other numbers. */
export const ATTRIBUTES_FIELD: readonly number[] = [0, 0, 0, 0, 0, 7, 0, 7, 0, 9, 1, 7];
