/**
 * Runs the tests of this directory on a cluster, and ends what it started of one:
 *     node tests/kubernetes/run.ts [vitest's arguments]
 *     node tests/kubernetes/run.ts --keep       leaves the cluster, and says how to use it
 *     node tests/kubernetes/run.ts --stop       ends one that was left
 *
 * Which: the one of NRDOT_TEST_CLUSTER, a kubeconfig's path, with NRDOT_TEST_LOAD_IMAGES, a command that brings Docker's images
 * named after it to its nodes, and NRDOT_TEST_KUBELET, one that stops or starts the kubelet, with the word VERB for which; else a new one by kind, where it is installed and its image is to be had; else one from parts (parts.ts).
 * Where none is to be had, it says why and ends well.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { IMAGE, REDIS_IMAGE, ROOT, run } from './commands.ts';
import { KUBECONFIG, loadImages, startKubelet, startNode, stopKubelet, stopNode } from './node.ts';
import { BIN, isHere, makeParts, whyNoParts } from './parts.ts';

interface Cluster {
  kubeconfig: string;
  load(images: readonly string[]): Promise<void>;
  /** Command that stops or starts the kubelet of its node, as VERB in it says. */
  kubelet?: string;
  end(): Promise<void>;
}

const KIND = 'nrdot-test';
const BUILD_TIMEOUT_MS = 900_000;
const say = (line: string) => console.log(`kubernetes: ${line}`);

const { values, positionals } = parseArgs({
  options: { keep: { type: 'boolean' }, stop: { type: 'boolean' }, kubelet: { type: 'string' } },
  allowPositionals: true,
});
if (values.stop) await stopNode();
else if (values.kubelet === 'stop') await stopKubelet();
else if (values.kubelet === 'start') startKubelet();
else process.exitCode = await main();

async function main(): Promise<number> {
  const why = whyNoImages();
  if (why) return skipped(why);
  const cluster = given() ?? (await kind()) ?? (await parts());
  if (typeof cluster === 'string') return skipped(cluster);
  try {
    say('building the image');
    await run(['docker', 'build', '-q', '-f', 'infra/docker/Dockerfile', '-t', IMAGE, '.'], {
      timeoutMs: BUILD_TIMEOUT_MS,
    });
    await cluster.load([IMAGE, REDIS_IMAGE]);
    const env = { ...process.env, KUBECONFIG: cluster.kubeconfig, NRDOT_TEST_CLUSTER: cluster.kubeconfig };
    if (values.keep) {
      say(`the cluster is left: export KUBECONFIG=${cluster.kubeconfig} PATH=${BIN}:$PATH`);
      return 0;
    }
    const kubelet = cluster.kubelet ?? process.env.NRDOT_TEST_KUBELET;
    const vitest = [
      'vitest',
      'run',
      '--project',
      'kubernetes',
      '--reporter',
      'verbose',
      '--reporter',
      './infra/test/closing-line.ts',
    ];
    const { status } = spawnSync('npx', [...vitest, ...positionals], {
      cwd: ROOT,
      stdio: 'inherit',
      env: { ...env, ...(kubelet ? { NRDOT_TEST_KUBELET: kubelet } : {}) },
    });
    return status ?? 1;
  } finally {
    if (!values.keep) await cluster.end();
  }
}

function skipped(why: string): number {
  say(`no cluster is to be had here, so nothing was tested: ${why}`);
  console.log('\n0 passed, 0 failed, 1 skipped');
  return 0;
}

function answers(program: string, ...args: string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore', timeout: BUILD_TIMEOUT_MS });
    return true;
  } catch {
    return false;
  }
}

function whyNoImages(): string | undefined {
  if (!answers('docker', 'info')) return 'no Docker engine is running, which builds the image';
  for (const image of ['node:24-bookworm-slim', REDIS_IMAGE])
    if (!answers('docker', 'image', 'inspect', image) && !answers('docker', 'pull', '-q', image))
      return `the image ${image} is not to be had`;
  return undefined;
}

function given(): Cluster | undefined {
  const { NRDOT_TEST_CLUSTER: kubeconfig, NRDOT_TEST_LOAD_IMAGES: command } = process.env;
  if (!kubeconfig) return undefined;
  return {
    kubeconfig,
    load: async (images) => {
      if (command) await run([...command.split(' '), ...images]);
      else say('NRDOT_TEST_LOAD_IMAGES is not set: the images have to be on the nodes');
    },
    end: async () => {},
  };
}

async function kind(): Promise<Cluster | undefined> {
  if (!isHere('kind') || !isHere('helm') || !isHere('kubectl')) return undefined;
  const kubeconfig = join(mkdtempSync(join(tmpdir(), 'nrdot-kind-')), 'kubeconfig');
  try {
    say('creating a cluster by kind');
    await run(['kind', 'create', 'cluster', '--name', KIND, '--kubeconfig', kubeconfig, '--wait', '120s']);
  } catch (error) {
    say(`kind makes none: ${(error as Error).message.split('\n').at(-1)}`);
    return undefined;
  }
  return {
    kubeconfig,
    load: async (images) => void (await run(['kind', 'load', 'docker-image', '--name', KIND, ...images])),
    kubelet: `docker exec ${KIND}-control-plane systemctl VERB kubelet`,
    end: async () => void (await run(['kind', 'delete', 'cluster', '--name', KIND])),
  };
}

async function parts(): Promise<Cluster | string> {
  const why = whyNoParts();
  if (why) return why;
  try {
    makeParts(say);
  } catch (error) {
    return `its parts cannot be made: ${(error as Error).message}`;
  }
  say('starting a node');
  await startNode();
  process.env.PATH = `${BIN}:${process.env.PATH}`;
  return {
    kubeconfig: KUBECONFIG,
    load: loadImages,
    kubelet: `${process.execPath} ${ROOT}tests/kubernetes/run.ts --kubelet VERB`,
    end: stopNode,
  };
}
