import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { completion } from './completion.ts';
import { createProgram } from './main.ts';

const program = createProgram();

/** What bash offers after these words. */
function offered(...words: string[]): string[] {
  const script = `${completion(program, 'bash')}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})
COMP_CWORD=${words.length - 1}
_nrdot
printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).split('\n').filter(Boolean);
}

describe.skipIf(!existsSync('/bin/bash'))('completion in bash', () => {
  it('offers commands, those that match the prefix, and flags', () => {
    expect(offered('nrdot', '')).toEqual(expect.arrayContaining(program.commands.map((c) => c.name())));
    expect(offered('nrdot', 'de')).toEqual(['demo']);
    expect(offered('nrdot', 'generate', '--car')).toEqual(['--cardinality']);
    expect(offered('nrdot', 'up', '--config', 'x.yaml', '--up')).toEqual(['--upstream']);
    expect(offered('nrdot', 'nonsense', '--vers')).toEqual(['--version']);
  });
});

describe('completion in fish', () => {
  it('has a line for every command and flag', () => {
    const lines = completion(program, 'fish').split('\n');
    for (const command of program.commands) {
      expect(lines).toContain(`complete -c nrdot -n '__fish_use_subcommand' -f -a ${command.name()}`);
      for (const { long } of command.options)
        expect(lines).toContain(
          `complete -c nrdot -n '__fish_seen_subcommand_from ${command.name()}' -l ${long!.slice(2)}`,
        );
    }
  });
});
