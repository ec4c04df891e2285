/** Builds the Collector with its own builder, from the manifest beside this file. Needs Go and its module proxy. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const MANIFEST = fileURLToPath(new URL('collector.yaml', import.meta.url));
const CACHE = fileURLToPath(new URL('../../artifacts/bench/peers/', import.meta.url));
const BUILD_TIMEOUT_MS = 20 * 60_000;

/**
 * The program, built now unless the same manifest was built before.
 * @returns undefined where it cannot be built; `say` tells why
 */
export async function collectorBinary(say: (line: string) => void): Promise<string | undefined> {
  const manifest = readFileSync(MANIFEST, 'utf8');
  const binary = join(CACHE, 'collector/otelcol-peer');
  const built = join(CACHE, 'built.yaml');
  if (existsSync(binary) && existsSync(built) && readFileSync(built, 'utf8') === manifest) return binary;
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
  } catch {
    say('no Go toolchain on the PATH: the Collector is left out');
    return undefined;
  }
  mkdirSync(CACHE, { recursive: true });
  const version = /^ {2}version: (\S+)/m.exec(manifest)?.[1];
  const go = { cwd: CACHE, timeout: BUILD_TIMEOUT_MS, maxBuffer: 1 << 26 };
  try {
    say(`building the Collector ${version}; the first time this takes minutes`);
    await promisify(execFile)('go', ['install', `go.opentelemetry.io/collector/cmd/builder@v${version}`], {
      ...go,
      env: { ...process.env, GOBIN: CACHE },
    });
    await promisify(execFile)(join(CACHE, 'builder'), ['--config', MANIFEST], go);
  } catch (error) {
    say(`the Collector could not be built, so it is left out: ${(error as Error).message.slice(-400)}`);
    return undefined;
  }
  writeFileSync(built, manifest);
  return binary;
}
