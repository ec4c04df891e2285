import { loadConfig } from '@nrdot/config';
import { configSource } from '../config-flags.ts';

/** `nrdot validate [FILE]`: says what is wrong, all at once, or that nothing is. */
export function validate(named: string | undefined, options: { explain?: boolean; json?: boolean }): void {
  const source = configSource(named === undefined ? {} : { config: named });
  const { explain } = loadConfig(source);
  if (options.json) {
    const answer = {
      valid: true,
      file: source.file ?? null,
      ...(options.explain ? { options: explain() } : {}),
    };
    process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
    return;
  }
  process.stdout.write(
    source.file ? `${source.file} is valid.\n` : 'There is no nrdot.yaml here: the defaults are in force.\n',
  );
  if (!options.explain) return;
  for (const { path, value, source: from } of explain())
    process.stdout.write(`${path}: ${value}  # ${from}\n`);
}
