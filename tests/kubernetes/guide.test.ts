/** The commands of docs/kubernetes.md for a small cluster, in their order, as somebody would who types them in. */
import { readFileSync } from 'node:fs';
import { freePort, Process, waitUntil } from '@nrdot/testbed';
import { afterAll, describe, expect, it } from 'vitest';
import { ROOT, run } from './commands.ts';

const why = process.env.NRDOT_TEST_CLUSTER ? undefined : 'make test-kubernetes runs it';
const [, section = ''] = readFileSync(`${ROOT}docs/kubernetes.md`, 'utf8').split(/^## On kind.*$/m);
const COMMANDS = [...section.split(/^## /m)[0]!.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap(([, block]) =>
  block!
    .replace(/\\\n\s*/g, ' ')
    .trim()
    .split('\n'),
);
/** What makes the cluster and brings the image to it has been done. */
const DONE = /^(docker build|kind) /;

describe.skipIf(why)(`docs/kubernetes.md${why ? ` (skipped: ${why})` : ''}`, () => {
  afterAll(async () => {
    await run(['kubectl', 'delete', 'namespace', 'telemetry', '--ignore-not-found', '--timeout=120s']);
  });

  it('has commands that work in sequence', async () => {
    expect(COMMANDS.length).toBeGreaterThan(10);
    const ports = new Map<string, number>();
    const forwards: Process[] = [];
    const shell = (line: string) => run(['bash', '-euo', 'pipefail', '-c', line]);
    let last = '';
    try {
      for (const command of COMMANDS.filter((one) => !DONE.test(one))) {
        const local = command.replace(/127\.0\.0\.1:(\d+)/g, (all, port: string) =>
          ports.has(port) ? `127.0.0.1:${ports.get(port)}` : all,
        );
        const forward = /^kubectl (.* port-forward \S+) (\d+):(\d+)$/.exec(command);
        if (forward) {
          const [, args, port, to] = forward;
          const own = await freePort();
          ports.set(port!, own);
          const process = new Process('port-forward', 'kubectl', [...args!.split(' '), `${own}:${to}`]);
          forwards.push(process);
          await process.line(/Forwarding from/);
        } else {
          last = local;
          await shell(last);
        }
      }
      // The last one asks what has arrived, and the very last items may be on their way.
      await waitUntil(async () => (JSON.parse(await shell(last)) as { items: number }).items >= 10_000, {
        what: 'all points have arrived',
        everyMs: 500,
      });
    } finally {
      for (const process of forwards) process.child.kill();
    }
  });
});
