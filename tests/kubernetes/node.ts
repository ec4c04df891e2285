/**
 * A one-node Kubernetes from parts. The node has a network namespace of its own with no way out, so nothing collides with what else
 * runs on the machine, and no image can be pulled: Docker's are copied to it. All it keeps is in one directory, which goes with it.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from '@nrdot/testbed';
import { stringify } from 'yaml';
import { run } from './commands.ts';
import { BIN, CACHE } from './parts.ts';

const STATE = join(CACHE, 'node');
const LOGS = join(CACHE, 'log');
const NAMESPACE = 'nrdot-node';
const LINK = 'nrdot-node0';
const NAME = 'node';
const OUTSIDE = '10.213.0.1';
const ADDRESS = '10.213.0.2';
const PODS = '10.214.0.0/24';
const SERVICES = '10.215.0.0/16';
const API = '10.215.0.1';
const DNS = '10.215.0.10';
const SOCKET = join(STATE, 'containerd.sock');
const VOLUMES = 16;
export const KUBECONFIG = join(STATE, 'admin.kubeconfig');
/** What the kubelet changes of the whole machine; put back at the end. */
const SYSCTLS = [
  'vm/overcommit_memory',
  'kernel/panic',
  'kernel/panic_on_oops',
  'kernel/keys/root_maxkeys',
  'kernel/keys/root_maxbytes',
];

const WITHIN = ['nsenter', `--net=/run/netns/${NAMESPACE}`, '--'];

const file = (name: string) => join(STATE, name);
const kubectl = (args: readonly string[], input?: string) =>
  run([join(BIN, 'kubectl'), '--kubeconfig', KUBECONFIG, ...args], input === undefined ? {} : { input });
const ctr = (...args: string[]) => ['ctr', '-a', SOCKET, '-n', 'k8s.io', ...args];

/** Starts it anew, whatever was left of one. */
export async function startNode(): Promise<void> {
  await stopNode();
  mkdirSync(file('cni'), { recursive: true });
  mkdirSync(LOGS, { recursive: true });
  const before = SYSCTLS.map((name) => [name, readFileSync(`/proc/sys/${name}`, 'utf8')]);
  writeFileSync(file('sysctls.json'), JSON.stringify(before));
  certificates();
  settings();
  network();
  begin('etcd', 'etcd', [
    ...['--data-dir', file('etcd'), '--unsafe-no-fsync'],
    ...['--listen-client-urls', 'http://127.0.0.1:2379', '--advertise-client-urls', 'http://127.0.0.1:2379'],
    ...['--listen-peer-urls', 'http://127.0.0.1:2380'],
  ]);
  begin('containerd', 'containerd', ['--config', file('containerd.toml')]);
  begin('apiserver', 'kube-apiserver', [
    ...['--etcd-servers', 'http://127.0.0.1:2379', '--advertise-address', ADDRESS],
    ...['--service-cluster-ip-range', SERVICES, '--allow-privileged', '--authorization-mode', 'Node,RBAC'],
    ...['--enable-admission-plugins', 'NodeRestriction', '--client-ca-file', file('ca.crt')],
    ...['--tls-cert-file', file('apiserver.crt'), '--tls-private-key-file', file('apiserver.key')],
    ...['--kubelet-client-certificate', file('admin.crt'), '--kubelet-client-key', file('admin.key')],
    ...['--kubelet-certificate-authority', file('ca.crt'), '--kubelet-preferred-address-types', 'InternalIP'],
    ...[
      '--service-account-issuer',
      'https://kubernetes.default.svc',
      '--service-account-key-file',
      file('accounts.key'),
    ],
    ...['--service-account-signing-key-file', file('accounts.key')],
  ]);
  await waitUntil(() => kubectl(['get', '--raw', '/readyz']), {
    what: 'the API server is ready',
    timeoutMs: 60_000,
    everyMs: 300,
  });
  begin('controllers', 'kube-controller-manager', [
    ...[
      '--kubeconfig',
      file('controllers.kubeconfig'),
      '--use-service-account-credentials',
      '--leader-elect=false',
    ],
    ...['--service-account-private-key-file', file('accounts.key'), '--root-ca-file', file('ca.crt')],
    ...['--flex-volume-plugin-dir', file('plugins')],
  ]);
  begin('scheduler', 'kube-scheduler', [
    '--kubeconfig',
    file('scheduler.kubeconfig'),
    '--leader-elect=false',
  ]);
  await waitUntil(() => run(ctr('version')), { what: 'containerd answers', timeoutMs: 30_000, everyMs: 300 });
  await programImage('pause');
  await programImage('coredns');
  startKubelet();
  begin('proxy', 'kube-proxy', ['--config', file('proxy.yaml')]);
  await waitUntil(() => kubectl(['get', 'serviceaccount', 'default']), {
    what: 'there is a service account',
    timeoutMs: 30_000,
    everyMs: 300,
  });
  await kubectl(['apply', '-f', '-'], objects());
  await waitUntil(() => kubectl(['get', 'node', NAME]), {
    what: 'the node is known',
    timeoutMs: 60_000,
    everyMs: 300,
  });
  // It ends at once where the node is not known yet.
  begin('policies', 'kube-router', [
    ...['--run-firewall=true', '--run-router=false', '--run-service-proxy=false', '--run-loadbalancer=false'],
    ...['--kubeconfig', KUBECONFIG, '--hostname-override', NAME, '--service-cluster-ip-range', SERVICES],
    ...['--metrics-port', '0'],
  ]);
  await waitUntil(() => run([...WITHIN, 'iptables', '-S', 'KUBE-ROUTER-FORWARD']), {
    what: 'policies are enforced',
    timeoutMs: 30_000,
    everyMs: 300,
  });
  await kubectl(['wait', '--for=condition=Ready', `node/${NAME}`, '--timeout=90s']);
  await kubectl(['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=90s']);
}

/** Copies images of Docker to the node. */
export async function loadImages(images: readonly string[]): Promise<void> {
  const at = file('image.tar');
  for (const image of images) {
    await run(['docker', 'save', '-o', at, image]);
    await run(ctr('images', 'import', at));
    rmSync(at);
  }
}

/** An image of one static program. */
async function programImage(name: string): Promise<void> {
  const at = file(`${name}.tar`);
  await run(['tar', '-C', BIN, '-cf', at, name]);
  await run([
    'docker',
    'import',
    '-c',
    `ENTRYPOINT ["/${name}"]`,
    '-c',
    'USER 65534:65534',
    at,
    `nrdot-node/${name}:1`,
  ]);
  rmSync(at);
  await loadImages([`nrdot-node/${name}:1`]);
}

export function startKubelet(): void {
  begin('kubelet', 'kubelet', [
    ...[
      '--config',
      file('kubelet.yaml'),
      '--kubeconfig',
      file('kubelet.kubeconfig'),
      '--root-dir',
      file('kubelet'),
    ],
    ...['--hostname-override', NAME, '--node-ip', ADDRESS],
  ]);
}

export async function stopKubelet(): Promise<void> {
  await end('kubelet');
}

/** Ends what runs of it, and removes what it left. */
export async function stopNode(): Promise<void> {
  for (const name of ['policies', 'kubelet', 'proxy', 'scheduler', 'controllers']) await end(name);
  if (existsSync(SOCKET) && isRunning('containerd')) {
    const tasks = (await run(ctr('tasks', 'ls', '-q')).catch(() => '')).split('\n').filter(Boolean);
    if (tasks.length > 0) await run(ctr('tasks', 'rm', '-f', ...tasks)).catch(() => {});
  }
  for (const pid of processesWith(`-address ${SOCKET}`)) process.kill(pid, 'SIGKILL');
  for (const name of ['containerd', 'apiserver', 'etcd']) await end(name);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${STATE}/`));
  for (const path of mounts.sort().reverse()) attempt('umount', '-l', path);
  for (const name of podNamespaces()) attempt('ip', 'netns', 'del', name);
  attempt('ip', 'link', 'del', LINK);
  attempt('ip', 'netns', 'del', NAMESPACE);
  if (existsSync(file('sysctls.json')))
    for (const [name, value] of JSON.parse(readFileSync(file('sysctls.json'), 'utf8')) as [string, string][])
      writeFileSync(`/proc/sys/${name}`, value);
  rmSync(STATE, { recursive: true, force: true });
}

/** Those of pods, which the network plugin has written down as ours. */
function podNamespaces(): string[] {
  const results = '/var/lib/cni/results';
  if (!existsSync(results)) return [];
  const names: string[] = [];
  for (const name of readdirSync(results).filter((one) => one.startsWith('nrdot-node-'))) {
    const found = /"(?:\/var)?\/run\/netns\/(cni-[0-9a-f-]+)"/.exec(
      readFileSync(join(results, name), 'utf8'),
    );
    if (found) names.push(found[1]!);
    rmSync(join(results, name));
  }
  return names;
}

function attempt(program: string, ...args: string[]): void {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
  } catch {
    // It was not there.
  }
}

// --- processes

const pidFile = (name: string) => join(STATE, `${name}.pid`);

/** Starts a program in the node's network; it outlives this process. */
function begin(name: string, program: string, args: readonly string[]): void {
  const path = existsSync(join(BIN, program)) ? join(BIN, program) : program;
  const log = openSync(join(LOGS, `${name}.log`), 'w');
  const child = spawn('nsenter', [`--net=/run/netns/${NAMESPACE}`, '--', path, ...args], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.unref();
  writeFileSync(pidFile(name), String(child.pid));
}

/** Its command line names our directory: a number alone may be another's by now. */
function isRunning(name: string): number | undefined {
  if (!existsSync(pidFile(name))) return undefined;
  const pid = Number(readFileSync(pidFile(name), 'utf8'));
  return commandLine(pid).includes(CACHE) ? pid : undefined;
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1 && commandLine(pid).includes(text));
}

async function end(name: string): Promise<void> {
  const pid = isRunning(name);
  if (pid !== undefined) {
    process.kill(pid, 'SIGTERM');
    await waitUntil(() => !isRunning(name), {
      what: `${name} has ended`,
      timeoutMs: 5_000,
      everyMs: 100,
    }).catch(() => process.kill(pid, 'SIGKILL'));
  }
  rmSync(pidFile(name), { force: true });
}

// --- network

function network(): void {
  const ip = (...args: string[]) => execFileSync('ip', args);
  const within = (...args: string[]) =>
    execFileSync('nsenter', [`--net=/run/netns/${NAMESPACE}`, '--', ...args]);
  ip('netns', 'add', NAMESPACE);
  ip('link', 'add', LINK, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', NAMESPACE);
  ip('addr', 'add', `${OUTSIDE}/30`, 'dev', LINK);
  ip('link', 'set', LINK, 'up');
  within('ip', 'link', 'set', 'lo', 'up');
  within('ip', 'addr', 'add', `${ADDRESS}/30`, 'dev', 'eth0');
  within('ip', 'link', 'set', 'eth0', 'up');
  // A Service's address is rewritten on its way out, so there has to be a way for it.
  within('ip', 'route', 'add', SERVICES, 'dev', 'eth0');
  within('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  // Traffic between pods of one bridge passes the rules too; where the module is away, it needs none.
  within('sh', '-c', 'echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables || true');
}

// --- certificates and settings

function certificates(): void {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const key = (name: string) =>
    openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', file(`${name}.key`));
  key('accounts');
  key('ca');
  openssl(
    'req',
    '-x509',
    '-new',
    '-key',
    file('ca.key'),
    '-days',
    '30',
    '-subj',
    '/CN=nrdot-node',
    '-out',
    file('ca.crt'),
  );
  const certificate = (name: string, subject: string, names = '') => {
    key(name);
    const extensions = `extendedKeyUsage=serverAuth,clientAuth\n${names && `subjectAltName=${names}\n`}`;
    writeFileSync(file('extensions'), extensions);
    openssl('req', '-new', '-key', file(`${name}.key`), '-subj', subject, '-out', file('request'));
    openssl(
      ...[
        'x509',
        '-req',
        '-in',
        file('request'),
        '-CA',
        file('ca.crt'),
        '-CAkey',
        file('ca.key'),
        '-CAcreateserial',
      ],
      ...['-days', '30', '-extfile', file('extensions'), '-out', file(`${name}.crt`)],
    );
  };
  const own = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'localhost'].map(
    (name) => `DNS:${name}`,
  );
  certificate(
    'apiserver',
    '/CN=kube-apiserver',
    [...own, `IP:${ADDRESS}`, `IP:${API}`, 'IP:127.0.0.1'].join(','),
  );
  certificate('kubelet', `/O=system:nodes/CN=system:node:${NAME}`, `DNS:${NAME},IP:${ADDRESS}`);
  certificate('admin', '/O=system:masters/CN=admin');
  certificate('controllers', '/CN=system:kube-controller-manager');
  certificate('scheduler', '/CN=system:kube-scheduler');
  certificate('proxy', '/CN=system:kube-proxy');
  for (const name of ['admin', 'controllers', 'scheduler', 'proxy', 'kubelet']) kubeconfig(name);
}

function kubeconfig(name: string): void {
  const data = (of: string) => readFileSync(file(of)).toString('base64');
  const user = { 'client-certificate-data': data(`${name}.crt`), 'client-key-data': data(`${name}.key`) };
  const cluster = { server: `https://${ADDRESS}:6443`, 'certificate-authority-data': data('ca.crt') };
  writeFileSync(
    file(`${name}.kubeconfig`),
    stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: NAME, cluster }],
      users: [{ name, user }],
      contexts: [{ name: NAME, context: { cluster: NAME, user: name } }],
      'current-context': NAME,
    }),
    { mode: 0o600 },
  );
}

function settings(): void {
  writeFileSync(file('resolv.conf'), '');
  writeFileSync(
    file('cni/bridge.conflist'),
    JSON.stringify({
      cniVersion: '1.0.0',
      name: 'nrdot-node',
      plugins: [
        {
          type: 'bridge',
          bridge: 'pods0',
          isDefaultGateway: true,
          hairpinMode: true,
          ipam: { type: 'host-local', ranges: [[{ subnet: PODS }]], dataDir: file('addresses') },
        },
      ],
    }),
  );
  writeFileSync(
    file('containerd.toml'),
    `version = 2
root = "${file('containerd')}"
state = "${file('containerd-state')}"
[grpc]
address = "${SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/nrdot-node/pause:1"
# Not every machine lets a process have a lower score than its parent.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "${file('cni')}"
`,
  );
  writeFileSync(
    file('kubelet.yaml'),
    stringify({
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      address: ADDRESS,
      authentication: {
        anonymous: { enabled: false },
        webhook: { enabled: true },
        x509: { clientCAFile: file('ca.crt') },
      },
      authorization: { mode: 'Webhook' },
      tlsCertFile: file('kubelet.crt'),
      tlsPrivateKeyFile: file('kubelet.key'),
      containerRuntimeEndpoint: `unix://${SOCKET}`,
      cgroupDriver: 'cgroupfs',
      failCgroupV1: false,
      failSwapOn: false,
      clusterDNS: [DNS],
      clusterDomain: 'cluster.local',
      resolvConf: file('resolv.conf'),
      podLogsDir: file('pod-logs'),
      volumePluginDir: file('plugins'),
      // The machine's disk is the machine's: nothing is evicted or collected because of it.
      imageGCHighThresholdPercent: 100,
      evictionHard: { 'memory.available': '100Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    }),
  );
  writeFileSync(
    file('proxy.yaml'),
    stringify({
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      mode: 'iptables',
      hostnameOverride: NAME,
      clusterCIDR: PODS,
      clientConnection: { kubeconfig: file('proxy.kubeconfig') },
      // Sizes of the whole machine's table, which is not this node's alone.
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    }),
  );
}

/** Volumes as a new disk comes: root's, so that only an fsGroup makes one anybody else's. And names of Services. */
function objects(): string {
  const volumes = Array.from({ length: VOLUMES }, (_, i) => {
    const path = file(`volumes/${i}`);
    mkdirSync(path, { recursive: true });
    const values = [NAME];
    return {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: `disk-${i}` },
      spec: {
        capacity: { storage: '20Gi' },
        accessModes: ['ReadWriteOnce'],
        storageClassName: 'standard',
        local: { path },
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values }] },
            ],
          },
        },
      },
    };
  });
  const dns = { name: 'coredns', namespace: 'kube-system' };
  const role = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'coredns' };
  const verbs = ['list', 'watch'];
  // Everything else is unknown at once, for there is no way out to ask.
  const corefile = `cluster.local:53 in-addr.arpa:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa
    cache 5
}
.:53 {
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`;
  const others = [
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'standard', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: 'kubernetes.io/no-provisioner',
      volumeBindingMode: 'WaitForFirstConsumer',
    },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: dns },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'coredns' },
      rules: [
        { apiGroups: [''], resources: ['services', 'pods', 'namespaces'], verbs },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'coredns' },
      roleRef: role,
      subjects: [{ kind: 'ServiceAccount', ...dns }],
    },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: dns, data: { Corefile: corefile } },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: dns,
      spec: {
        selector: { matchLabels: { app: 'coredns' } },
        template: {
          metadata: { labels: { app: 'coredns' } },
          spec: {
            serviceAccountName: 'coredns',
            priorityClassName: 'system-cluster-critical',
            dnsPolicy: 'Default',
            // It listens on 53, as policies expect of it, and is nobody.
            securityContext: { sysctls: [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '0' }] },
            containers: [
              {
                name: 'coredns',
                image: 'nrdot-node/coredns:1',
                imagePullPolicy: 'Never',
                args: ['-conf', '/etc/coredns/Corefile'],
                readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 2 },
                volumeMounts: [{ name: 'config', mountPath: '/etc/coredns' }],
              },
            ],
            volumes: [{ name: 'config', configMap: { name: 'coredns' } }],
          },
        },
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { ...dns, name: 'kube-dns' },
      spec: {
        clusterIP: DNS,
        selector: { app: 'coredns' },
        ports: ['UDP', 'TCP'].map((protocol) => ({
          name: `dns-${protocol.toLowerCase()}`,
          port: 53,
          protocol,
        })),
      },
    },
  ];
  return [...volumes, ...others].map((one) => stringify(one)).join('---\n');
}
