/** The OpenTelemetry SDKs of other languages: where they are installed, and how they are run. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SENDERS = ['python', 'go', 'java'] as const;
export type Sender = (typeof SENDERS)[number];

export const HERE = fileURLToPath(new URL('./', import.meta.url));
export const CACHE = join(homedir(), '.cache/nrdot-senders');
/** Written last, with what it was made from. */
export const DONE = 'installed-from';

/** All that decides what is installed. */
export function recipeOf(sender: Sender): string {
  const dir = join(HERE, sender);
  return readdirSync(dir)
    .sort()
    .map((file) => readFileSync(join(dir, file), 'utf8'))
    .join('\n');
}

/** The command that sends, when this very sender is installed. */
export function commandOf(sender: Sender): [string, ...string[]] | undefined {
  const dir = join(CACHE, sender);
  const done = join(dir, DONE);
  if (!existsSync(done) || readFileSync(done, 'utf8') !== recipeOf(sender)) return undefined;
  switch (sender) {
    case 'python':
      return [join(dir, 'venv/bin/python'), join(HERE, 'python/send.py')];
    case 'go':
      return [join(dir, 'send')];
    case 'java':
      return ['java', '-cp', `${join(dir, 'classes')}:${join(dir, 'lib')}/*`, 'Send'];
  }
}
