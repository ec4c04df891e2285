/** Where and on what a campaign ran, for its report. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Origin {
  commit: string;
  seed: number;
  lanes: number;
  node: string;
  redis: string;
  cpu: string;
  startedAt: string;
}

export function writeOrigin(out: string, seed: number, lanes: number, startedAt = new Date()): void {
  const origin: Origin = {
    commit: commitHere(),
    seed,
    lanes,
    node: process.versions.node,
    redis: /v=(\S+)/.exec(said('redis-server', ['--version']))?.[1] ?? 'unknown',
    cpu: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    startedAt: startedAt.toISOString(),
  };
  writeFileSync(join(out, 'origin.json'), `${JSON.stringify(origin, undefined, 2)}\n`);
}

export function readOrigin(out: string): Origin | undefined {
  const file = join(out, 'origin.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Origin) : undefined;
}

export function commitHere(): string {
  return said('git', ['rev-parse', '--short=12', 'HEAD']);
}

function said(program: string, args: string[]): string {
  const cwd = fileURLToPath(new URL('../../', import.meta.url));
  return execFileSync(program, args, { cwd, encoding: 'utf8' }).trim();
}
