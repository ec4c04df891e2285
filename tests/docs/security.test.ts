/** docs/security.md: every defence that it lists names the test for it. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const page = readFileSync(`${ROOT}docs/security.md`, 'utf8');
const makefile = readFileSync(`${ROOT}Makefile`, 'utf8');

/** The rows of the table below a heading, a list of cells each. */
function rows(heading: string): string[][] {
  const section = page.slice(page.indexOf(`\n## ${heading}\n`)).split('\n## ')[1]!;
  const lines = section.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const TABLES = ['Threats and defences', 'Attacks under test'];
/** Threats without a defence, and so without a test. */
const NOT_STOPPED = /^not stopped by NRDOT\+/;

it.each(TABLES.flatMap((table) => rows(table).map((cells) => [cells[0]!, cells] as const)))(
  '%s: the tests that it names exist',
  (_, cells) => {
    const names = [...cells.at(-1)!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);
    if (cells.some((cell) => NOT_STOPPED.test(cell))) return expect(names).toEqual([]);
    expect(names).not.toEqual([]);
    for (const name of names) {
      const [, target] = /^make ([a-z-]+)$/.exec(name) ?? [];
      if (target) expect(makefile).toMatch(new RegExp(`^${target}:`, 'm'));
      else expect(name.endsWith('.test.ts') && existsSync(ROOT + name), name).toBe(true);
    }
  },
);

it('has both tables', () => {
  expect(TABLES.map((table) => rows(table).length > 5)).toEqual([true, true]);
});
