/** What others than the benchmark take of the machine, and measurements that are taken again when that is too much. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from './clock.ts';
import { cpuMs, TICK_MS, treeOf } from './process-tree.ts';

/** More than that, in cores, and a measurement is taken again. */
export const MOST_BY_OTHERS = 0.5;
const LOOK_MS = 500;
/** In /proc/stat after "cpu": user, nice, system, irq, softirq, and what a hypervisor gave to others. */
const BUSY = [1, 2, 3, 6, 7, 8];

/** Cores that others keep busy: all of the machine's CPU time over half a second, without that of the benchmark's own tree. */
export async function coresOfOthers(): Promise<number> {
  const look = () => ({ atMs: monotonicMs(), busyMs: busyMs(), ownMs: ownMs() });
  const before = look();
  await sleep(LOOK_MS);
  const after = look();
  const others = after.busyMs - before.busyMs - (after.ownMs - before.ownMs);
  return Math.max(0, others / (after.atMs - before.atMs));
}

/**
 * Measures while others leave the machine alone: it looks before and after, when what is measured has nothing to do.
 * @returns the first measurement that was not disturbed, otherwise the least disturbed, and by how many cores that was
 */
export async function undisturbed<T>(
  measure: () => Promise<T>,
  attempts: number,
  say: (line: string) => void,
  look = coresOfOthers,
): Promise<{ value: T; others: number }> {
  const taken: { value: T; others: number }[] = [];
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const before = await look();
    const value = await measure();
    const others = Math.max(before, await look());
    taken.push({ value, others });
    if (others <= MOST_BY_OTHERS) break;
    say(`others took ${others.toFixed(2)} cores${attempt < attempts ? ': measured again' : ''}`);
  }
  return taken.reduce((best, one) => (one.others < best.others ? one : best));
}

function busyMs(): number {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/\s+/);
  return BUSY.reduce((sum, i) => sum + Number(fields[i]), 0) * TICK_MS;
}

function ownMs(): number {
  return treeOf([process.pid]).reduce((sum, pid) => sum + cpuMs(pid), 0);
}
