/** Writes the pages that are generated from the code. Tests hold them against it. */
import { writeFileSync } from 'node:fs';
import { configurationReference, exampleFile } from '@nrdot/config';
import { metricsReference } from '@nrdot/telemetry';

const root = new URL('../../', import.meta.url);
for (const [file, text] of [
  ['docs/configuration.md', configurationReference()],
  ['docs/metrics.md', metricsReference()],
  ['nrdot.example.yaml', exampleFile()],
] as const) {
  writeFileSync(new URL(file, root), text);
  console.log(`wrote ${file}`);
}
