/**
 * Whether a promise held. `unmeasured`: this machine was too slow, or other load prevented a verdict; a promise that is known
 * to be broken is `broken`.
 */
export type Outcome = 'held' | 'broken' | 'unmeasured';

/** A promise of the product, and the measurement. */
export interface Finding {
  promise: string;
  /** For people, with its unit; or why it could not be measured. */
  measured: string;
  outcome: Outcome;
}

/** One line of a plot: values over time. */
export interface Series {
  name: string;
  /** Seconds since the act began, and the value. */
  points: [number, number][];
}

export interface Plot {
  title: string;
  unit: string;
  series: Series[];
  /** Events: seconds since the act began, and a label. */
  marks: [number, string][];
  /** A limit, drawn as a line. */
  limit?: { name: string; value: number };
}

/** The result of an act of the demo. */
export interface ActResult {
  title: string;
  /** What was done, in a sentence or two. */
  story: string;
  findings: Finding[];
  plots: Plot[];
}

/** @param doubt why a promise that seems broken may not be; empty if there is no doubt */
export function finding(promise: string, measured: string, held: boolean, doubt = ''): Finding {
  if (held) return { promise, measured, outcome: 'held' };
  return doubt ? unmeasured(promise, `${measured}; ${doubt}`) : { promise, measured, outcome: 'broken' };
}

export function unmeasured(promise: string, reason: string): Finding {
  return { promise, measured: `could not be measured here: ${reason}`, outcome: 'unmeasured' };
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
