/** The bundle as a package: packed by npm, installed where nothing of the checkout is, and run. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  freePort,
  generate,
  Process,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { writeConfig } from '../kit.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TIMEOUT_MS = 180_000;

it('is packed, installed and run by npx, from the file only', async (test) => {
  using dir = temporaryDirectory();
  const call = (program: string, args: string[], cwd = dir.path) =>
    execFileSync(program, args, { cwd, encoding: 'utf8', stdio: 'pipe', timeout: TIMEOUT_MS });
  const [bundle, elsewhere] = [join(dir.path, 'bundle'), join(dir.path, 'elsewhere')];
  mkdirSync(elsewhere);
  call(process.execPath, [join(ROOT, 'cli/build.ts'), bundle], ROOT);
  call('npm', ['pack', bundle, '--silent']);
  const [file = ''] = readdirSync(dir.path).filter((name) => name.endsWith('.tgz'));
  expect(file).toMatch(/^nrdot-plus-\d+\.\d+\.\d+\.tgz$/);
  const held = call('tar', ['-tzf', file]).split('\n');
  for (const name of ['nrdot.js', 'LICENSE', 'README.md', 'console/index.html'])
    expect(held).toContain(`package/${name}`);
  expect(held.filter((name) => /\.(ts|test\.\w+)$|node_modules/.test(name))).toEqual([]);

  const npx = ['--yes', `../${file}`];
  try {
    expect(call('npx', [...npx, '--version'], elsewhere)).toMatch(/^\d+\.\d+\.\d+\n$/);
  } catch (error) {
    // Its one native dependency comes from the registry.
    if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT/.test(String(error)))
      return test.skip('no npm registry can be reached');
    throw error;
  }
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
  const port = await freePort();
  const config = writeConfig(dir.path, {
    exporter: { endpoint: mock.url },
    receiver: { listen: `127.0.0.1:${port}` },
  });
  // A terminal's Ctrl-C goes to npx and to what it runs, so they are a group of their own here.
  const command = ['npx', ...npx, 'up', '--config', config, '--json'];
  await using up = new Process('npx nrdot-plus', 'setsid', command, {}, elsewhere);
  try {
    await up.line(/"event":"running"/, 60_000);
    const report = await generate({
      endpoint: `http://127.0.0.1:${port}`,
      items: 500,
      rate: 1_000,
      encoding: 'zstd',
    });
    expect(report.acknowledgedItems).toBe(500);
    process.kill(-up.pid, 'SIGINT');
    await waitUntil(() => !up.running, { what: 'it has ended' });
  } finally {
    if (up.running) process.kill(-up.pid, 'SIGKILL');
  }
  expect(mock.stats().items).toBe(500);
});
