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
  withAlerts,
} from '../../infra/helm/chart.ts';

// biome-ignore lint/suspicious/noExplicitAny: manifests are anything until they are looked at
type Manifest = any;

const ROLES = ['receiver', 'scheduler', 'exporter', 'dlq'] as const;
/** Names of Secrets that examples call otherwise. */
const SECRETS: Record<string, string> = { 'house-rules': 'telemetry-secrets' };
/** `dlq.reserve` where Redis is elsewhere. */
const RESERVE_BYTES = 64 * 1024 ** 2;
const DEFAULTS = loadConfig({ env: {} }).config;
const helm = findHelm();

const read = new Map<string, Manifest[]>();
const manifests = (name: string): Manifest[] => {
  const known = read.get(name);
  if (known) return known;
  const all = parseAllDocuments(readFileSync(join(RENDERED, `${name}.yaml`), 'utf8'))
    .map((document) => document.toJS())
    .filter(Boolean);
  read.set(name, all);
  return all;
};
const one = (all: Manifest[], kind: string, name: string): Manifest => {
  const found = all.filter((m) => m.kind === kind && m.metadata.name === name);
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0];
};
const workload = (all: Manifest[], role: string) =>
  one(all, role === 'dlq' ? 'StatefulSet' : 'Deployment', `nrdot-plus-${role}`);
const podOf = (all: Manifest[], role: string) => workload(all, role).spec.template.spec;

const configNameOf = (all: Manifest[], role: string): string =>
  podOf(all, role).volumes.find((v: Manifest) => v.name === 'config').configMap.name;
/** Variables that do not come from a Secret. */
const plain = (env: Manifest[]) => env.filter((e) => 'value' in e);

/** The configuration that a role's container reads, with a value for each variable that the manifest sets. */
function configOf(all: Manifest[], role: string) {
  const [container] = podOf(all, role).containers;
  const env = Object.fromEntries(
    container.env.map((e: Manifest) => [
      e.name,
      e.name.endsWith('URL') ? 'redis://user:word@redis:6379' : (e.value ?? e.name),
    ]),
  );
  const text = one(all, 'ConfigMap', configNameOf(all, role)).data[`${role}.yaml`] as string;
  return { text, config: loadConfig({ text, env }).config };
}

describe('values', () => {
  it('all have a comment, and README and schema match values.yaml', () => {
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
  it('of the chart match infra/prometheus, and are in the manifests if enabled', () => {
    const rules = readFileSync(join(CHART, '../../prometheus/alerts.yml'), 'utf8');
    expect(readFileSync(join(CHART, 'files/alerts.yml'), 'utf8'), 'npm run docs copies them').toBe(rules);
    expect(one(manifests('new-relic'), 'PrometheusRule', 'nrdot-plus').spec).toEqual(parse(rules));
    expect(manifests('default').filter((m) => m.kind === 'PrometheusRule')).toEqual([]);
  });

  it('are brought up to date without helm as helm writes them', () => {
    const rules = readFileSync(join(CHART, 'files/alerts.yml'), 'utf8');
    for (const name of exampleNames())
      expect(withAlerts(name, rules)).toBe(readFileSync(join(RENDERED, `${name}.yaml`), 'utf8'));
    const changed = parseAllDocuments(withAlerts('new-relic', 'groups: []\n')).map((one) => one.toJS());
    expect(changed).toHaveLength(manifests('new-relic').length);
    expect(one(changed, 'PrometheusRule', 'nrdot-plus').spec).toEqual({ groups: [] });
  });
});

describe.skipIf(!helm)('helm', () => {
  it('lints the chart, and renders the committed manifests', () => {
    execFileSync(helm!, ['lint', '--strict', CHART, '--kube-version', '1.29.0'], { stdio: 'pipe' });
    for (const name of exampleNames()) {
      expect(render(helm!, name), `npm run docs makes ${name}.yaml anew`).toBe(
        readFileSync(join(RENDERED, `${name}.yaml`), 'utf8'),
      );
    }
  });

  it('refuses unknown values and values of another type', () => {
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

  it.each(ROLES)('run an existing %s with a valid configuration', (role) => {
    const [container] = podOf(all, role).containers;
    expect(container.args).toEqual([role, '--config', '/etc/nrdot/nrdot.yaml']);
    const mount = container.volumeMounts.find((m: Manifest) => m.name === 'config');
    expect(mount).toMatchObject({ mountPath: '/etc/nrdot', readOnly: true });
    const volume = podOf(all, role).volumes.find((v: Manifest) => v.name === 'config');
    expect(volume.configMap.items).toEqual([{ key: `${role}.yaml`, path: 'nrdot.yaml' }]);
    const { text, config } = configOf(all, role);
    const used = [...text.matchAll(/\$\{env:(\w+)/g)].map(([, variable]) => variable);
    const names = (env: Manifest[]) => env.map((e) => e.name);
    const secrets = container.env.filter((e: Manifest) => e.valueFrom);
    expect(names([...secrets, ...plain(container.env)]).sort()).toEqual(names(container.env).sort());
    expect(new Set([...used, ...names(plain(container.env))])).toEqual(new Set(names(container.env)));
    for (const { valueFrom } of secrets)
      expect(valueFrom.secretKeyRef.name).toBe(SECRETS[name] ?? 'nrdot-plus');
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
      const scheme = podOf(all, 'dlq').volumes.some((v: Manifest) => v.name === 'tls-dlq') ? 'https' : 'http';
      expect(config.dlq.url).toBe(`${scheme}://nrdot-plus-dlq:${intake.port}`);
      expect(intake.appProtocol).toBe(scheme);
    }
    if (role === 'dlq') {
      expect(ports.intake).toBe(DEFAULTS.dlq.listen.port);
      expect(config.dlq.listen).toEqual({ host: '::', port: ports.intake });
      const data = container.volumeMounts.find((m: Manifest) => m.name === 'data');
      expect(config.dlq.dir.startsWith(`${data.mountPath}/`)).toBe(true);
      const gib = /^(\d+)Gi$/.exec(
        workload(all, role).spec.volumeClaimTemplates[0].spec.resources.requests.storage,
      );
      expect(Number(gib![1]) * 1024 ** 3).toBeGreaterThan(config.dlq.capacityBytes + RESERVE_BYTES);
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
      const sends = configOf(all, role).config.telemetry.otlp.endpoint !== undefined;
      if (role !== 'receiver' && !sends) expect(names).not.toContain('NRDOT_INGEST_TOKEN');
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

  it('select the intended pods', () => {
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

  it('scale by existing metrics and lists', () => {
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

describe('own metrics as OTLP', () => {
  const all = manifests('own-metrics');

  it('go to the receivers, which admit them', () => {
    const { port } = one(all, 'Service', 'nrdot-plus').spec.ports[0];
    for (const role of ROLES) {
      const { endpoint, headers, temporality, attributes } = configOf(all, role).config.telemetry.otlp;
      expect(endpoint).toBe(role === 'receiver' ? 'pipeline' : `http://nrdot-plus:${port}`);
      expect(headers.authorization?.reveal()).toBe(
        role === 'receiver' ? undefined : 'Bearer NRDOT_INGEST_TOKEN',
      );
      // Not every role knows where the exporters deliver to.
      expect(temporality).toBe('delta');
      expect(attributes['service.namespace']).toBe('nrdot-plus');
      const { egress } = one(all, 'NetworkPolicy', `nrdot-plus-${role}`).spec;
      const ports = egress.flatMap((rule: Manifest) => rule.ports.map((p: Manifest) => p.port));
      expect(ports.includes(DEFAULTS.receiver.listen.port), role).toBe(role !== 'receiver');
    }
    const [, otlp] = one(all, 'NetworkPolicy', 'nrdot-plus-receiver').spec.ingress;
    expect(otlp.from).toHaveLength(2);
    expect(otlp.from[1].podSelector.matchLabels).not.toHaveProperty(['app.kubernetes.io/component']);
    expect(configOf(manifests('default'), 'exporter').config.telemetry.otlp.endpoint).toBeUndefined();
  });

  it.skipIf(!helm)('are sent as the values say: TLS, a path prefix, another upstream', () => {
    const text = execFileSync(
      helm!,
      [
        ...['template', 'nrdot-plus', CHART, '--set', 'telemetry.enabled=true,certificates.enabled=true'],
        ...['--set', 'certificates.issuerRef.name=own,config.receiver.path_prefix=/otlp'],
        ...['--set', 'upstream.endpoint=https://gateway.example.com'],
        ...['--api-versions', 'cert-manager.io/v1'],
      ],
      { encoding: 'utf8' },
    );
    const made = parseAllDocuments(text)
      .map((document) => document.toJS())
      .filter(Boolean);
    const { otlp } = configOf(made, 'exporter').config.telemetry;
    expect(otlp).toMatchObject({
      endpoint: 'https://nrdot-plus:4318/otlp',
      temporality: 'cumulative',
      tls: { caFile: '/etc/nrdot-tls/receiver/ca.crt' },
    });
    const volume = podOf(made, 'exporter').volumes.find((v: Manifest) => v.name === 'tls-receiver');
    expect(volume.secret).toEqual({
      secretName: 'nrdot-plus-receiver-tls',
      items: [{ key: 'ca.crt', path: 'ca.crt' }],
    });
  });
});

describe('user and groups of pods', () => {
  const context = (name: string, role: string) => podOf(manifests(name), role).securityContext;
  const LOCKED = {
    runAsNonRoot: true,
    fsGroupChangePolicy: 'OnRootMismatch',
    seccompProfile: { type: 'RuntimeDefault' },
  };

  it("are the image's, and only the pod with a volume gets a group", () => {
    for (const role of ['receiver', 'scheduler', 'exporter'])
      expect(context('default', role)).toEqual(LOCKED);
    expect(context('default', 'dlq')).toEqual({ ...LOCKED, fsGroup: 1000 });
  });

  it('are the configured ones', () => {
    expect(context('house-rules', 'receiver')).toEqual({ ...LOCKED, runAsUser: 2000, runAsGroup: 2000 });
    expect(context('house-rules', 'dlq')).toEqual({
      ...LOCKED,
      runAsUser: 2000,
      runAsGroup: 2000,
      fsGroup: 2000,
    });
  });

  it('are left to OpenShift, with all other restrictions unchanged', () => {
    for (const role of ROLES) {
      expect(context('openshift', role)).toEqual(LOCKED);
      expect(podOf(manifests('openshift'), role).containers[0].securityContext).not.toHaveProperty(
        'runAsUser',
      );
    }
  });

  it.skipIf(!helm)('are left to OpenShift automatically if helm detects it', () => {
    const text = execFileSync(
      helm!,
      [
        'template',
        'x',
        CHART,
        '--api-versions',
        'security.openshift.io/v1',
        '--set',
        'redis.deploy.enabled=true',
      ],
      { encoding: 'utf8' },
    );
    expect(text).toContain('redis-server');
    expect(text).not.toMatch(/fsGroup:|runAsUser:|runAsGroup:/);
  });
});

describe('names', () => {
  it('are resolved on the port of the DNS pods', () => {
    const dns = (name: string) =>
      one(manifests(name), 'NetworkPolicy', 'nrdot-plus-exporter').spec.egress[0].ports;
    const ports = (...numbers: number[]) =>
      numbers.flatMap((port) => ['UDP', 'TCP'].map((protocol) => ({ port, protocol })));
    expect(dns('openshift')).toEqual(ports(5353));
    expect(dns('default')).toEqual(ports(53));
  });
});

describe('an upgrade', () => {
  it('creates a new ConfigMap for each new content, so pods of the previous release keep theirs', () => {
    const names = (name: string) => ROLES.map((role) => configNameOf(manifests(name), role));
    for (const [i, role] of ROLES.entries())
      expect(names('default')[i]).toMatch(new RegExp(`^nrdot-plus-${role}-[0-9a-f]{10}$`));
    // Redis' URL is in all of them; the endpoint's is the exporter's alone.
    for (const [i, name] of names('small').entries()) expect(name).not.toBe(names('default')[i]);
    const same = ROLES.filter((_, i) => names('new-relic')[i] === names('default')[i]);
    expect(same).toEqual(['scheduler', 'dlq']);
  });

  it('first checks each configuration as its pod would read it', () => {
    for (const name of exampleNames()) {
      const all = manifests(name);
      if (all.some((m) => m.kind === 'Certificate')) continue;
      const { metadata, spec } = one(all, 'Job', 'nrdot-plus-validate');
      expect(metadata.annotations['helm.sh/hook']).toBe('pre-install,pre-upgrade');
      expect(spec).toMatchObject({
        backoffLimit: 0,
        activeDeadlineSeconds: 240,
        ttlSecondsAfterFinished: 600,
      });
      const pod = spec.template.spec;
      const containers = [...pod.initContainers, ...pod.containers];
      expect(containers.map((c: Manifest) => c.args)).toEqual(
        ROLES.map((role) => ['validate', `/etc/nrdot/${role}.yaml`, '--for', role]),
      );
      for (const [i, role] of ROLES.entries()) {
        const [own] = podOf(all, role).containers;
        expect(containers[i].env).toEqual(own.env);
        expect(containers[i].securityContext).toEqual(own.securityContext);
        const paths = (c: Manifest) =>
          c.volumeMounts
            .map((m: Manifest) => m.mountPath)
            .filter((path: string) => !/^\/(tmp|data)$/.test(path));
        expect(paths(containers[i])).toEqual(paths(own));
        expect(one(all, 'ConfigMap', 'nrdot-plus-validate').data[`${role}.yaml`]).toBe(
          configOf(all, role).text,
        );
      }
      for (const { spec: policy } of all.filter((m) => m.kind === 'NetworkPolicy'))
        expect(spec.template.metadata.labels).not.toMatchObject(policy.podSelector.matchLabels);
    }
  });

  it('replaces a dlq that does not start', () => {
    expect(workload(manifests('default'), 'dlq').spec).toMatchObject({
      replicas: 1,
      podManagementPolicy: 'Parallel',
    });
  });
});

describe('cluster conventions', () => {
  const all = manifests('house-rules');
  const pods = [
    ...ROLES.map((role) => podOf(all, role)),
    one(all, 'Job', 'nrdot-plus-validate').spec.template.spec,
  ];

  it('apply to every pod: accounts, pull secrets, classes, nodes', () => {
    expect(all.filter((m) => m.kind === 'ServiceAccount')).toEqual([]);
    for (const pod of pods)
      expect(pod).toMatchObject({
        serviceAccountName: 'telemetry',
        imagePullSecrets: [{ name: 'registry' }],
        priorityClassName: 'telemetry',
        nodeSelector: { pool: 'telemetry' },
        tolerations: [{ key: 'dedicated', value: 'telemetry', effect: 'NoSchedule' }],
        affinity: { nodeAffinity: expect.any(Object) },
      });
    for (const pod of pods)
      for (const { image } of [...(pod.initContainers ?? []), ...pod.containers])
        expect(image).toBe('registry.example.com/nrdot-plus:0.1.0');
  });

  it('spread the pods of a role, over hosts by default', () => {
    for (const role of ROLES) {
      const labelSelector = { matchLabels: workload(all, role).spec.selector.matchLabels };
      expect(podOf(all, role).topologySpreadConstraints).toEqual([
        {
          maxSkew: 1,
          topologyKey: 'topology.kubernetes.io/zone',
          whenUnsatisfiable: 'DoNotSchedule',
          labelSelector,
        },
      ]);
      expect(podOf(manifests('default'), role).topologySpreadConstraints).toMatchObject([
        { topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'ScheduleAnyway', labelSelector },
      ]);
    }
  });

  it('label all objects', () => {
    for (const role of ROLES) {
      const { metadata, spec } = workload(all, role);
      expect(metadata.annotations).toEqual({ 'example.com/owner': 'telemetry' });
      expect(spec.template.metadata.annotations).toEqual({ 'example.com/scrape': 'no' });
      expect(spec.template.metadata.labels).toMatchObject({ 'example.com/team': 'telemetry' });
    }
    const [claim] = workload(all, 'dlq').spec.volumeClaimTemplates;
    expect(claim.metadata.annotations).toEqual({ 'example.com/backup': 'daily' });
    expect(claim.spec.storageClassName).toBe('fast');
  });

  it('add variables and volumes, which the configuration can use', () => {
    for (const pod of pods) {
      expect(pod.volumes).toContainEqual({ name: 'authorities', configMap: { name: 'authorities' } });
      for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
        expect(container.env).toContainEqual({ name: 'REGION', value: 'eu' });
        expect(container.volumeMounts).toContainEqual({
          name: 'authorities',
          mountPath: '/etc/authorities',
          readOnly: true,
        });
      }
    }
    expect(configOf(all, 'exporter').config.exporter.headers['x-region']?.reveal()).toBe('eu');
  });

  it('keep a pod serving until no Service routes to it', () => {
    const seconds = (name: string) =>
      podOf(manifests(name), 'receiver').containers[0].lifecycle.preStop.exec.command;
    expect(seconds('house-rules')).toEqual(['sleep', '10']);
    expect(seconds('default')).toEqual(['sleep', '5']);
  });

  it('set the address families', () => {
    for (const { spec } of all.filter((m) => m.kind === 'Service'))
      expect(spec.ipFamilyPolicy).toBe('RequireDualStack');
    for (const { spec } of manifests('new-relic').filter((m) => m.kind === 'Service'))
      expect(spec.ipFamilyPolicy).toBe('PreferDualStack');
  });
});

describe('external access', () => {
  const backend = (all: Manifest[]) => one(all, 'Service', 'nrdot-plus');

  it('is an Ingress', () => {
    const all = manifests('house-rules');
    const { metadata, spec } = one(all, 'Ingress', 'nrdot-plus');
    expect(metadata.annotations).toEqual({ 'nginx.ingress.kubernetes.io/proxy-body-size': '64m' });
    expect(spec).toEqual({
      ingressClassName: 'nginx',
      tls: [{ secretName: 'otlp-tls', hosts: ['otlp.example.com'] }],
      rules: [
        {
          host: 'otlp.example.com',
          http: {
            paths: [
              {
                path: '/v1',
                pathType: 'Prefix',
                backend: {
                  service: { name: 'nrdot-plus', port: { number: backend(all).spec.ports[0].port } },
                },
              },
            ],
          },
        },
      ],
    });
    expect(manifests('default').filter((m) => /Ingress|HTTPRoute/.test(m.kind))).toEqual([]);
  });

  it('is an HTTPRoute', () => {
    const all = manifests('cert-manager');
    expect(one(all, 'HTTPRoute', 'nrdot-plus').spec).toEqual({
      parentRefs: [{ name: 'public', namespace: 'gateways' }],
      hostnames: ['otlp.example.com'],
      rules: [
        {
          matches: [{ path: { type: 'PathPrefix', value: '/v1' } }],
          backendRefs: [{ name: 'nrdot-plus', port: backend(all).spec.ports[0].port }],
        },
      ],
    });
  });
});

describe('certificates', () => {
  it('by cert-manager are those that pods read, and contain the names of the Services', () => {
    const all = manifests('cert-manager');
    const made = all.filter((m) => m.kind === 'Certificate');
    expect(made.map((m) => m.spec.secretName)).toEqual([
      'nrdot-plus-receiver-tls',
      'nrdot-plus-dlq-tls',
      'nrdot-plus-admin-tls',
    ]);
    for (const { spec } of made) {
      expect(spec.issuerRef).toEqual({ kind: 'ClusterIssuer', name: 'internal' });
      const service = spec.secretName.includes('dlq') ? 'nrdot-plus-dlq' : 'nrdot-plus';
      one(all, 'Service', service);
      expect(spec.dnsNames).toEqual(
        ['', '.telemetry', '.telemetry.svc', '.telemetry.svc.cluster.local'].map((end) => service + end),
      );
    }
    const secrets = (role: string) =>
      podOf(all, role)
        .volumes.filter((v: Manifest) => v.secret)
        .map((v: Manifest) => v.secret.secretName);
    expect(secrets('receiver')).toEqual([
      'nrdot-plus-admin-tls',
      'nrdot-plus-dlq-tls',
      'nrdot-plus-receiver-tls',
    ]);
    expect(secrets('exporter')).toEqual(['nrdot-plus-admin-tls']);
    expect(configOf(all, 'receiver').config.receiver.tls.certFile).toBe('/etc/nrdot-tls/receiver/tls.crt');
  });

  it('of the intake: each side has its certificate and CA, and no key of the other', () => {
    const all = manifests('tls');
    expect(configOf(all, 'dlq').config.dlq.tls).toMatchObject({
      certFile: '/etc/nrdot-tls/dlq/tls.crt',
      keyFile: '/etc/nrdot-tls/dlq/tls.key',
      clientCaFile: '/etc/nrdot-tls/dlq/ca.crt',
    });
    expect(configOf(all, 'receiver').config.dlq).toMatchObject({
      caFile: '/etc/nrdot-tls/dlq/ca.crt',
      certFile: '/etc/nrdot-tls/dlq-client/tls.crt',
      keyFile: '/etc/nrdot-tls/dlq-client/tls.key',
    });
    const secret = (role: string, dir: string) =>
      podOf(all, role).volumes.find((v: Manifest) => v.name === `tls-${dir}`)?.secret;
    const items = (...files: string[]) => files.map((key) => ({ key, path: key }));
    expect(secret('receiver', 'dlq')).toEqual({ secretName: 'dlq-tls', items: items('ca.crt') });
    expect(secret('receiver', 'dlq-client')).toEqual({
      secretName: 'dlq-client-tls',
      items: items('tls.crt', 'tls.key'),
    });
    expect(secret('dlq', 'dlq')).toEqual({ secretName: 'dlq-tls' });
    expect(secret('dlq', 'dlq-client')).toBeUndefined();
  });

  it('appear in pods when renewed: no file is mounted with subPath', () => {
    for (const name of exampleNames())
      for (const role of ROLES)
        for (const mount of podOf(manifests(name), role).containers[0].volumeMounts)
          expect(mount).not.toHaveProperty('subPath');
  });
});

describe('the trial Redis', () => {
  it('is created if enabled: fsynced, on a claim that stays, with the same restrictions', () => {
    const all = manifests('small');
    const { spec } = one(all, 'StatefulSet', 'nrdot-plus-redis');
    const pod = spec.template.spec;
    const [container] = pod.containers;
    for (const words of ['--appendonly yes', '--appendfsync always', '--maxmemory-policy noeviction'])
      expect(container.args).toContain(words);
    expect(spec.persistentVolumeClaimRetentionPolicy).toEqual({
      whenDeleted: 'Retain',
      whenScaled: 'Retain',
    });
    expect(spec.volumeClaimTemplates[0].spec.resources.requests.storage).toBe('2Gi');
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 999, fsGroup: 999 });
    expect(container.securityContext).toEqual(podOf(all, 'receiver').containers[0].securityContext);
    expect(configOf(all, 'scheduler').text).toContain('redis://nrdot-plus-redis:6379');
    expect(one(all, 'Service', 'nrdot-plus-redis').spec.selector).toEqual(spec.selector.matchLabels);
    const policy = one(all, 'NetworkPolicy', 'nrdot-plus-redis').spec;
    expect(policy.podSelector.matchLabels).toEqual(spec.selector.matchLabels);
    const who = policy.ingress[0].from[0].podSelector.matchLabels;
    for (const role of ROLES) expect(workload(all, role).spec.template.metadata.labels).toMatchObject(who);
    // Whoever selects the services does not mean it.
    for (const { spec: service } of all.filter(
      (m) => m.kind === 'Service' && m.metadata.name !== 'nrdot-plus-redis',
    ))
      expect(spec.template.metadata.labels).not.toMatchObject(service.selector);
    for (const name of ['default', 'new-relic', 'tls'])
      expect(JSON.stringify(manifests(name))).not.toContain('redis-server');
  });
});

describe('the trial backend', () => {
  it('has the same restrictions, at the address of the small example', () => {
    const all = parseAllDocuments(readFileSync(join(CHART, '../collector.yaml'), 'utf8')).map((d) =>
      d.toJS(),
    );
    const pod = one(all, 'Deployment', 'collector').spec.template.spec;
    const small = manifests('small');
    const receiver = podOf(small, 'receiver');
    expect(pod.securityContext).toEqual({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    expect(pod.containers[0].securityContext).toEqual(receiver.containers[0].securityContext);
    expect(pod.containers[0].image).toBe(receiver.containers[0].image);
    const [{ port }] = one(all, 'Service', 'collector').spec.ports;
    expect(configOf(small, 'exporter').config.exporter.endpoint).toBe(`http://collector:${port}`);
  });
});

describe('draining a node', () => {
  it('is never blocked by a budget', () => {
    for (const name of exampleNames())
      for (const { spec } of manifests(name).filter((m) => m.kind === 'PodDisruptionBudget'))
        expect(spec).toMatchObject({ maxUnavailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow' });
    expect(chartSchema().match(/"minimum": 1\b/g)).toHaveLength(ROLES.length);
  });
});

describe.skipIf(!helm)('an overriding configuration', () => {
  const probe = (yaml: string) => {
    using dir = temporaryDirectory();
    const file = join(dir.path, 'values.yaml');
    writeFileSync(file, yaml);
    const text = execFileSync(helm!, ['template', 'nrdot-plus', CHART, '--values', file], {
      encoding: 'utf8',
    });
    const all = parseAllDocuments(text).map((document) => document.toJS());
    return podOf(all.filter(Boolean), 'exporter').containers[0].livenessProbe;
  };

  it('determines the probes: HTTPS with a certificate, only a connection if clients need one', () => {
    const files = 'cert_file: /etc/own/crt, key_file: /etc/own/key';
    expect(probe(`config: { admin: { tls: { ${files} } } }`).httpGet.scheme).toBe('HTTPS');
    expect(probe('config: {}').httpGet.scheme).toBe('HTTP');
    const mutual = probe(`config: { admin: { tls: { ${files}, client_ca_file: /etc/own/ca } } }`);
    expect(mutual).toMatchObject({ tcpSocket: { port: 'admin' } });
    expect(mutual).not.toHaveProperty('httpGet');
  });
});

describe('the probes', () => {
  it('keep a receiver and a dlq in their Services while Redis is away', async () => {
    using dir = temporaryDirectory();
    const all = manifests('small');
    await Promise.all(
      ROLES.map(async (role) => {
        const [container] = podOf(all, role).containers;
        const file = join(dir.path, `${role}.yaml`);
        const text = configOf(all, role)
          .text.replace(/listen: :\d+/g, 'listen: 127.0.0.1:0')
          .replace('/data/dlq', join(dir.path, 'dlq'))
          .replace('redis://nrdot-plus-redis:6379', 'redis://127.0.0.1:1');
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
