/** What the chart makes for every example, as the API server takes it: schemas, Pod Security, the kinds that others bring. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { exampleNames } from '../../infra/helm/chart.ts';
import { CHART, EXAMPLES, IMAGE, run } from './commands.ts';
import { isHere, moduleDirectory } from './parts.ts';
import { RELEASE, Release } from './release.ts';

const why = process.env.NRDOT_TEST_CLUSTER ? undefined : 'make test-kubernetes runs it';
/** Modules that publish the kinds, and where in them. */
const KINDS: Readonly<Record<string, readonly [string, string]>> = {
  'keda.sh': ['github.com/kedacore/keda/v2@v2.21.0', 'config/crd/bases'],
  'monitoring.coreos.com': [
    'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    'example/prometheus-operator-crd',
  ],
  'gateway.networking.k8s.io': ['sigs.k8s.io/gateway-api@v1.4.0', 'config/crd/standard'],
  'cert-manager.io': ['github.com/cert-manager/cert-manager@v1.19.1', 'deploy/crds'],
};
const FIELD = 'nrdot-test';

let release: Release;
const brought: string[] = [];

async function bringKinds(group: string): Promise<boolean> {
  const known = await run(['kubectl', 'api-versions']);
  if (known.includes(`${group}/`)) return true;
  if (!isHere('go')) return false;
  try {
    const [module, under] = KINDS[group]!;
    const dir = join(moduleDirectory(module), under);
    const files = readdirSync(dir).filter(
      (name) => name.endsWith('.yaml') && !name.includes('kustomization'),
    );
    const texts = files
      .map((name) => readFileSync(join(dir, name), 'utf8'))
      .filter((text) => text.includes('kind: CustomResourceDefinition'));
    await run(['kubectl', 'apply', '--server-side', '--field-manager', FIELD, '-f', '-'], {
      input: texts.join('\n---\n'),
    });
    brought.push(
      ...texts.flatMap((text) => [...text.matchAll(/^ {2}name: (\S+\.\S+)$/gm)].map(([, name]) => name!)),
    );
    await waitUntil(async () => (await run(['kubectl', 'api-versions'])).includes(`${group}/`), {
      what: `${group} is known`,
      everyMs: 500,
    });
    return true;
  } catch (error) {
    console.log(`no kinds of ${group}: ${(error as Error).message.split('\n')[0]}`);
    return false;
  }
}

describe.skipIf(why)(`objects of the chart${why ? ` (skipped: ${why})` : ''}`, () => {
  beforeAll(async () => {
    release = await Release.prepare();
  });
  afterAll(async () => {
    for (const name of brought)
      await run(['kubectl', 'delete', 'crd', name, '--ignore-not-found', '--wait=false']);
    await release?.[Symbol.asyncDispose]();
  });

  it.each(exampleNames())(
    'of %s are accepted by the API server, and none violates `restricted`',
    async (name) => {
      const values = name === 'default' ? [] : ['--values', join(EXAMPLES, `${name}.yaml`)];
      // One that asks for both families is refused by a cluster that has one.
      const families = ['--set', 'ipFamilyPolicy=PreferDualStack'];
      const text = await release.helm('template', RELEASE, CHART, ...values, ...families);
      const groups = new Set([...text.matchAll(/^apiVersion: ([a-z0-9.-]+)\//gm)].map(([, group]) => group!));
      const foreign = [...groups].filter((group) => group in KINDS);
      const missing: string[] = [];
      for (const group of foreign) if (!(await bringKinds(group))) missing.push(group);
      const objects = text
        .split(/^---$/m)
        .filter((one) => !missing.some((group) => one.includes(`apiVersion: ${group}/`)));
      console.log(
        `${name}: ${objects.filter((one) => /^kind:/m.test(one)).length} objects taken${foreign.length > 0 ? `, with kinds of ${foreign.filter((group) => !missing.includes(group)).join(' and ')}` : ''}${missing.length > 0 ? `; not tried, without their kinds: ${missing.join(', ')}` : ''}`,
      );
      // Warnings are what a namespace that enforces `restricted` says of the pods that a Deployment would make.
      const said = await run(
        [
          'sh',
          '-c',
          `kubectl -n ${release.namespace} apply --dry-run=server --server-side --field-manager ${FIELD} -f - 2>&1`,
        ],
        { input: objects.join('---\n') },
      );
      expect(said).toMatch(/serverside-applied \(server dry run\)/);
      expect(said).not.toMatch(/warning|violate/i);
    },
  );

  it('let only receivers reach the dlq, and only the services reach Redis, where policies are enforced', async (test) => {
    await release.upgrade('small');
    const pod = (name: string, labels: Record<string, string>) =>
      stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, labels },
        spec: {
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 1,
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          containers: [
            {
              name: 'ask',
              image: IMAGE,
              command: ['sleep', '600'],
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            },
          ],
        },
      });
    const policy = stringify({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'walled' },
      spec: { podSelector: { matchLabels: { app: 'walled' } }, policyTypes: ['Egress'], egress: [] },
    });
    await release.apply(
      [pod('stranger', { app: 'stranger' }), pod('walled', { app: 'walled' }), policy].join('---\n'),
    );
    for (const name of ['stranger', 'walled'])
      await release.kubectl('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s');
    const address = async (service: string) =>
      (await release.get('service', service)).spec.clusterIP as string;
    const reaches = async (from: string, to: string, port: number) => {
      const script = `timeout 3 bash -c ': > /dev/tcp/${to}/${port}' 2>/dev/null && echo yes || echo no`;
      return (await release.kubectl('exec', from, '--', 'bash', '-c', script)).trim() === 'yes';
    };
    const collector = await address('collector');
    expect(await reaches('stranger', collector, 4318)).toBe(true);
    const enforced = await waitUntil(async () => !(await reaches('walled', collector, 4318)), {
      what: 'the cluster enforces policies',
      timeoutMs: 5_000,
      everyMs: 500,
    }).catch(() => false);
    if (!enforced) return test.skip('nothing enforces policies in this cluster');
    const [dlq, redis, receiver] = await Promise.all(
      ['nrdot-plus-dlq', 'nrdot-plus-redis', RELEASE].map(address),
    );
    const asked = {
      'a stranger to a receiver': await reaches('stranger', receiver!, 4318),
      'a stranger to the dlq': await reaches('stranger', dlq!, 4319),
      'a stranger to Redis': await reaches('stranger', redis!, 6379),
      'a receiver to the dlq': await reaches('deployment/nrdot-plus-receiver', dlq!, 4319),
      'an exporter to the dlq': await reaches('deployment/nrdot-plus-exporter', dlq!, 4319),
      'an exporter to the backend': await reaches('deployment/nrdot-plus-exporter', collector, 4318),
      'a scheduler to the backend': await reaches('deployment/nrdot-plus-scheduler', collector, 4318),
      'a scheduler to Redis': await reaches('deployment/nrdot-plus-scheduler', redis!, 6379),
    };
    console.log(`Policies: ${JSON.stringify(asked)}`);
    expect(asked).toEqual({
      'a stranger to a receiver': true,
      'a stranger to the dlq': false,
      'a stranger to Redis': false,
      'a receiver to the dlq': true,
      'an exporter to the dlq': false,
      'an exporter to the backend': true,
      'a scheduler to the backend': false,
      'a scheduler to Redis': true,
    });
  });
});
