/**
 * The content of a dashboard: rows, panels, queries. Everything else (ids, positions, datasource, variables) is the same for
 * all, and added by `grafana.ts` and `new-relic.ts`.
 */
import type { Measure } from './measure.ts';

export interface Query {
  measure: Measure;
  /** `{{label}}` stands for its value. */
  legend?: string;
}

/** The colour from this value on. The first one has no value: it applies from the lowest on. */
export type Threshold = readonly [
  from: number | null,
  colour: 'green' | 'yellow' | 'orange' | 'red' | 'blue',
];

export interface Panel {
  type: 'stat' | 'timeseries' | 'gauge' | 'state-timeline';
  title: string;
  /** What it shows and how to interpret it. */
  description: string;
  unit: string;
  queries: readonly Query[];
  /** Of 24. */
  width: number;
  height: number;
  thresholds?: readonly Threshold[];
  /** Names for values. */
  names?: Readonly<Record<number, readonly [text: string, colour: string]>>;
  max?: number;
  stacked?: boolean;
}

export interface Row {
  title: string;
  panels: readonly Panel[];
}

export interface Board {
  uid: string;
  title: string;
  description: string;
  rows: readonly Row[];
}

type Extra = Partial<Pick<Panel, 'thresholds' | 'names' | 'max' | 'width' | 'height' | 'stacked'>>;

/** One number with its history behind it. */
export function stat(
  title: string,
  description: string,
  unit: string,
  measure: Measure,
  extra: Extra = {},
): Panel {
  return { type: 'stat', title, description, unit, queries: [{ measure }], width: 4, height: 4, ...extra };
}

/** One number on an arc from 0 to `max`. */
export function gauge(
  title: string,
  description: string,
  unit: string,
  measure: Measure,
  extra: Extra = {},
): Panel {
  return {
    type: 'gauge',
    title,
    description,
    unit,
    queries: [{ measure }],
    width: 4,
    height: 5,
    max: 1,
    ...extra,
  };
}

/** Lines over time. */
export function graph(
  title: string,
  description: string,
  unit: string,
  queries: readonly (readonly [legend: string, measure: Measure])[],
  extra: Extra = {},
): Panel {
  return {
    type: 'timeseries',
    title,
    description,
    unit,
    queries: queries.map(([legend, measure]) => ({ legend, measure })),
    width: 12,
    height: 8,
    ...extra,
  };
}

/** States over time. */
export function timeline(
  title: string,
  description: string,
  queries: readonly (readonly [legend: string, measure: Measure])[],
  names: NonNullable<Panel['names']>,
  extra: Extra = {},
): Panel {
  return { ...graph(title, description, 'none', queries, { names, ...extra }), type: 'state-timeline' };
}
