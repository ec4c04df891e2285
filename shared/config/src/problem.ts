/** One problem of a configuration. */
export interface ConfigProblem {
  /** `exporter.timeout`, `priority.rules[2].class`. */
  path: string;
  /** File and line, a flag, or empty if it is missing. */
  source: string;
  /** As written, shortened; never for secrets. */
  value?: string | undefined;
  /** What would be right. */
  expected: string;
}

/** All problems of a configuration. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(line).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

function line({ path, source, value, expected }: ConfigProblem): string {
  const where = [source, path].filter(Boolean).join(': ');
  return `${where}: ${value === undefined ? '' : `${value} — `}expected ${expected}`;
}
