import { readFileSync } from 'node:fs';
import { causeText } from '@nrdot/telemetry';
import { stringify } from 'yaml';
import { translate } from '../collector.ts';

/** `nrdot convert FILE`: translates a Collector's configuration; what has no counterpart is listed. */
export function convertCommand(file: string, flags: { json?: boolean }): void {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(causeText(error), { cause: error });
  }
  const { config, notes } = translate(text);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ config, notes }, null, 2)}\n`);
    return;
  }
  process.stdout.write(
    `# Generated from ${file} by nrdot convert; check it with "nrdot validate".\n${stringify(config)}`,
  );
  if (notes.length > 0)
    process.stderr.write(`No counterpart, or different:\n${notes.map((note) => `  ${note}\n`).join('')}`);
}
