/**
 * Runs the benchmarks that lie beside the parts (`<package>/bench/*.bench.ts`), alone or against an earlier commit.
 * Run: make bench-parts, make bench-compare BASE=main~5, either with ONLY=walk
 */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { temporaryDirectory } from '@nrdot/testbed';

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

/** The tree of an earlier commit, with the packages installed here and its own workspaces. */
function checkOut(base: string, dir: string): string {
  const tree = join(dir, 'base');
  execFileSync('git', ['worktree', 'add', '--detach', '--quiet', tree, base], { cwd: ROOT });
  const [modules, own] = [join(tree, 'node_modules'), join(tree, 'node_modules/@nrdot')];
  mkdirSync(own, { recursive: true });
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    if (name !== '@nrdot') symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  }
  for (const folder of globSync('{shared,services,tests}/*/package.json', { cwd: tree })) {
    const path = join(tree, folder, '..');
    symlinkSync(path, join(own, basename(path)));
  }
  return tree;
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
    execFileSync('git', ['worktree', 'remove', '--force', tree], { cwd: ROOT });
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
