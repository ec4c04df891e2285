import type { Command } from 'commander';

const WIDTH = 100;

/** Generates docs/cli.md: the help of every command, as the program prints it. */
export function commandReference(program: Command): string {
  return `# The command line

Every command of \`nrdot\`, generated from the program (\`npm run docs\`). \`nrdot COMMAND --help\` prints the same. In a checkout,
after \`make install\`, run it as \`npx nrdot\`. Do this only in a checkout: the project publishes no package, so elsewhere npx would fetch
whatever a registry has under that name. Elsewhere use the image, or install what \`make build\` builds:
\`npm install --global "$(npm pack ./dist)"\`.

Every command accepts \`--json\`, except \`nrdot\` and \`nrdot check\`, which only print their help. Output is then JSON on standard output, and so
are errors: \`{"error": {"code", "message"}}\`, with \`problems\` if a configuration is not valid. \`code\` is \`bad_command\`, \`invalid_config\` or
\`failed\`. Continuous commands (\`up\`, \`mock-upstream\`, \`tap\`, \`top\`) print one JSON object per line. \`dlq export\` writes its batches to standard
output, so its result or error is JSON on standard error.

Exit codes: 0 if all is well, 1 if something failed, 2 if a configuration is not valid; commands with further codes list them. Commands that
talk to a running service use \`admin.listen\` of the configuration or \`--admin\`, and take its token from the configuration or from
\`NRDOT_ADMIN_TOKEN\`.

${sections(program).join('\n')}`;
}

function sections(command: Command, path = ''): string[] {
  const name = `${path} ${command.name()}`.trim();
  let help = '';
  command.configureOutput({
    getOutHelpWidth: () => WIDTH,
    getOutHasColors: () => false,
    writeOut: (text) => {
      help += text;
    },
  });
  command.outputHelp();
  const children = command.commands.filter((child) => child.name() !== 'help');
  return [
    `## ${name}\n\n\`\`\`\n${help.trimEnd()}\n\`\`\`\n`,
    ...children.flatMap((child) => sections(child, name)),
  ];
}
