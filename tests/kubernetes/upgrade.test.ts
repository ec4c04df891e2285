/** Upgrades of the chart under load, from the release before and to what cannot run, and the ways back. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { CHART, EXAMPLES, ROOT, run } from './commands.ts';
import { type Load, RELEASE, Release, workload } from './release.ts';

const why = process.env.NRDOT_TEST_CLUSTER ? undefined : 'make test-kubernetes runs it';
/** The last commit whose chart had one ConfigMap, and a StatefulSet that is managed in order. */
const BEFORE = '6935343';
const ROLES = ['receiver', 'scheduler', 'exporter', 'dlq'];
const SMALL = ['--values', `${EXAMPLES}/small.yaml`];
const MISSING_IMAGE = ['--set', 'image.tag=not-there', '--set', 'image.pullPolicy=Never'];
const BAD_CONFIG = ['--set', 'config.log.level=loud'];
const UNCHECKED = ['--set', 'validate.enabled=false'];
const WAIT = ['--wait', '--timeout', '180s'];
/** Of a Redis that belongs to no release, so that charts can come and go. */
const REDIS = 'store-nrdot-plus-redis';

let release: Release;
let dir: string;
let load: Load;

const upgrade = (...args: string[]) => release.helm('upgrade', RELEASE, CHART, ...SMALL, ...OWN, ...args);
const OWN = ['--set', 'redis.deploy.enabled=false', '--set', `redis.url=redis://${REDIS}:6379`];
const uids = async () =>
  (await Promise.all(ROLES.map((role) => release.pods(role))))
    .flat()
    .map((pod) => pod.metadata.uid)
    .sort();
const deployed = async () => {
  const [last] = JSON.parse(await release.helm('history', RELEASE, '--max', '1', '-o', 'json'));
  return last as { revision: number; status: string };
};
/** The last revision that was deployed as a whole. */
const good = async () => {
  const all = JSON.parse(await release.helm('history', RELEASE, '-o', 'json')) as {
    revision: number;
    status: string;
  }[];
  return all.filter(({ status }) => status === 'deployed').at(-1)!.revision;
};

describe.skipIf(why)(`upgrades of the chart${why ? ` (skipped: ${why})` : ''}`, () => {
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'nrdot-chart-'));
    release = await Release.prepare();
    const redis = [
      'template',
      'store',
      CHART,
      '--set',
      'redis.deploy.enabled=true',
      '--set',
      'serviceAccount.create=false',
    ];
    await release.apply(await run(['helm', ...redis, '--show-only', 'templates/redis.yaml']));
    const archive = [
      'git',
      'archive',
      '--format=tar',
      '-o',
      join(dir, 'chart.tar'),
      BEFORE,
      'infra/helm/nrdot-plus',
    ];
    await run(archive, { env: { GIT_DIR: join(ROOT, '.git') } });
    await run(['tar', '-C', dir, '-xf', join(dir, 'chart.tar')]);
    const old = join(dir, 'values.yaml');
    await run(['tee', old], {
      input: stringify({
        redis: { url: `redis://${REDIS}:6379` },
        upstream: { endpoint: 'http://collector:4318', port: 4318 },
        receiver: { replicas: 1, autoscaling: { enabled: false } },
        scheduler: { replicas: 1 },
        exporter: { replicas: 1 },
        dlq: { persistence: { size: '2Gi' } },
        config: { dlq: { capacity: '1GiB' } },
      }),
    });
    await release.helm('install', RELEASE, join(dir, 'infra/helm/nrdot-plus'), '--values', old, ...WAIT);
    load = await release.load({ rate: 400 });
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(await release.troubles());
  });
  afterAll(async () => {
    await release?.[Symbol.asyncDispose]();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });

  it('from the previous release work as the guide says, and keep the volume', async () => {
    const volume = (await release.get('pvc', 'data-nrdot-plus-dlq-0')).spec.volumeName;
    await expect(upgrade(...WAIT)).rejects.toThrow(/StatefulSet.*nrdot-plus-dlq|updates to statefulset spec/);
    await release.kubectl('delete', 'statefulset', 'nrdot-plus-dlq', '--cascade=orphan');
    await upgrade(...WAIT);
    expect((await deployed()).status).toBe('deployed');
    expect((await release.get('statefulset', 'nrdot-plus-dlq')).spec.podManagementPolicy).toBe('Parallel');
    expect((await release.get('pvc', 'data-nrdot-plus-dlq-0')).spec.volumeName).toBe(volume);
    await load.more(1_000);
  });

  it('stop at a bad configuration before a pod is touched, and report the error', async () => {
    const before = await uids();
    await expect(upgrade(...BAD_CONFIG, ...WAIT)).rejects.toThrow(/pre-upgrade hooks failed/);
    expect(await release.kubectl('logs', 'job/nrdot-plus-validate', '-c', 'receiver')).toMatch(
      /log\.level: "loud" — expected one of debug/,
    );
    expect(await uids()).toEqual(before);
  });

  it('stop at an image that does not exist before a pod is touched', async () => {
    const before = await uids();
    await expect(upgrade(...MISSING_IMAGE, '--set', 'validate.timeoutSeconds=15', ...WAIT)).rejects.toThrow(
      /pre-upgrade hooks failed/,
    );
    expect(await uids()).toEqual(before);
  });

  it('can be rolled back from an image that does not exist, including the dlq', async () => {
    await expect(upgrade(...MISSING_IMAGE, ...UNCHECKED, '--wait', '--timeout', '20s')).rejects.toThrow(
      /not ready|timed out|deadline/i,
    );
    await waitUntil(
      async () =>
        (await release.pods('dlq'))[0]?.status.containerStatuses?.[0]?.state?.waiting?.reason ===
        'ErrImageNeverPull',
      { what: 'the dlq waits for its image', timeoutMs: 90_000, everyMs: 500 },
    );
    await load.more(500);
    await release.helm('rollback', RELEASE, String(await good()), ...WAIT);
    await release.ready('dlq', 1);
    await load.more(500);
  });

  it('to a bad configuration leave the old configuration to serving pods and their replacements', async () => {
    await expect(upgrade(...BAD_CONFIG, ...UNCHECKED, '--wait', '--timeout', '20s')).rejects.toThrow(
      /not ready|timed out|deadline/i,
    );
    const serving = (await release.pods('receiver')).filter(
      (pod) => pod.status.containerStatuses?.[0]?.ready === true,
    );
    expect(serving).toHaveLength(1);
    await release.kubectl(
      'delete',
      'pod',
      serving[0].metadata.name,
      '--grace-period=0',
      '--force',
      '--wait=false',
    );
    await waitUntil(
      async () =>
        (await release.pods('receiver')).some(
          (pod) =>
            pod.metadata.uid !== serving[0].metadata.uid && pod.status.containerStatuses?.[0]?.ready === true,
        ),
      { what: 'another receiver serves with the previous configuration', timeoutMs: 90_000, everyMs: 500 },
    );
    await load.more(500);
    await release.helm('rollback', RELEASE, String(await good()), ...WAIT);
    await load.more(500);
  });

  it('can be rolled back to the previous release as the guide says', async () => {
    await release.kubectl('delete', 'statefulset', 'nrdot-plus-dlq', '--cascade=orphan');
    await release.helm('rollback', RELEASE, '1', ...WAIT);
    for (const role of ROLES) await release.kubectl('rollout', 'status', workload(role), '--timeout=120s');
    expect((await release.get('statefulset', 'nrdot-plus-dlq')).spec.podManagementPolicy).toBe(
      'OrderedReady',
    );
    expect(await release.names('configmaps')).toEqual(['kube-root-ca.crt', 'nrdot-plus']);
    await load.more(1_000);
  });

  it('have lost nothing that was acknowledged meanwhile', async () => {
    await load.verdict(
      'Upgraded from the release before, four upgrades that failed, two roll-backs, and back',
    );
  });
});
