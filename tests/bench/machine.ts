import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';

export type Machine = ReturnType<typeof machine>;

/** What the figures were measured on. */
export function machine() {
  const all = cpus();
  return {
    cpu: all[0]?.model ?? 'unknown',
    cores: all.length,
    memoryBytes: totalmem(),
    system: osName(),
    kernel: release(),
    node: process.version,
    redis: said('redis-server', '--version', /v=(\S+)/),
    go: said('go', 'version', /go(\d\S+)/),
    at: new Date().toISOString(),
    commit: said('git', 'rev-parse --short HEAD', /(\S+)/),
    /** Before the benchmark began. */
    loadAverage: loadavg()[0] ?? 0,
  };
}

function osName(): string {
  try {
    return /^PRETTY_NAME="(.*)"/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
  } catch {
    return process.platform;
  }
}

function said(program: string, args: string, pattern: RegExp): string {
  try {
    return pattern.exec(execFileSync(program, args.split(' '), { encoding: 'utf8' }))?.[1] ?? 'unknown';
  } catch {
    return 'none';
  }
}
