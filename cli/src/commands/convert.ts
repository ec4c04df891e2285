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
    `# Made from ${file} by nrdot convert; "nrdot validate" checks it.\n${stringify(config)}`,
  );
  if (notes.length > 0)
    process.stderr.write(
      `What has no counterpart, or differs:\n${notes.map((note) => `  ${note}\n`).join('')}`,
    );
}
