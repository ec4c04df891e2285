import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';

const HARNESS = fileURLToPath(new URL('../../../tests/bench/run.ts', import.meta.url));

/** `nrdot bench`: runs the project's benchmark, with its own flags. It is part of the source tree only. */
export async function benchCommand(
  args: readonly string[],
  { yes, json }: { yes?: boolean; json?: boolean },
): Promise<void> {
  if (!existsSync(HARNESS))
    throw new Error(
      'the benchmark is part of the source tree, and this is a bundle: run "make bench" in a checkout. "nrdot generate --rate 0" finds the maximum throughput of a running pipeline.',
    );
  const harmless = args.some((arg) => ['--help', '-h', '--dry-run'].includes(arg));
  if (!yes && !harmless && !(await agreed()))
    throw new Error(
      'nothing was measured: the whole benchmark takes over half an hour of full load on this machine, with -- --headline five minutes. "nrdot bench --yes" starts it; with -- --dry-run it prints what it would do.',
    );
  const child = spawn(process.execPath, [HARNESS, ...args, ...(json ? ['--json'] : [])], {
    stdio: 'inherit',
  });
  const [code] = await once(child, 'exit');
  process.exitCode = code ?? 1;
}

/** Asks on a terminal; without one the answer is no. */
async function agreed(): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  const ask = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await ask.question(
      'This loads the machine fully: over half an hour for all of it, five minutes with --headline. Start? [y/N] ',
    );
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    ask.close();
  }
}
