/** What was measured, in one file that is written after each case: a run that is cut short leaves what it had. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Machine } from './machine.ts';
import type { Measurement } from './measure.ts';
import type { ProfileResult } from './profile.ts';
import type { System } from './system.ts';

/** A load on a system. */
export interface Result {
  suite: string;
  system: string;
  durability: System['durability'];
  /** Of a peer. */
  version?: string;
  case: string;
  repetition: number;
  commit: string;
  /** Cores that others than the benchmark kept busy just before and after, the more of both. */
  others: number;
  measurement: Measurement;
}

/** One place on a curve of how a cost grows. */
export interface GrowthPoint {
  growth: string;
  x: number;
  repetition: number;
  commit: string;
  /** As above, just after. */
  others: number;
  values: Record<string, number>;
}

export interface Results {
  machine: Machine;
  /** Why a peer is left out. */
  notes: string[];
  loads: Result[];
  growth: GrowthPoint[];
  profile?: ProfileResult & { commit: string };
}

/** What the file has, when it was made on this machine; nothing otherwise. */
export function readResults(file: string, machine: Machine): Results {
  const fresh: Results = { machine, notes: [], loads: [], growth: [] };
  if (!existsSync(file)) return fresh;
  const found = JSON.parse(readFileSync(file, 'utf8')) as Results;
  if (found.machine.cpu !== machine.cpu || found.machine.cores !== machine.cores) return fresh;
  return { ...found, machine, notes: [] };
}

/** Whole or not at all. */
export function writeResults(file: string, results: Results): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(results)}\n`);
  renameSync(`${file}.new`, file);
}
