/** The dlq's disk as a directory of the host, of a user that the container does not know. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, docker, IMAGE, whyNoEngine } from './engine.ts';
import { Stack } from './stack.ts';

const why = whyNoEngine();
const STRANGER = 12_345;

describe.skipIf(why)(`a directory of the host${why ? ` (skipped: ${why})` : ''}`, () => {
  let dir: string;
  let stack: Stack;
  const asRoot = (command: string) =>
    docker('run', '--rm', '--user', '0', '-v', `${dir}/dlq:/it`, '--entrypoint', 'sh', IMAGE, '-c', command);
  beforeAll(async () => {
    await buildImage();
    dir = mkdtempSync(join(tmpdir(), 'nrdot-directory-'));
    const override = join(dir, 'override.yml');
    writeFileSync(override, `services:\n  dlq:\n    volumes: ["${dir}/dlq:/data"]\n`);
    stack = await Stack.plan({ override });
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
    await asRoot('rm -rf /it/*');
    rmSync(dir, { recursive: true, force: true });
  });

  it('of another user is reported with its owner, and works once its owner is corrected', async () => {
    await asRoot(`chown ${STRANGER}:${STRANGER} /it && chmod 700 /it`);
    await stack.compose('up', '-d', '--no-build');
    await waitUntil(
      async () =>
        (await stack.compose('logs', 'dlq')).includes(`it belongs to uid ${STRANGER} and gid ${STRANGER}`),
      { what: 'the dlq names the owner of its directory', everyMs: 300 },
    );
    const said = await stack.compose('logs', 'dlq');
    const [, uid] = /this process has uid (\d+)/.exec(said) ?? [];
    expect(said).toContain(`chown -R ${uid}`);
    await asRoot(`chown -R ${uid} /it`);
    await stack.healthy();
    expect(await stack.missing(await stack.send(1_000))).toBe('');
  });
});
