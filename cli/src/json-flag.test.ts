import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from './main.ts';

/** Commands without `--json`, and why. */
const WITHOUT: Readonly<Record<string, string>> = {
  nrdot: 'prints its help; what does something is below it',
  'nrdot check': 'prints its help; what does something is below it',
};

function all(command: Command, path = ''): { name: string; command: Command }[] {
  const name = `${path} ${command.name()}`.trim();
  const children = command.commands.filter((child) => child.name() !== 'help');
  return [{ name, command }, ...children.flatMap((child) => all(child, name))];
}

describe('--json', () => {
  const commands = all(createProgram());

  it.each(commands.map(({ name, command }) => [name, command] as const))('%s', (name, command) => {
    const takes = command.options.some(({ long }) => long === '--json');
    expect(takes, `${name} takes --json, or is in the list with its reason`).toBe(!(name in WITHOUT));
  });

  it('is missing only in existing commands', () => {
    const names = commands.map(({ name }) => name);
    expect(names.length).toBeGreaterThan(30);
    expect(Object.keys(WITHOUT).filter((name) => !names.includes(name))).toEqual([]);
  });
});
