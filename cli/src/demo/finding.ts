/** A promise of the product, and what was measured of it. */
export interface Finding {
  promise: string;
  /** In words, with its unit. */
  measured: string;
  held: boolean;
}

/** One line of a plot: values over time. */
export interface Series {
  name: string;
  /** Seconds since the act began, and the value then. */
  points: [number, number][];
}

export interface Plot {
  title: string;
  unit: string;
  series: Series[];
  /** What happened when: seconds since the act began. */
  marks: [number, string][];
  /** A limit, drawn as a line. */
  limit?: { name: string; value: number };
}

/** What an act of the demo has to show for itself. */
export interface ActResult {
  title: string;
  /** What was done, in a sentence or two. */
  story: string;
  findings: Finding[];
  plots: Plot[];
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
