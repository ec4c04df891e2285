/** The Docker engine of this machine, through its own commands. */
import { execFile, execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** The image the suite builds. Its layers are kept by the engine, so that only what changed is built again. */
export const IMAGE = 'nrdot-plus';
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

function answers(command: string, ...args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}

/** Why nothing can be run in containers here; undefined when it can. */
export function whyNoEngine(): string | undefined {
  if (!answers('docker', 'info')) return 'no Docker engine is running';
  if (COMPOSE === undefined) return 'neither docker compose nor docker-compose was found';
  for (const image of ['node:24-bookworm-slim', 'redis:7-bookworm']) {
    if (!hasImage(image) && !answers('docker', 'pull', '-q', image))
      return `the image ${image} is not to be had`;
  }
  return undefined;
}

export function hasImage(name: string): boolean {
  return answers('docker', 'image', 'inspect', name);
}

/** Whether the history of this checkout has a commit: a shallow one may not. */
export function hasCommit(name: string): boolean {
  return answers('git', '-C', ROOT, 'cat-file', '-e', name);
}

/** Compose 2 as a plugin, or compose 1. */
export const COMPOSE: readonly string[] | undefined = answers('docker', 'compose', 'version')
  ? ['docker', 'compose']
  : answers('docker-compose', 'version')
    ? ['docker-compose']
    : undefined;

/** @returns what it printed; @throws Error with what it printed when it ends with anything but 0 */
export async function run(
  command: readonly string[],
  {
    env = {},
    timeoutMs = 120_000,
    cwd = ROOT,
  }: { env?: Record<string, string>; timeoutMs?: number; cwd?: string } = {},
): Promise<string> {
  const [program = '', ...args] = command;
  try {
    const { stdout } = await promisify(execFile)(program, args, {
      cwd,
      env: { ...process.env, ...env },
      timeout: timeoutMs,
      maxBuffer: MAX_OUTPUT_BYTES,
    });
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '', message } = error as Error & { stdout?: string; stderr?: string };
    throw new Error(`${message.split('\n')[0]}\n${stdout.slice(-2_000)}\n${stderr.slice(-4_000)}`);
  }
}

export const docker = (...args: string[]) => run(['docker', ...args]);

/** @param tree the sources it is built of */
export async function buildImage(name = IMAGE, tree = ROOT): Promise<void> {
  await run(['docker', 'build', '-q', '-f', 'infra/docker/Dockerfile', '-t', name, '.'], {
    timeoutMs: 600_000,
    cwd: tree,
  });
}
