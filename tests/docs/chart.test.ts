/** The Helm chart: what it renders is what the program understands. Without `helm` the committed manifests stand for it. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '@nrdot/config';
import { keysOf } from '@nrdot/queue';
import { CATALOGUE } from '@nrdot/telemetry';
import { startNrdot, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import {
  CHART,
  chartReadme,
  chartSchema,
  chartValues,
  exampleNames,
  findHelm,
  RENDERED,
  render,
} from '../../infra/helm/chart.ts';

// biome-ignore lint/suspicious/noExplicitAny: manifests are anything until they are looked at
type Manifest = any;

const ROLES = ['receiver', 'scheduler', 'exporter', 'dlq'] as const;
const DEFAULTS = loadConfig({ env: {} }).config;
const helm = findHelm();

const manifests = (name: string): Manifest[] =>
  parseAllDocuments(readFileSync(join(RENDERED, `${name}.yaml`), 'utf8'))
    .map((document) => document.toJS())
    .filter(Boolean);
const one = (all: Manifest[], kind: string, name: string): Manifest => {
  const found = all.filter((m) => m.kind === kind && m.metadata.name === name);
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0];
};
const workload = (all: Manifest[], role: string) =>
  one(all, role === 'dlq' ? 'StatefulSet' : 'Deployment', `nrdot-plus-${role}`);
const podOf = (all: Manifest[], role: string) => workload(all, role).spec.template.spec;

/** The configuration that a role's container reads, with a value for each variable that the manifest sets. */
function configOf(all: Manifest[], role: string) {
  const [container] = podOf(all, role).containers;
  const env = Object.fromEntries(
    container.env.map((e: Manifest) => [
      e.name,
      e.name.endsWith('URL') ? 'redis://user:word@redis:6379' : e.name,
    ]),
  );
  const text = one(all, 'ConfigMap', 'nrdot-plus').data[`${role}.yaml`] as string;
  return { text, config: loadConfig({ text, env }).config };
}

describe('values', () => {
  it('have a comment each, and README and schema are those of values.yaml', () => {
    expect(
      chartValues()
        .filter(({ doc }) => doc === '')
        .map(({ path }) => path.join('.')),
    ).toEqual([]);
    expect(readFileSync(join(CHART, 'README.md'), 'utf8')).toBe(chartReadme());
    expect(readFileSync(join(CHART, 'values.schema.json'), 'utf8')).toBe(chartSchema());
  });
});

describe('the alerts', () => {
  it('of the chart are those of infra/prometheus, and the manifests have them where they are wanted', () => {
    const rules = readFileSync(join(CHART, '../../prometheus/alerts.yml'), 'utf8');
    expect(readFileSync(join(CHART, 'files/alerts.yml'), 'utf8'), 'npm run docs copies them').toBe(rules);
    expect(one(manifests('new-relic'), 'PrometheusRule', 'nrdot-plus').spec).toEqual(parse(rules));
    expect(manifests('default').filter((m) => m.kind === 'PrometheusRule')).toEqual([]);
  });
});

describe.skipIf(!helm)('helm', () => {
  it('lints the chart, and renders what is committed', () => {
    execFileSync(helm!, ['lint', '--strict', CHART, '--kube-version', '1.29.0'], { stdio: 'pipe' });
    for (const name of exampleNames()) {
      expect(render(helm!, name), `npm run docs makes ${name}.yaml anew`).toBe(
        readFileSync(join(RENDERED, `${name}.yaml`), 'utf8'),
      );
    }
  });

  it('refuses values that do not exist or are of another type', () => {
    const template = (...set: string[]) =>
      execFileSync(
        helm!,
        ['template', 'x', CHART, '--kube-version', '1.29.0', ...set.flatMap((s) => ['--set', s])],
        {
          stdio: 'pipe',
        },
      );
    expect(() => template('receiver.replica=3')).toThrow(/additional properties 'replica'|replica/);
    expect(() => template('receiver.replicas=three')).toThrow(/want(ed)? integer|integer/);
    expect(() => template('exporter.keda.source=kafka')).toThrow(/prometheus/);
    expect(() => template('secret.keys.redisUrl=')).toThrow(/redis\.url or secret\.keys\.redisUrl/);
  });
});

describe.each(exampleNames())('the manifests of %s', (name) => {
  const all = manifests(name);

  it.each(ROLES)('run a %s that exists, with a configuration that is valid', (role) => {
    const [container] = podOf(all, role).containers;
    expect(container.args).toEqual([role, '--config', '/etc/nrdot/nrdot.yaml']);
    const mount = container.volumeMounts.find((m: Manifest) => m.name === 'config');
    expect(mount).toMatchObject({ mountPath: '/etc/nrdot', readOnly: true });
    const volume = podOf(all, role).volumes.find((v: Manifest) => v.name === 'config');
    expect(volume.configMap).toEqual({
      name: 'nrdot-plus',
      items: [{ key: `${role}.yaml`, path: 'nrdot.yaml' }],
    });
    const { text, config } = configOf(all, role);
    const used = [...text.matchAll(/\$\{env:(\w+)/g)].map(([, variable]) => variable);
    expect(container.env.map((e: Manifest) => e.name).sort()).toEqual([...new Set(used)].sort());
    for (const { valueFrom } of container.env) expect(valueFrom.secretKeyRef.name).toBe('nrdot-plus');
    for (const [, file] of text.matchAll(/_file: (\S+)/g)) {
      const dirs = container.volumeMounts.map((m: Manifest) => m.mountPath);
      expect(dirs).toContain(file!.replace(/\/[^/]+$/, ''));
    }
    const ports = Object.fromEntries(container.ports.map((p: Manifest) => [p.name, p.containerPort]));
    expect(ports.admin).toBe(DEFAULTS.admin.listen.port);
    // `::` takes both families, so that pods with IPv6 alone listen too.
    expect(config.admin.listen).toEqual({ host: '::', port: DEFAULTS.admin.listen.port });
    if (role === 'receiver') {
      expect(ports['otlp-http']).toBe(DEFAULTS.receiver.listen.port);
      expect(config.receiver.listen).toEqual({ host: '::', port: ports['otlp-http'] });
      const intake = one(all, 'Service', 'nrdot-plus-dlq').spec.ports[0];
      expect(config.dlq.url).toBe(`http://nrdot-plus-dlq:${intake.port}`);
    }
    if (role === 'dlq') {
      expect(ports.intake).toBe(DEFAULTS.dlq.listen.port);
      expect(config.dlq.listen).toEqual({ host: '::', port: ports.intake });
      const data = container.volumeMounts.find((m: Manifest) => m.name === 'data');
      expect(config.dlq.dir.startsWith(`${data.mountPath}/`)).toBe(true);
      const gib = /^(\d+)Gi$/.exec(
        workload(all, role).spec.volumeClaimTemplates[0].spec.resources.requests.storage,
      );
      expect(Number(gib![1]) * 1024 ** 3).toBeGreaterThan(config.dlq.capacityBytes + config.dlq.reserveBytes);
    }
    const graceMs = podOf(all, role).terminationGracePeriodSeconds * 1000;
    expect(graceMs).toBeGreaterThan(config.admin.shutdownTimeoutMs + 5_000);
    const scheme = config.admin.tls.certFile ? 'HTTPS' : 'HTTP';
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
      expect(container[probe].httpGet).toMatchObject({ port: 'admin', scheme });
  });

  it('keep each secret from the roles that do not need it', () => {
    for (const role of ROLES) {
      const names = podOf(all, role).containers[0].env.map((e: Manifest) => e.name);
      if (role !== 'exporter') expect(names).not.toContain('NRDOT_UPSTREAM_KEY');
      if (role !== 'receiver') expect(names).not.toContain('NRDOT_INGEST_TOKEN');
    }
    expect(all.filter((m) => m.kind === 'Secret')).toEqual([]);
  });

  it('lock pods down', () => {
    for (const role of ROLES) {
      const pod = podOf(all, role);
      expect(pod.automountServiceAccountToken).toBe(false);
      expect(pod.securityContext).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(pod.containers[0].securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(pod.containers[0].resources.limits.memory).toMatch(/^\d+Mi$/);
    }
  });

  it('select the pods they mean', () => {
    const pods = ROLES.map((role) => ({ role, labels: workload(all, role).spec.template.metadata.labels }));
    const chosen = (selector: Record<string, string>) =>
      pods
        .filter(({ labels }) => Object.entries(selector).every(([k, v]) => labels[k] === v))
        .map(({ role }) => role);
    for (const role of ROLES) {
      expect(chosen(workload(all, role).spec.selector.matchLabels)).toEqual([role]);
      expect(chosen(one(all, 'PodDisruptionBudget', `nrdot-plus-${role}`).spec.selector.matchLabels)).toEqual(
        [role],
      );
      expect(chosen(one(all, 'NetworkPolicy', `nrdot-plus-${role}`).spec.podSelector.matchLabels)).toEqual([
        role,
      ]);
    }
    expect(chosen(one(all, 'Service', 'nrdot-plus').spec.selector)).toEqual(['receiver']);
    expect(chosen(one(all, 'Service', 'nrdot-plus-dlq').spec.selector)).toEqual(['dlq']);
    for (const monitor of all.filter((m) => m.kind === 'ServiceMonitor')) {
      const services = all.filter(
        (m) =>
          m.kind === 'Service' &&
          Object.entries(monitor.spec.selector.matchLabels).every(([k, v]) => m.metadata.labels[k] === v),
      );
      expect(services.map((m) => m.metadata.name)).toEqual(['nrdot-plus-metrics']);
      expect(chosen(services[0].spec.selector)).toEqual([...ROLES]);
      expect(services[0].spec.ports.map((p: Manifest) => p.name)).toContain(monitor.spec.endpoints[0].port);
    }
  });

  it('scale by metrics and lists that exist', () => {
    const known = new Map(Object.values(CATALOGUE).map((metric) => [metric.name as string, metric.labels]));
    for (const { spec } of all.filter((m) => m.kind === 'ScaledObject')) {
      expect(spec.scaleTargetRef.name).toBe(workload(all, 'exporter').metadata.name);
      for (const { type, metadata } of spec.triggers) {
        if (type === 'redis') {
          const lists = ['critical', 'high', 'normal'] as const;
          expect(lists.map((queue) => keysOf('{nrdot}').queue(queue, 'wait'))).toContain(metadata.listName);
          continue;
        }
        const uses = [...metadata.query.matchAll(/((?:apq|dlq|exporter)_\w+)\{([^}]*)\}/g)];
        expect(uses.length).toBeGreaterThan(0);
        for (const [, metric, labels] of uses) {
          const own = [...labels.matchAll(/(\w+)=/g)].map(([, label]) => label);
          expect([...(known.get(metric) ?? []), 'namespace']).toEqual(expect.arrayContaining(own));
          expect(known.has(metric), metric).toBe(true);
        }
      }
    }
    for (const { spec } of all.filter((m) => m.kind === 'HorizontalPodAutoscaler'))
      expect(spec.scaleTargetRef.name).toBe(workload(all, 'receiver').metadata.name);
  });
});

describe('OpenShift', () => {
  const all = manifests('openshift');

  it('chooses user and groups of the pods itself, and everything else is as locked down as elsewhere', () => {
    for (const role of ROLES) {
      expect(podOf(all, role).securityContext).toEqual({
        runAsNonRoot: true,
        fsGroupChangePolicy: 'OnRootMismatch',
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(podOf(all, role).containers[0].securityContext).not.toHaveProperty('runAsUser');
    }
  });

  it('resolves names on the port its DNS pods have', () => {
    const dns = (name: string) =>
      one(manifests(name), 'NetworkPolicy', 'nrdot-plus-exporter').spec.egress[0].ports;
    const ports = (...numbers: number[]) =>
      numbers.flatMap((port) => ['UDP', 'TCP'].map((protocol) => ({ port, protocol })));
    expect(dns('openshift')).toEqual(ports(5353));
    expect(dns('default')).toEqual(ports(53));
  });
});

describe('user and groups of pods', () => {
  it('are those of the image where nobody else chooses', () => {
    for (const role of ROLES)
      expect(podOf(manifests('default'), role).securityContext).toMatchObject({
        runAsUser: 1000,
        runAsGroup: 1000,
        fsGroup: 1000,
      });
  });
});

describe('the probes', () => {
  it('answer; a receiver and a dlq stay in their Services while Redis is away', async () => {
    using dir = temporaryDirectory();
    const all = manifests('small');
    await Promise.all(
      ROLES.map(async (role) => {
        const [container] = podOf(all, role).containers;
        const file = join(dir.path, `${role}.yaml`);
        const text = configOf(all, role)
          .text.replace(/listen: :\d+/g, 'listen: 127.0.0.1:0')
          .replace('/data/dlq', join(dir.path, 'dlq'))
          .replace('redis://redis:6379', 'redis://127.0.0.1:1');
        writeFileSync(file, text);
        const args = container.args.map((arg: string) => (arg === '/etc/nrdot/nrdot.yaml' ? file : arg));
        await using process = startNrdot(args, { NRDOT_ADMIN_TOKEN: 'word' }, dir.path);
        const [, admin = ''] = await process.line(/"admin":"([^"]+)","msg":"started/);
        const status = async (path: string) => (await fetch(`http://${admin}${path}`)).status;
        for (const probe of ['startupProbe', 'livenessProbe'])
          expect(await status(container[probe].httpGet.path)).toBe(200);
        const ready = role === 'receiver' || role === 'dlq' ? 200 : 503;
        await waitUntil(async () => (await status(container.readinessProbe.httpGet.path)) === ready, {
          what: `${role} answers ${ready}`,
        });
        expect(await status('/metrics')).toBe(401);
      }),
    );
  });
});
