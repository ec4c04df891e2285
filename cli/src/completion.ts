import type { Command } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Words {
  /** `dlq replay`; empty for the program itself. */
  path: string;
  commands: string[];
  flags: string[];
}

/** A shell script that completes the program's commands and flags, and otherwise files. */
export function completion(program: Command, shell: Shell): string {
  const all = wordsOf(program);
  return shell === 'fish' ? fish(all) : bash(program.name(), all, shell);
}

function wordsOf(command: Command, path = ''): Words[] {
  const commands = command.commands.filter((child) => child.name() !== 'help');
  return [
    {
      path,
      commands: commands.map((child) => child.name()),
      flags: [...command.options.map(({ long }) => long).filter((flag) => flag != null), '--help'],
    },
    ...commands.flatMap((child) => wordsOf(child, `${path} ${child.name()}`.trim())),
  ];
}

function bash(name: string, all: readonly Words[], shell: Shell): string {
  const paths = all.filter(({ path }) => path !== '').map(({ path }) => `"${path}"`);
  const cases = all.map(
    ({ path, commands, flags }) => `    "${path}") words="${[...commands, ...flags].join(' ')}" ;;`,
  );
  const head = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '';
  return `${head}_${name}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" at="" word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${at:+$at }\${COMP_WORDS[i]}"
    case "$word" in
      ${paths.join('|')}) at="$word" ;;
    esac
  done
  case "$at" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _${name} ${name}`;
}

function fish(all: readonly Words[]): string {
  const lines = all.flatMap(({ path, commands, flags }) => {
    const first = path.split(' ')[0];
    const when =
      path === '' ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${path.split(' ').at(-1)}`;
    const under = path.includes(' ') ? `__fish_seen_subcommand_from ${first}; and ${when}` : when;
    return [
      ...commands.map((command) => `complete -c nrdot -n '${under}' -f -a ${command}`),
      ...flags.map((flag) => `complete -c nrdot -n '${under}' -l ${flag.slice(2)}`),
    ];
  });
  return lines.join('\n');
}
