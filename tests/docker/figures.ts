/** Writes the figures of docs/docker.md: what the image holds, and what each service holds in memory under load. */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { generate } from '@nrdot/testbed';
import { buildImage, docker, IMAGE, ROOT } from './engine.ts';
import { Stack } from './stack.ts';

const PAGE = `${ROOT}docs/docker.md`;
const RATE = 10_000;
const SECONDS = 30;
const MEBIBYTE = 1024 * 1024;

async function imageTable(): Promise<string> {
  const [{ Size: size }] = JSON.parse(await docker('image', 'inspect', IMAGE));
  const sizes = await docker(
    ...['run', '--rm', '--entrypoint', 'bash', IMAGE, '-c'],
    'du -sbL /usr/local/bin/node /opt/nrdot/node_modules /opt/nrdot/sbom.cdx.json /opt/nrdot; node --version',
  );
  const bytes = (path: string) => Number(new RegExp(`^(\\d+)\\s+${path}$`, 'm').exec(sizes)?.[1]);
  // du counts each file once, under the first path that is given.
  const ours = bytes('/opt/nrdot') + bytes('/opt/nrdot/node_modules') + bytes('/opt/nrdot/sbom.cdx.json');
  const node = bytes('/usr/local/bin/node');
  const row = (what: string, n: number) => `| ${what} | ${(n / MEBIBYTE).toFixed(1)} |`;
  return [
    '| in the image | MiB |',
    '| --- | ---: |',
    row('the bundle', bytes('/opt/nrdot')),
    row('native packages (zstd)', bytes('/opt/nrdot/node_modules')),
    row('list of packages', bytes('/opt/nrdot/sbom.cdx.json')),
    row(`Node ${sizes.trim().split('\n').at(-1)}`, node),
    row('the rest of the base image', size - ours - node),
    row('in all, uncompressed', size),
  ].join('\n');
}

async function memoryTable(): Promise<string> {
  await using stack = await Stack.plan();
  await stack.up();
  const [receiver] = await stack.containers('receiver');
  const port = receiver!.NetworkSettings.Ports['4318/tcp']![0]!.HostPort;
  const report = await generate({
    endpoint: `http://127.0.0.1:${port}`,
    rate: RATE,
    durationMs: SECONDS * 1_000,
  });
  await stack.quiet();
  const rows: string[] = [];
  for (const container of await stack.containers()) {
    const { most } = await stack.memory(container);
    const limit = container.HostConfig.Memory / MEBIBYTE;
    rows.push(
      `| ${container.Config.Labels['com.docker.compose.service']} | ${most.toFixed(0)} | ${limit.toFixed(0)} |`,
    );
  }
  return [
    `With one container of each, under ${report.itemsPerSecond} spans/s for ${SECONDS} s (${availableParallelism()} cores):`,
    '',
    '| service | resident at most, MiB | limit, MiB |',
    '| --- | ---: | ---: |',
    ...rows.sort(),
  ].join('\n');
}

await buildImage();
const figures = `${await imageTable()}\n\n${await memoryTable()}`;
const page = readFileSync(PAGE, 'utf8');
writeFileSync(
  PAGE,
  page.replace(
    /(<!-- figures: .*-->\n)[\s\S]*(<!-- \/figures -->)/,
    (_, from, to) => `${from}\n${figures}\n\n${to}`,
  ),
);
process.stdout.write(`${figures}\n`);
