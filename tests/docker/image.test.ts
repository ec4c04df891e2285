/** The image: what is in it, what is not, and that it runs as it has to. */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildImage, docker, IMAGE, ROOT, whyNoEngine } from './engine.ts';

const why = whyNoEngine();
const lock = JSON.parse(readFileSync(`${ROOT}package-lock.json`, 'utf8')) as {
  packages: Record<string, { version?: string; dev?: boolean; devOptional?: boolean }>;
};
const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { version: string };
/** Runs a program of the image as compose does. */
const inside = (entrypoint: string, ...args: string[]) =>
  docker(
    'run',
    '--rm',
    '--read-only',
    '--cap-drop',
    'ALL',
    '--network',
    'none',
    '--entrypoint',
    entrypoint,
    IMAGE,
    ...args,
  );

describe.skipIf(why)(`the image${why ? ` (skipped: ${why})` : ''}`, () => {
  beforeAll(buildImage, 600_000);

  it('says what it is, runs as nobody special, and has a health check', async () => {
    const [{ Config: config }] = JSON.parse(await docker('image', 'inspect', IMAGE));
    expect(config.User).toBe('1000:1000');
    expect(config.Entrypoint).toEqual(['nrdot']);
    expect(config.Healthcheck.Test).toEqual(['CMD', 'ask', 'GET', '8888', '/healthz']);
    expect(config.Labels).toMatchObject({
      'org.opencontainers.image.title': 'NRDOT+',
      'org.opencontainers.image.licenses': 'Apache-2.0',
      'org.opencontainers.image.version': version,
    });
  });

  it('runs on a read-only root without capabilities and network', async () => {
    expect((await inside('nrdot', '--version')).trim()).toBe(version);
    expect(await inside('bash', '-c', 'id -u; touch /opt/nrdot/x 2>&1 || true')).toMatch(
      /^1000\n.*Read-only/,
    );
  });

  it('holds the bundle and the native packages of the lock file, and nothing that development needs', async () => {
    const found = await inside('bash', '-c', 'cd /opt/nrdot && find . -name package.json && ls');
    const packages = [...found.matchAll(/^\.\/node_modules\/(\S+)\/package\.json$/gm)].map(
      ([, name]) => name!,
    );
    expect(packages).toContain('@mongodb-js/zstd');
    expect(packages).toHaveLength(2);
    for (const name of packages) {
      const text = await inside('cat', `/opt/nrdot/node_modules/${name}/package.json`);
      expect((JSON.parse(text) as { version: string }).version).toBe(
        lock.packages[`node_modules/${name}`]!.version,
      );
    }
    expect(found).not.toMatch(/\.ts$/m);
    const program = `import zstd from '@mongodb-js/zstd';
      const bytes = Buffer.from('as it was');
      console.log(String(await zstd.decompress(await zstd.compress(bytes))));`;
    const file = '/opt/nrdot/x.mjs';
    expect(
      await inside('bash', '-c', `cd /opt/nrdot && node --input-type=module -e "${program}" ${file}`),
    ).toBe('as it was\n');
  });

  it('lists what it was made from', async () => {
    const sbom = JSON.parse(await inside('cat', '/opt/nrdot/sbom.cdx.json')) as {
      bomFormat: string;
      components: { name: string; group?: string; version: string; purl: string }[];
    };
    expect(sbom.bomFormat).toBe('CycloneDX');
    const purls = new Set(sbom.components.map(({ purl }) => decodeURIComponent(purl)));
    for (const name of ['fastify', 'bullmq', 'ioredis', 'zod', '@mongodb-js/zstd']) {
      expect(purls).toContain(`pkg:npm/${name}@${lock.packages[`node_modules/${name}`]!.version}`);
    }
    for (const name of ['vitest', 'esbuild', 'testcontainers']) {
      expect([...purls].some((purl) => purl.startsWith(`pkg:npm/${name}@`))).toBe(false);
    }
  });

  it('asks a service and says by its exit status how it went', async () => {
    await expect(inside('ask', 'GET', 'here')).rejects.toThrow(/usage: ask METHOD PORT/);
    await expect(inside('ask', 'GET', '8888', '/healthz')).rejects.toThrow(/refused/);
  });
});
