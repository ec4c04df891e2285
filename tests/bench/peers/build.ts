/**
 * Builds the peers from pinned versions. Needs Go and its module proxy. What was built is kept outside the checkout, so
 * that every checkout of a user on a machine shares it.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const MANIFEST = fileURLToPath(new URL('collector.yaml', import.meta.url));
const CACHE = join(homedir(), '.cache/nrdot-bench');
const BUILD_TIMEOUT_MS = 20 * 60_000;
const COLLECTOR = { dir: join(CACHE, 'collector'), program: 'collector/otelcol-peer' };
const BUILT_FROM = 'built-from';
/** The newest that Go 1.26 compiles. */
const VMAGENT = 'github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent@v1.151.0';

type Say = (line: string) => void;

/**
 * The Collector, made by its own builder from the manifest beside this file.
 * @returns undefined where it cannot be built; `say` tells why
 */
export async function collectorBinary(say: Say): Promise<string | undefined> {
  const manifest = readFileSync(MANIFEST, 'utf8');
  const { dir, program } = COLLECTOR;
  const version = /^ {2}version: (\S+)/m.exec(manifest)?.[1];
  return built('the Collector', dir, program, manifest, say, async () => {
    await go(dir, 'go', ['install', `go.opentelemetry.io/collector/cmd/builder@v${version}`]);
    await go(dir, join(dir, 'builder'), ['--config', MANIFEST]);
  });
}

/** vmagent, the same way. */
export async function vmagentBinary(say: Say): Promise<string | undefined> {
  const dir = join(CACHE, 'vmagent');
  return built('vmagent', dir, 'vmagent', VMAGENT, say, () => go(dir, 'go', ['install', VMAGENT]));
}

/** The program in `dir`, built now unless the same recipe was built before. */
async function built(
  name: string,
  dir: string,
  program: string,
  recipe: string,
  say: Say,
  build: () => Promise<void>,
): Promise<string | undefined> {
  const there = find(dir, program, recipe);
  if (there) return there;
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
  } catch {
    say(`no Go toolchain on the PATH: ${name} is left out`);
    return undefined;
  }
  mkdirSync(dir, { recursive: true });
  try {
    process.stderr.write(`building ${name}; the first time this takes minutes\n`);
    await build();
  } catch (error) {
    say(`${name} could not be built, so it is left out: ${(error as Error).message.slice(-400)}`);
    return undefined;
  }
  writeFileSync(join(dir, BUILT_FROM), recipe);
  return join(dir, program);
}

/** The Collector, where it was built before. */
export function findCollector(): string | undefined {
  return find(COLLECTOR.dir, COLLECTOR.program, readFileSync(MANIFEST, 'utf8'));
}

function find(dir: string, program: string, recipe: string): string | undefined {
  const [binary, done] = [join(dir, program), join(dir, BUILT_FROM)];
  return existsSync(binary) && existsSync(done) && readFileSync(done, 'utf8') === recipe ? binary : undefined;
}

async function go(dir: string, program: string, args: string[]): Promise<void> {
  const options = { cwd: dir, timeout: BUILD_TIMEOUT_MS, maxBuffer: 1 << 26 };
  await promisify(execFile)(program, args, { ...options, env: { ...process.env, GOBIN: dir } });
}
