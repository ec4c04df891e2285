/**
 * Installs what the senders need, into a directory of this user beside the checkout. What cannot be had here is left out, and the
 * tests say so.
 *     node tests/senders/install.ts
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { collector } from '../bench/peers/build.ts';
import { CACHE, DONE, HERE, recipeOf, SENDERS, type Sender } from './senders.ts';

const TIMEOUT_MS = 15 * 60_000;

const STEPS: Readonly<Record<Sender, (dir: string) => void>> = {
  python: (dir) => {
    run('python3', '-m', 'venv', join(dir, 'venv'));
    run(
      join(dir, 'venv/bin/pip'),
      'install',
      '--quiet',
      '--requirement',
      join(HERE, 'python/requirements.txt'),
    );
  },
  go: (dir) => {
    cpSync(join(HERE, 'go'), join(dir, 'source'), { recursive: true });
    run('go', 'build', '-C', join(dir, 'source'), '-o', join(dir, 'send'), '.');
  },
  java: (dir) => {
    const lib = join(dir, 'lib');
    run(
      'mvn',
      '-q',
      '-B',
      '-f',
      join(HERE, 'java/pom.xml'),
      'dependency:copy-dependencies',
      `-DoutputDirectory=${lib}`,
    );
    run('javac', '-cp', join(lib, '*'), '-d', join(dir, 'classes'), join(HERE, 'java/Send.java'));
  },
};

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 2, 'pipe'], timeout: TIMEOUT_MS });
}

for (const sender of SENDERS) {
  const dir = join(CACHE, sender);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  try {
    STEPS[sender](dir);
    writeFileSync(join(dir, DONE), recipeOf(sender));
    console.log(`${sender}: installed into ${dir}`);
  } catch (error) {
    console.log(`${sender}: left out, ${(error as Error).message.slice(-400)}`);
  }
}
if (await collector(console.log)) console.log('the Collector: built');
