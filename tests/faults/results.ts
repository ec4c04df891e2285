/** What a campaign keeps while it runs: a line for each run, and which of its processes works on which block of runs. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Result } from './run.ts';

/** Results so far, by run. One that was judged again and failed then has a second line, which counts. */
export function readResults(out: string): Result[] {
  const file = join(out, 'results.jsonl');
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  const results = lines.map((line) => JSON.parse(line) as Result);
  return [...new Map(results.map((result) => [result.index, result])).values()];
}

/**
 * Takes a block of runs for this process, until disposed.
 * @returns undefined when another process that is alive has it
 */
export function claim(out: string, block: number): Disposable | undefined {
  const dir = join(out, 'claims');
  mkdirSync(dir, { recursive: true });
  const file = join(dir, String(block));
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (isAlive(Number(readFileSync(file, 'utf8')))) return undefined;
    writeFileSync(file, String(process.pid)); // what it left undone is done now
  }
  return { [Symbol.dispose]: () => rmSync(file, { force: true }) };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
