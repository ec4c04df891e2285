/** Runs the commands of docs/docker.md in their order, as somebody would who types them in one shell. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { buildImage, COMPOSE, ROOT, run, whyNoEngine } from './engine.ts';
import { Stack } from './stack.ts';

// It takes three minutes, most of them waiting for containers to stop.
const why = process.env.NRDOT_TEST_GUIDE ? whyNoEngine() : 'make test-docker runs it';
const TIME_LIMIT_MS = 480_000;
/** Blocks marked `sh not-run` need what a test does not have, such as a key. */
const BLOCKS = [...readFileSync(`${ROOT}docs/docker.md`, 'utf8').matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(
  ([, block]) => block!,
);

describe.skipIf(why)(`docs/docker.md${why ? ` (skipped: ${why})` : ''}`, () => {
  it(
    'has commands that work in sequence',
    async () => {
      expect(BLOCKS.length).toBeGreaterThan(8);
      await buildImage();
      using dir = temporaryDirectory();
      await using stack = await Stack.plan();
      const { otlpPort, adminPort } = stack;
      const commands = BLOCKS.join('')
        .replaceAll('4318-4319', `${otlpPort}-${otlpPort + 1}`)
        .replaceAll('8888-8889', `${adminPort}-${adminPort + 1}`)
        .replaceAll('127.0.0.1:8888', `127.0.0.1:${adminPort}`);
      if (COMPOSE?.length === 1) {
        // `docker compose` where there is only docker-compose.
        const shim = join(dir.path, 'docker');
        writeFileSync(
          shim,
          `#!/bin/sh\nPATH=\${PATH#*:}\n[ "$1" = compose ] || exec docker "$@"\nshift\nexec docker-compose "$@"\n`,
        );
        chmodSync(shim, 0o755);
      }
      await run(['bash', '-euxo', 'pipefail', '-c', `cd ${dir.path}\n${commands}`], {
        env: {
          ...stack.env,
          COMPOSE_FILE: `${ROOT}docker-compose.yml`,
          NRDOT_OTLP_PORTS: String(otlpPort),
          NRDOT_ADMIN_PORTS: String(adminPort),
          PATH: `${dir.path}:${process.env.PATH}`,
        },
        timeoutMs: TIME_LIMIT_MS - 60_000,
      });
    },
    TIME_LIMIT_MS,
  );
});
