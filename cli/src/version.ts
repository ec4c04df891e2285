import { readFileSync } from 'node:fs';

/** One version for all of it: the root package's. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
