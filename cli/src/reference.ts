import type { Command } from 'commander';

const WIDTH = 100;

/** Generates docs/cli.md: the help of every command, as the program prints it. */
export function commandReference(program: Command): string {
  return `# The command line

Every command of \`nrdot\`, generated from the program (\`npm run docs\`). \`nrdot COMMAND --help\` prints the same. In a checkout,
after \`make install\`, it is \`npx nrdot\`. Nowhere else: this project publishes no package, so npx would fetch whatever a registry has under that
name. Elsewhere use the image, or install what \`make build\` makes: \`npm install --global "$(npm pack ./dist)"\`.

Every command takes \`--json\`; \`nrdot\` and \`nrdot check\` alone print their help. What a command says is then JSON on standard output, and so is
an error: \`{"error": {"code", "message"}}\`, with \`problems\` where a configuration is not valid. \`code\` is \`bad_command\`, \`invalid_config\` or \`failed\`.
What goes on (\`up\`, \`mock-upstream\`, \`tap\`, \`top\`) prints a JSON object a line. \`dlq export\` has its batches on standard output, so what came of it,
or an error, is JSON on standard error.

Exit codes: 0 when all is well, 1 when something failed, 2 for a configuration that is not valid; a command that has more says so.
Commands that speak to a running service find it by \`admin.listen\` of the configuration or by \`--admin\`, and take its token from the
configuration or from \`NRDOT_ADMIN_TOKEN\`.

${sections(program).join('\n')}`;
}

function sections(command: Command, path = ''): string[] {
  const name = `${path} ${command.name()}`.trim();
  command.configureOutput({ getOutHelpWidth: () => WIDTH, getOutHasColors: () => false });
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
