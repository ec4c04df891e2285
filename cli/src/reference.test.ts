import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createProgram } from './main.ts';
import { commandReference } from './reference.ts';

it('docs/cli.md matches the help of the program (npm run docs writes it)', () => {
  const page = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8');
  expect(page).toBe(commandReference(createProgram()));
});
