/** The small example on a cluster, under load: scaled, restarted, killed, cut off. What was acknowledged has to arrive. */
import { setTimeout as wait } from 'node:timers/promises';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { run } from './commands.ts';
import { Release, workload } from './release.ts';

const why = process.env.NRDOT_TEST_CLUSTER ? undefined : 'make test-kubernetes runs it';
/** Stops or starts the node's kubelet, where that can be done. */
const kubelet = process.env.NRDOT_TEST_KUBELET;
const toKubelet = (verb: 'stop' | 'start') => run(kubelet!.replace('VERB', verb).split(' '));
const ROLES = ['receiver', 'scheduler', 'exporter', 'dlq'];
const LIMIT_BYTES = 150 * 1024 * 1024;
/** Longer than the 40 s after which a node that says nothing is marked as lost. */
const KUBELET_AWAY_MS = 60_000;

const BOOKS_SEEN_MS = 10_000;

let release: Release;

describe.skipIf(why)(`the chart on a cluster${why ? ` (skipped: ${why})` : ''}`, () => {
  beforeAll(async () => {
    release = await Release.prepare();
    await release.upgrade('small');
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(await release.troubles());
  });
  afterAll(async () => {
    await release?.[Symbol.asyncDispose]();
  });

  it('accepts data at its Service, and delivers it', async () => {
    const load = await release.load();
    const { duplicates, unknown } = await load.verdict('Sent through the Service');
    expect({ duplicates, unknown }).toEqual({ duplicates: 0, unknown: 0 });
  });

  it('loses nothing while exporters and receivers are scaled out and in', async () => {
    await release.scale('receiver', 2);
    const load = await release.load();
    await release.scale('exporter', 3);
    await release.scale('receiver', 3);
    await load.more(3_000);
    await release.scale('receiver', 2);
    await release.scale('exporter', 1);
    await load.more(3_000);
    const { unknown } = await load.verdict('Exporters 1 to 3 to 1, receivers 2 to 3 to 2');
    expect(unknown).toBe(0);
  });

  it('loses nothing while everything is restarted', async () => {
    const load = await release.load();
    await release.kubectl('rollout', 'restart', ...ROLES.map(workload));
    for (const role of ROLES) await release.kubectl('rollout', 'status', workload(role), '--timeout=180s');
    await load.more(2_000);
    await load.verdict('All restarted by kubectl rollout restart');
  });

  it.each(['receiver', 'scheduler', 'exporter'])(
    'loses nothing while a pod of %s is killed',
    async (role) => {
      const load = await release.load();
      await release.kill(role);
      await load.more(2_000);
      await load.verdict(`A ${role} killed`);
    },
  );

  it('reattaches the volume when the dlq is killed while it holds data', async () => {
    const load = await release.load();
    const claim = async () => (await release.get('pvc', 'data-nrdot-plus-dlq-0')).spec.volumeName;
    const volume = await claim();
    await release.scale('redis', 0);
    await load.more(3_000);
    await release.kill('dlq');
    await load.more(2_000);
    await release.scale('redis', 1);
    await load.more(2_000);
    expect(await claim()).toBe(volume);
    await load.verdict('The dlq killed while Redis was away and its disk held data');
  });

  it("loses nothing when Redis' pod is killed and another one takes over its volume", async () => {
    const load = await release.load();
    await release.mock('outage/on', 'POST');
    await load.more(2_000);
    await release.kill('redis');
    await load.more(2_000);
    await release.mock('outage/off', 'POST');
    await load.verdict("Redis' pod killed while all of it waited there");
  });

  it("reports what is lost with Redis' volume, and continues without a restart", async () => {
    // Without exporters it stays in Redis; an upstream that fails sends it to the disk.
    const { accepted: acceptedBefore } = await release.quiet();
    await release.scale('exporter', 0);
    const before = await restarts();
    const unlucky = await release.load();
    await unlucky.more(2_000);
    const report = await unlucky.stop();
    // The dlq looks at the books every 2 s; what came after its last look it cannot know.
    await wait(BOOKS_SEEN_MS);
    await release.scale('redis', 0);
    await release.kubectl('delete', 'pvc', 'data-nrdot-plus-redis-0', '--timeout=60s');
    await release.scale('redis', 1);
    await release.scale('exporter', 1);
    const { missing, invented, dropped, accepted } = await unlucky.judge(report);
    // A batch whose step Redis answered too late is on the disk as well: its copy in Redis is lost, and booked, too.
    const copies = accepted - acceptedBefore - report.acknowledgedItems;
    console.log(
      `Redis replaced without its volume: ${report.acknowledgedItems} acknowledged, ${missing.count} lost with it, ${dropped} counted as dropped, ${copies} accepted twice`,
    );
    expect(invented.count).toBe(0);
    expect(missing.count).toBeGreaterThan(0);
    expect(dropped - missing.count).toBeGreaterThanOrEqual(0);
    expect(dropped - missing.count).toBeLessThanOrEqual(copies);
    const load = await release.load();
    await load.verdict('After that');
    expect(await restarts()).toMatchObject(before);
  });

  it.skipIf(!kubelet)(
    'keeps working while the kubelet of its node is down',
    async () => {
      const load = await release.load();
      await toKubelet('stop');
      try {
        await wait(KUBELET_AWAY_MS);
      } finally {
        await toKubelet('start');
      }
      await waitUntil(async () => (await run(['kubectl', 'get', 'nodes'])).includes(' Ready'), {
        what: 'the node is ready again',
        timeoutMs: 120_000,
        everyMs: 1_000,
      });
      for (const role of ROLES) await release.ready(role, role === 'receiver' ? 2 : 1);
      await load.more(2_000);
      await load.verdict('The kubelet away for a minute');
    },
    480_000,
  );

  it('stays within 150 MiB in each pod', async () => {
    for (const role of ROLES)
      for (const { metadata, spec, status } of await release.pods(role)) {
        expect(spec.containers[0].resources.limits.memory).toBe('150Mi');
        expect(status.containerStatuses[0].lastState.terminated?.reason, metadata.name).not.toBe('OOMKilled');
        const resident = await release.kubectl('exec', metadata.name, '--', 'cat', '/proc/1/status');
        const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(resident)?.[1]) * 1024;
        console.log(`${metadata.name}: at most ${(peak / 1024 / 1024).toFixed(0)} MiB resident`);
        expect(peak).toBeGreaterThan(0);
        expect(peak, metadata.name).toBeLessThan(LIMIT_BYTES);
      }
  });

  it('leaves only its claims when uninstalled', async () => {
    await release.helm('uninstall', 'nrdot-plus', '--wait', '--timeout', '120s');
    const kinds = [
      ...[
        'pods',
        'deployments',
        'statefulsets',
        'services',
        'configmaps',
        'secrets',
        'serviceaccounts',
        'jobs',
      ],
      ...['poddisruptionbudgets', 'networkpolicies', 'horizontalpodautoscalers', 'persistentvolumeclaims'],
    ];
    const left = async () =>
      (
        await Promise.all(
          kinds.map(async (kind) => (await release.names(kind)).map((name) => `${kind}/${name}`)),
        )
      )
        .flat()
        .filter((name) => !/collector|pods\/load-|kube-root-ca|serviceaccounts\/default/.test(name));
    await waitUntil(async () => !(await left()).some((name) => name.startsWith('pods/')), {
      what: 'its pods are gone',
      timeoutMs: 90_000,
      everyMs: 1_000,
    });
    expect(await left()).toEqual([
      'secrets/nrdot-plus',
      'persistentvolumeclaims/data-nrdot-plus-dlq-0',
      'persistentvolumeclaims/data-nrdot-plus-redis-0',
    ]);
  });
});

/** Restarts of containers, by pod. */
async function restarts(): Promise<Record<string, number>> {
  const pods = (await Promise.all(ROLES.map((role) => release.pods(role)))).flat();
  return Object.fromEntries(
    pods.map((pod) => [pod.metadata.name, pod.status.containerStatuses[0].restartCount]),
  );
}
