import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { printLine } from '../output.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 5_000;
const SERVICE = 'mock-upstream';
/** The current plugin, and the older program. */
const COMPOSE = [['docker', 'compose'], ['docker-compose']] as const;

export interface OutageFlags {
  mock: string;
  compose?: boolean;
  json?: boolean;
}

/** `nrdot outage on|off|status`: stops and restores the mock upstream. */
export async function outageCommand(what: 'on' | 'off' | 'status', flags: OutageFlags): Promise<void> {
  const away = flags.compose ? await ofContainer(what) : await ofMock(what, flags.mock);
  const text = away
    ? 'The mock upstream is down: every connection is cut. "nrdot outage off" brings it back.'
    : 'The mock upstream is up.';
  printLine(flags, { away }, text);
}

async function ofMock(what: 'on' | 'off' | 'status', url: string): Promise<boolean> {
  const [method, path] = what === 'status' ? ['GET', 'behaviour'] : ['POST', `outage/${what}`];
  if (!URL.canParse(url)) throw new Error(`--mock ${url}: expected a URL such as http://127.0.0.1:4320`);
  let answer: Response;
  try {
    answer = await fetch(new URL(`/_mock/${path}`, url), {
      method: method!,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Error(
      `no mock upstream answers at ${url}. "nrdot up" without an upstream starts one, "nrdot mock-upstream" another; pass its address with --mock URL, or --compose if it is a container.`,
    );
  }
  if (!answer.ok)
    throw new Error(
      `${url} is not a mock upstream: /_mock/${path} answered ${answer.status}. Pass its address with --mock URL.`,
    );
  return ((await answer.json()) as { outage: boolean }).outage;
}

/** Stopping its container is the most realistic outage. */
async function ofContainer(what: 'on' | 'off' | 'status'): Promise<boolean> {
  if (what !== 'status') await compose(what === 'on' ? 'stop' : 'start', SERVICE);
  const running = await compose('ps', '--services', '--filter', 'status=running');
  return !running.split('\n').includes(SERVICE);
}

async function compose(...args: string[]): Promise<string> {
  let said = '';
  for (const [program, ...first] of COMPOSE) {
    try {
      return (await run(program, [...first, ...args])).stdout;
    } catch (error) {
      said ||= (error as { stderr?: string }).stderr?.trim() || (error as Error).message;
    }
  }
  throw new Error(`docker compose ${args.join(' ')} failed (run it where docker-compose.yml is): ${said}`);
}
