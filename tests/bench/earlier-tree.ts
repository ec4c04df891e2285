/** The sources of an earlier commit, to be measured beside today's. */
import { execFileSync } from 'node:child_process';
import { globSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Checks a commit out below `dir`, with the packages installed here and its own workspaces. */
export function checkOut(base: string, dir: string): string {
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

export function removeTree(tree: string): void {
  execFileSync('git', ['worktree', 'remove', '--force', tree], { cwd: ROOT });
}
