/**
 * The content of a dashboard: rows, panels, queries. Everything else (ids, positions, datasource, variables) is the same for
 * all, and added by `grafana.ts` and `new-relic.ts`.
 */
import type { Measure } from './measure.ts';

type Colour = 'green' | 'yellow' | 'orange' | 'red' | 'blue';
/** The colour from this value on. The first one has no value: it applies from the lowest on. */
type Threshold = readonly [from: number | null, colour: Colour];

export interface Panel {
  type: 'stat' | 'timeseries' | 'gauge' | 'state-timeline';
  title: string;
  /** What it shows and how to interpret it. */
  description: string;
  unit: string;
  /** In the legend, `{{label}}` stands for its value. */
  queries: readonly { legend: string; measure: Measure }[];
  /** Of 24. */
  width: number;
  height: number;
  thresholds?: readonly Threshold[];
  /** Names for values. */
  names?: Readonly<Record<number, readonly [text: string, colour: Colour]>>;
  max?: number;
  stacked?: boolean;
}

export interface Board {
  uid: string;
  title: string;
  description: string;
  /** By title. */
  rows: Readonly<Record<string, readonly Panel[]>>;
}

type Extra = Partial<Omit<Panel, 'type' | 'title' | 'description' | 'unit' | 'queries'>>;
type OneValue = (title: string, description: string, unit: string, measure: Measure, extra?: Extra) => Panel;

export const BLUE: readonly Threshold[] = [[null, 'blue']];

export function greenUntil(...steps: Threshold[]): readonly Threshold[] {
  return [[null, 'green'], ...steps];
}

/** One number with its history behind it. */
export const stat: OneValue = (title, description, unit, measure, extra) => ({
  ...graph(title, description, unit, { '': measure }, { width: 4, height: 5, ...extra }),
  type: 'stat',
});

/** One number on an arc from 0 to `max`. */
export const gauge: OneValue = (title, description, unit, measure, extra) => ({
  ...stat(title, description, unit, measure, { max: 1, ...extra }),
  type: 'gauge',
});

/** Lines over time, by legend. */
export function graph(
  title: string,
  description: string,
  unit: string,
  lines: Readonly<Record<string, Measure>>,
  extra: Extra = {},
): Panel {
  const queries = Object.entries(lines).map(([legend, measure]) => ({ legend, measure }));
  return { type: 'timeseries', title, description, unit, queries, width: 12, height: 8, ...extra };
}

/** Lines above each other, by legend. */
export const areas: typeof graph = (title, description, unit, lines, extra) =>
  graph(title, description, unit, lines, { stacked: true, ...extra });

/** Panels that have something in common, such as their width. */
export function alike(common: Extra, panels: readonly Panel[]): Panel[] {
  return panels.map((panel) => ({ ...panel, ...common }));
}

/** States over time. */
export function timeline(
  title: string,
  description: string,
  lines: Readonly<Record<string, Measure>>,
  names: NonNullable<Panel['names']>,
  extra: Extra,
): Panel {
  return { ...graph(title, description, 'none', lines, { names, ...extra }), type: 'state-timeline' };
}
