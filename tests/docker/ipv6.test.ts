/** The stack on a network with both families. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, docker, whyNoEngine } from './engine.ts';
import { Stack } from './stack.ts';

const why = whyNoEngine();
const SUBNET = 'fd6e:7264:6f74::/64';
const OVERRIDE = `networks:
  pipeline:
    enable_ipv6: true
    ipam:
      config:
        - subnet: ${SUBNET}
`;
const ITEMS = 2_000;

describe.skipIf(why)(`IPv6${why ? ` (skipped: ${why})` : ''}`, () => {
  let dir: string;
  let stack: Stack;
  beforeAll(async () => {
    await buildImage();
    dir = mkdtempSync(join(tmpdir(), 'nrdot-ipv6-'));
    const override = join(dir, 'override.yml');
    writeFileSync(override, OVERRIDE);
    stack = await Stack.plan({ override });
    await stack.up();
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  it('reaches the receiver, and acknowledged data arrives', async () => {
    const [receiver] = await stack.containers('receiver');
    const { GlobalIPv6Address: address } = receiver!.NetworkSettings.Networks[`${stack.project}_pipeline`]!;
    expect(address).toMatch(/^fd6e:/);
    const [scheduler] = await stack.containers('scheduler');
    const load = ['--endpoint', `http://[${address}]:4318`, '--rate', '1000', '--items', String(ITEMS)];
    await docker('exec', scheduler!.Id, 'nrdot', 'generate', ...load);
    await waitUntil(async () => (await stack.mockStats()).items === ITEMS, {
      what: `${ITEMS} items arrived`,
      everyMs: 200,
    });
    expect(await stack.quiet()).toMatchObject({ dropped: 0, rejected: 0 });
  });
});
