/**
 * Runs the benchmarks that lie beside the parts (`<package>/bench/*.bench.ts`), alone or against an earlier commit.
 * Run: make bench-parts, make bench-compare BASE=main~5, either with ONLY=walk
 */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { temporaryDirectory } from '@nrdot/testbed';
import { checkOut, removeTree } from './earlier-tree.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ROUNDS = 3;

/** Prints a benchmark's lines as they are. */
function run(root: string, file: string): string[] {
  const text = execFileSync(process.execPath, [join(root, file)], { cwd: root, encoding: 'utf8' });
  return text.split('\n').filter((line) => line.trim() !== '');
}

/** A line without its numbers is what it measures; the first number is what it measured. */
function measured(lines: readonly string[]): Map<string, number> {
  const rows = new Map<string, number>();
  for (const line of lines) {
    const first = /\d+(\.\d+)?/.exec(line);
    if (first)
      rows.set(
        line
          .replace(/\d+(\.\d+)?/g, '#')
          .replace(/\s+/g, ' ')
          .trim(),
        Number(first[0]),
      );
  }
  return rows;
}

function compare(base: string, files: readonly string[]): void {
  using dir = temporaryDirectory();
  const tree = checkOut(base, dir.path);
  try {
    process.stdout.write(
      `The first number of each line now, over that of ${base}; median of ${ROUNDS} rounds in turns, and their range.\n`,
    );
    for (const file of files) {
      process.stdout.write(`\n${file}\n`);
      if (!existsSync(join(tree, file))) {
        process.stdout.write(`  not there in ${base}\n`);
        continue;
      }
      // In turns, so that a busy moment of the machine meets both.
      const rounds = Array.from({ length: ROUNDS }, () => [
        measured(run(tree, file)),
        measured(run(ROOT, file)),
      ]);
      for (const name of rounds[0]![1]!.keys()) {
        const ratios = rounds.map(([then, now]) => now!.get(name)! / (then!.get(name) ?? Number.NaN));
        ratios.sort((a, b) => a - b);
        const [least, median, most] = [ratios[0]!, ratios[Math.floor(ROUNDS / 2)]!, ratios.at(-1)!];
        const text = Number.isNaN(median)
          ? 'new'
          : `${median.toFixed(2)} × (${least.toFixed(2)}–${most.toFixed(2)})`;
        process.stdout.write(`  ${text.padEnd(22)} ${name}\n`);
      }
    }
  } finally {
    removeTree(tree);
  }
}

const { values: flags } = parseArgs({
  options: { base: { type: 'string' }, only: { type: 'string', default: '' } },
});
const files = globSync('{shared,services}/*/bench/*.bench.ts', { cwd: ROOT })
  .filter((file) => file.includes(flags.only))
  .sort();
if (flags.base) compare(flags.base, files);
else for (const file of files) process.stdout.write(`\n${file}\n${run(ROOT, file).join('\n')}\n`);
