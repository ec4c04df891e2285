/**
 * Gets the peers, in pinned versions: those in Go are built, which needs Go and its module proxy; Rotel's wheel holds its
 * program, which needs pip. What is there is kept outside the checkout, so that every checkout of a user on a machine shares it.
 */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
/** The newest wheel there is. The program in it calls itself 0.0.1-alpha10. */
const ROTEL = 'rotel==0.0.1a15';

type Say = (line: string) => void;

/** A program, and which version of what it is. */
export interface Peer {
  program: string;
  version: string;
}

interface Recipe {
  /** What it is called in a note and on the page. */
  name: string;
  version: string;
  dir: string;
  program: string;
  /** What it was made from: another one is made again. */
  from: string;
  /** A command that shows that what makes it is here, and what that is. */
  needs: readonly [program: string, ...args: string[]];
  make(): Promise<void>;
}

/**
 * The Collector, made by its own builder from the manifest beside this file.
 * @returns undefined where it cannot be built; `say` tells why
 */
export async function collector(say: Say): Promise<Peer | undefined> {
  const manifest = readFileSync(MANIFEST, 'utf8');
  const { dir, program } = COLLECTOR;
  const version = /^ {2}version: (\S+)/m.exec(manifest)?.[1] ?? '';
  const make = async () => {
    await run(dir, 'go', ['install', `go.opentelemetry.io/collector/cmd/builder@v${version}`]);
    await run(dir, join(dir, 'builder'), ['--config', MANIFEST]);
  };
  return made(
    { name: 'the Collector', version, dir, program, from: manifest, needs: ['go', 'version'], make },
    say,
  );
}

/** vmagent, the same way. */
export async function vmagent(say: Say): Promise<Peer | undefined> {
  const dir = join(CACHE, 'vmagent');
  const version = VMAGENT.slice(VMAGENT.indexOf('@v') + 2);
  const make = () => run(dir, 'go', ['install', VMAGENT]);
  return made(
    { name: 'vmagent', version, dir, program: 'vmagent', from: VMAGENT, needs: ['go', 'version'], make },
    say,
  );
}

/** Rotel, out of its wheel: nothing is built. */
export async function rotel(say: Say): Promise<Peer | undefined> {
  const dir = join(CACHE, 'rotel');
  const [program, version] = ['rotel/rotel-agent', ROTEL.slice(ROTEL.indexOf('==') + 2)];
  const make = async () => {
    // Never from source, and without the Python packages that only its Python side needs.
    const how = ['--quiet', '--no-deps', '--only-binary', ':all:', '--target', dir];
    await run(dir, 'python3', ['-m', 'pip', 'install', ...how, ROTEL]);
    chmodSync(join(dir, program), 0o755);
  };
  const needs = ['python3', '-m', 'pip', '--version'] as const;
  return made({ name: 'Rotel', version, dir, program, from: ROTEL, needs, make }, say);
}

/** The program in `dir`, made now unless the same recipe was made before. */
async function made(
  { name, version, dir, program, from, needs, make }: Recipe,
  say: Say,
): Promise<Peer | undefined> {
  const there = find(dir, program, from);
  if (there) return { program: there, version };
  const [tool, ...args] = needs;
  try {
    execFileSync(tool, args, { stdio: 'ignore' });
  } catch {
    say(`no ${needs.join(' ')} here: ${name} is left out`);
    return undefined;
  }
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  try {
    process.stderr.write(`making ${name}; the first time this may take minutes\n`);
    await make();
  } catch (error) {
    say(`${name} could not be had, so it is left out: ${(error as Error).message.slice(-400)}`);
    return undefined;
  }
  writeFileSync(join(dir, BUILT_FROM), from);
  return { program: join(dir, program), version };
}

/** The Collector, where it was built before. */
export function findCollector(): string | undefined {
  return find(COLLECTOR.dir, COLLECTOR.program, readFileSync(MANIFEST, 'utf8'));
}

function find(dir: string, program: string, recipe: string): string | undefined {
  const [binary, done] = [join(dir, program), join(dir, BUILT_FROM)];
  return existsSync(binary) && existsSync(done) && readFileSync(done, 'utf8') === recipe ? binary : undefined;
}

async function run(dir: string, program: string, args: string[]): Promise<void> {
  const options = { cwd: dir, timeout: BUILD_TIMEOUT_MS, maxBuffer: 1 << 26 };
  await promisify(execFile)(program, args, { ...options, env: { ...process.env, GOBIN: dir } });
}
