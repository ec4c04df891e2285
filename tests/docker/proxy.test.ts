/** The stack where Docker gives every container a proxy, as its client's `config.json` does in companies. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findProgram, type Server, startTinyproxy } from '../servers/servers.ts';
import { buildImage, ROOT, whyNoEngine } from './engine.ts';
import { Stack } from './stack.ts';

const why = whyNoEngine() ?? (findProgram('tinyproxy') ? undefined : 'tinyproxy is not installed');
/** The proxy runs on this machine, which knows no names of the stack: so the upstream has an address of its own. */
const NET = '10.213.87';
const HOST = `${NET}.1`;
const UPSTREAM = `${NET}.10`;
const SERVICES = ['receiver', 'scheduler', 'exporter', 'dlq', 'mock-upstream'];

const override = (proxy: string, config: string) => `networks:
  pipeline:
    ipam:
      config:
        - subnet: ${NET}.0/24
services:
${SERVICES.map(
  (service) => `  ${service}:
    environment:
      HTTP_PROXY: ${proxy}
      http_proxy: ${proxy}
      HTTPS_PROXY: ${proxy}
      https_proxy: ${proxy}
${service === 'exporter' ? `    volumes: ["${config}:/etc/nrdot/nrdot.yaml:ro"]\n` : ''}${
  service === 'mock-upstream' ? `    networks:\n      pipeline:\n        ipv4_address: ${UPSTREAM}\n` : ''
}`,
).join('')}`;

describe.skipIf(why)(`behind a proxy${why ? ` (skipped: ${why})` : ''}`, () => {
  let dir: string;
  let proxy: Server;
  let stack: Stack;
  beforeAll(async () => {
    await buildImage();
    dir = mkdtempSync(join(tmpdir(), 'nrdot-proxy-'));
    chmodSync(dir, 0o755);
    proxy = await startTinyproxy(dir, undefined, `${NET}.0/24`);
    const file = join(dir, 'override.yml');
    const config = join(dir, 'nrdot.yaml');
    const own = readFileSync(join(ROOT, 'infra/docker/nrdot.yaml'), 'utf8');
    writeFileSync(config, own.replace('http://mock-upstream:', `http://${UPSTREAM}:`));
    writeFileSync(file, override(proxy.url.replace('127.0.0.1', HOST), config));
    stack = await Stack.plan({ override: file });
    await stack.up();
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  it('is used for the upstream, and not between the services', async () => {
    expect(await stack.missing(await stack.send(1_000))).toBe('');
    const asked = () => new Set(proxy.log().match(/(?<=: )[A-Z]+ http:\/\/[^/\s]+/g));
    expect([...asked()]).toEqual([`POST http://${UPSTREAM}:4320`]);
    // Without Redis the receivers ask the dlq itself.
    await stack.compose('stop', 'redis');
    const report = await stack.send(500);
    expect(report.acknowledgedItems).toBe(500);
    await stack.compose('start', 'redis');
    await waitUntil(async () => (await stack.missing(report)) === '', {
      what: 'what was acknowledged without Redis has arrived',
      everyMs: 500,
    });
    expect([...asked()]).toEqual([`POST http://${UPSTREAM}:4320`]);
  });
});
