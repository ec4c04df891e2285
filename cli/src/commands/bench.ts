import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const HARNESS = fileURLToPath(new URL('../../../tests/bench/run.ts', import.meta.url));

/** `nrdot bench`: the benchmark of the project, with its own flags. It lives in the source tree. */
export async function benchCommand(args: readonly string[]): Promise<void> {
  if (!existsSync(HARNESS)) {
    throw new Error(
      'the benchmark is part of the source tree, and this is a bundle: run "make bench" in a checkout. "nrdot generate --rate 0" finds the ceiling of what runs here.',
    );
  }
  const child = spawn(process.execPath, [HARNESS, ...args], { stdio: 'inherit' });
  process.exitCode = await new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}
