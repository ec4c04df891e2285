import { readFileSync } from 'node:fs';
import { causeText } from '@nrdot/telemetry';
import { stringify } from 'yaml';
import { translate } from '../collector.ts';
import { print } from '../output.ts';

/** `nrdot convert FILE`: translates a Collector's configuration; what has no counterpart is listed. */
export function convertCommand(file: string, flags: { json?: boolean }): void {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(causeText(error), { cause: error });
  }
  const { config, notes } = translate(text);
  const head = `# Generated from ${file} by nrdot convert; check it with "nrdot validate".`;
  print(flags, { config, notes }, `${head}\n${stringify(config).replace(/\n$/, '')}`);
  if (notes.length > 0 && !flags.json)
    process.stderr.write(`No counterpart, or different:\n${notes.map((note) => `  ${note}\n`).join('')}`);
}
