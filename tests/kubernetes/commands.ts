/** kubectl, helm and git as the tests call them. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const CHART = `${ROOT}infra/helm/nrdot-plus`;
export const EXAMPLES = `${ROOT}infra/helm/examples`;
/** The chart's own default, so that the examples are installed as they stand. */
export const IMAGE = 'nrdot-plus:0.1.0';
export const REDIS_IMAGE = 'redis:7-bookworm';
const TIMEOUT_MS = 300_000;
const SHOWN_CHARS = 4_000;

export interface RunOptions {
  /** Given to it on standard input. */
  input?: string;
  timeoutMs?: number;
  env?: Record<string, string>;
}

/** @returns what it printed; @throws Error with that and what it complained of, when it ends with anything but 0 */
export function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const [program = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: ROOT,
      env: { ...process.env, ...options.env },
      timeout: options.timeoutMs ?? TIMEOUT_MS,
      stdio: 'pipe',
    });
    const out: Buffer[] = [];
    const complaints: Buffer[] = [];
    child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => complaints.push(bytes));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const text = Buffer.concat(out).toString();
      if (code === 0) return resolve(text);
      const said = `${text.slice(-SHOWN_CHARS)}\n${Buffer.concat(complaints).toString().slice(-SHOWN_CHARS)}`;
      reject(new Error(`${command.join(' ').slice(0, 200)} ended with ${code ?? signal}:\n${said.trim()}`));
    });
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}
