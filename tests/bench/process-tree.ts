/** What the operating system says about a process and all that it started. Linux. */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks to ms. Linux has shown 100 ticks a second to programs since ever, whatever its own rate. */
export const TICK_MS = 10;

/** Ids of a process and its descendants; those that ended are left out. */
export function treeOf(roots: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const fields = statOf(pid);
    if (!fields) continue;
    const parent = Number(fields[1]);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found: number[] = [];
  const visit = (pid: number) => {
    found.push(pid);
    for (const child of children.get(pid) ?? []) visit(child);
  };
  for (const root of roots) visit(root);
  return found;
}

/**
 * CPU time in ms of a process, user and kernel, with that of its children that ended: a Redis that rewrites its AOF
 * does so in a child.
 */
export function cpuMs(pid: number): number {
  const fields = statOf(pid);
  if (!fields) return 0;
  return [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0) * TICK_MS;
}

export interface Memory {
  rssBytes: number;
  pssBytes: number;
}

/** Memory of a process now: resident, and with what it shares divided among those that share it. */
export function memoryOf(pid: number): Memory {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
    return { rssBytes: kib('Rss') * 1024, pssBytes: kib('Pss') * 1024 };
  } catch {
    return { rssBytes: 0, pssBytes: 0 };
  }
}

/** Name of a process's program. */
export function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '?';
  }
}

/** Fields of /proc/PID/stat from the third on: the second, the name, may have anything in it. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
