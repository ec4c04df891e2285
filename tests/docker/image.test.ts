/** The image: what is in it, what is not, and that it runs as it has to. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { temporaryDirectory, waitUntil } from '@nrdot/testbed';
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
  beforeAll(() => buildImage(), 600_000);

  it('has labels, runs unprivileged, and has a health check', async () => {
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

  it('contains the bundle and the native packages of the lock file, but no development dependencies', async () => {
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

  it('runs as any user of group 0, as OpenShift assigns one, and can write where it has to', async () => {
    const as = (user: string, ...args: string[]) =>
      docker(...['run', '--rm', '--user', user, '--cap-drop', 'ALL', '--network', 'none'], ...args);
    const token = ['--entrypoint', 'make-token', IMAGE, '/run/nrdot/token'];
    await as('1000660000:0', ...token);
    const tried = 'id -u; touch /data/x && echo written; nrdot --version';
    expect(await as('1000660000:0', '--entrypoint', 'bash', IMAGE, '-c', tried)).toBe(
      `1000660000\nwritten\n${version}\n`,
    );
  });

  it('queries a service whose admin address uses TLS, as the health check does', async () => {
    using dir = temporaryDirectory();
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
        ...['-subj', '/CN=elsewhere', '-keyout', 'tls.key', '-out', 'tls.crt'],
      ],
      { cwd: dir.path, stdio: 'pipe' },
    );
    const tls = { cert_file: '/tls/tls.crt', key_file: '/tls/tls.key' };
    const redis = { url: 'redis://127.0.0.1:1' };
    writeFileSync(
      `${dir.path}/nrdot.yaml`,
      JSON.stringify({ redis, admin: { listen: ':8888', token: 'word', tls } }),
    );
    execFileSync('chmod', ['-R', 'a+rX', dir.path]);
    const id = (
      await docker(
        ...['run', '-d', '--network', 'none', '-v', `${dir.path}:/tls:ro`, '-e', 'NRDOT_ADMIN_TOKEN=word'],
        ...[IMAGE, 'scheduler', '--config', '/tls/nrdot.yaml'],
      )
    ).trim();
    try {
      const ask = () => docker('exec', id, 'ask', 'GET', '8888', '/healthz').then(() => true);
      await waitUntil(() => ask().catch(() => false), { what: 'it is alive', timeoutMs: 30_000 });
      await expect(docker('exec', id, 'ask', 'GET', '8888', '/readyz')).rejects.toThrow(); // no Redis
      expect(await docker('exec', id, 'ask', 'GET', '8888', '/metrics')).toContain('pipeline_redis_up');
    } finally {
      await docker('rm', '-f', id);
    }
  });

  it('lists its packages', async () => {
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

  it('queries a service and reports the result by its exit status', async () => {
    await expect(inside('ask', 'GET', 'here')).rejects.toThrow(/usage: ask METHOD PORT/);
    await expect(inside('ask', 'GET', '8888', '/healthz')).rejects.toThrow(/refused/);
  });
});
