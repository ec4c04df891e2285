import { loadConfig } from '@nrdot/config';
import { configSource } from '../config-flags.ts';

/** `nrdot validate FILE`: says what is wrong, all at once, or that nothing is. */
export function validate(file: string, options: { explain?: boolean }): void {
  const { explain } = loadConfig(configSource({ config: file }));
  process.stdout.write(`${file} is valid.\n`);
  if (!options.explain) return;
  for (const { path, value, source } of explain()) process.stdout.write(`${path}: ${value}  # ${source}\n`);
}
