/** How costs grow: what a curve is, and the curves there are. */
import type { RunningSystem } from '../system.ts';
import { type Form, ourForm } from '../systems.ts';
import type { Sink } from '../upstream.ts';
import { backlog } from './backlog.ts';
import { disk } from './disk.ts';
import { drain } from './drain.ts';
import { exporters } from './exporters.ts';
import { keySets } from './key-sets.ts';
import { receivers } from './receivers.ts';

export interface Stand {
  /** A directory of its own, removed afterwards. */
  dir: string;
  sink: Sink;
  /** For a look at how far it is. */
  say(line: string): void;
}

export interface Chart {
  name: string;
  title: string;
  unit: string;
  /** Keys of the values, with what the line is called. */
  lines: Record<string, string>;
}

export interface Growth {
  title: string;
  /** What is done, and what the curves are expected to look like. */
  about: string;
  /** What grows. */
  x: string;
  /** How it is written. */
  show: (x: number) => string;
  scale: 'linear' | 'log';
  charts: Chart[];
  /** Where it is measured, from the least on. */
  points: readonly number[];
  /** About how long these take, in seconds. */
  seconds: number;
  /** What --long adds: points further on, which take minutes. */
  long?: { points: readonly number[]; seconds: number };
  run(stand: Stand, points: readonly number[]): AsyncIterable<{ x: number; values: Record<string, number> }>;
}

export const GROWTH: Record<string, Growth> = { backlog, drain, disk, keySets, exporters, receivers };

/** The points of a curve: the usual ones, or all of them. */
export function pointsOf(growth: Growth, long: boolean): readonly number[] {
  return [...growth.points, ...(long ? (growth.long?.points ?? []) : [])];
}

/** What is measured, with more than the defaults. */
export function form(options: Form['options'] = {}): Form {
  return { from: ourForm(), options };
}

/** Whole numbers as people write them: 10k, 1M. */
export function short(n: number): string {
  if (n >= 1e6) return `${Number((n / 1e6).toFixed(1))}M`;
  if (n >= 1e3) return `${Number((n / 1e3).toFixed(1))}k`;
  return String(n);
}

/** Sum of what each process used. */
export function total(byName: Record<string, number>): number {
  return Object.values(byName).reduce((sum, n) => sum + n, 0);
}

/** How much more each process has used, in all. */
export function spentMs(before: Record<string, number>, after: Record<string, number>): number {
  return total(after) - total(before);
}

export type { RunningSystem };
