import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from './main.ts';

const ROOT = new URL('../../', import.meta.url).pathname;

/** What a text in double quotes asks people to type, such as "nrdot dlq ls --rejected". */
const ASKED = /"nrdot ([a-z][a-z0-9 -]*)"/g;

function follow(words: readonly string[]): { command: Command; unknown: string[] } {
  let command: Command = createProgram();
  const unknown: string[] = [];
  for (const [i, word] of words.entries()) {
    if (word.startsWith('--')) {
      if (!command.options.some(({ long }) => long === word)) unknown.push(word);
      continue;
    }
    const child = command.commands.find((candidate) => candidate.name() === word);
    if (child) command = child;
    else if (i === 0 || command.commands.length > 0) unknown.push(word);
  }
  return { command, unknown };
}

describe('commands that messages recommend', () => {
  const files = globSync(
    ['cli/src/**/*.ts', 'services/*/{src,console}/**/*.{ts,js}', 'shared/*/src/**/*.ts'],
    {
      cwd: ROOT,
    },
  );
  const asked = files.flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(ASKED)].map(([, words = '']) => ({ file, words })),
  );

  it('exist, with their flags', () => {
    expect(asked.length).toBeGreaterThan(5);
    const strange = asked
      .map(({ file, words }) => ({ file, words, unknown: follow(words.split(' ')).unknown }))
      .filter(({ unknown }) => unknown.length > 0);
    expect(strange).toEqual([]);
  });
});
