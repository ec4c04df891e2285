/**
 * The parts of a one-node Kubernetes, for a machine that can pull no images and install no kind: built from Go modules, the rest
 * Debian's packages. Built once, into a directory of this user beside the checkout.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const CACHE = join(homedir(), '.cache/nrdot-kubernetes');
export const BIN = join(CACHE, 'bin');

const KUBERNETES = 'v1.34.4';
const MINOR = KUBERNETES.split('.')[1];
const COMMANDS = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'kubelet',
  'kubectl',
];
const PLUGINS = ['cache', 'errors', 'kubernetes', 'ready', 'template'];
/** Programs, and the package of Debian that has each. */
const PACKAGES: Readonly<Record<string, string>> = {
  etcd: 'etcd-server',
  conntrack: 'conntrack',
  iptables: 'iptables',
  ipset: 'ipset',
  openssl: 'openssl',
  nsenter: 'util-linux',
  ip: 'iproute2',
  '/usr/lib/cni/bridge': 'containernetworking-plugins',
};
const BUILD_TIMEOUT_MS = 30 * 60_000;

/** Holds a pod's namespaces until it is told to end. */
const PAUSE = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	<-told
}
`;

export function isHere(program: string): boolean {
  const dirs = program.startsWith('/') ? [''] : (process.env.PATH ?? '').split(':').map((dir) => `${dir}/`);
  return dirs.some((dir) => existsSync(dir + program));
}

/** Why the parts cannot be had here; undefined when nothing is known to be in the way. */
export function whyNoParts(): string | undefined {
  if (process.platform !== 'linux') return 'a cluster from parts needs Linux';
  if (process.getuid?.() !== 0) return 'a cluster from parts needs root';
  if (!isHere('go')) return 'a cluster from parts needs Go';
  const programs = ['containerd', 'ctr', 'docker'].filter((program) => !isHere(program));
  if (programs.length > 0) return `a cluster from parts needs ${programs.join(' and ')} (Debian's docker.io)`;
  const missing = Object.keys(PACKAGES).filter((program) => !isHere(program));
  if (missing.length > 0 && !isHere('apt-get')) return `a cluster from parts needs ${missing.join(', ')}`;
  return undefined;
}

/** Builds and installs what is not there yet. @throws Error with what a tool said */
export function makeParts(say: (line: string) => void): void {
  mkdirSync(BIN, { recursive: true });
  const missing = Object.keys(PACKAGES).filter((program) => !isHere(program));
  if (missing.length > 0) {
    const names = missing.map((program) => PACKAGES[program]!);
    say(`installing ${names.join(', ')}`);
    const env = { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
    call('apt-get', ['update', '-qq'], { env });
    call('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], { env });
  }
  part('kubernetes', KUBERNETES, COMMANDS, say, (dir) => {
    const version = 'k8s.io/component-base/version';
    const set = [`gitVersion=${KUBERNETES}`, 'gitMajor=1', `gitMinor=${MINOR}`].map(
      (one) => `-X ${version}.${one}`,
    );
    // Its libraries live in one repository with it, and are published with the same number as v0.
    const own = readFileSync(join(moduleDirectory(`k8s.io/kubernetes@${KUBERNETES}`), 'go.mod'), 'utf8');
    const libraries = [...own.matchAll(/^\s*(k8s\.io\/\S+) => \.\/staging\//gm)].map(([, name]) => name);
    writeFileSync(
      join(dir, 'go.mod'),
      [
        'module parts\n\ngo 1.24.0\n',
        `require k8s.io/kubernetes ${KUBERNETES}\n`,
        ...libraries.map((name) => `replace ${name} => ${name} v0.${MINOR}.${KUBERNETES.split('.')[2]}`),
        '',
      ].join('\n'),
    );
    goBuild(
      dir,
      ['-ldflags', `-s -w ${set.join(' ')}`],
      COMMANDS.map((name) => `k8s.io/kubernetes/cmd/${name}`),
    );
  });
  const helm = 'helm.sh/helm/v3';
  part('helm', 'v3.21.4', ['helm'], say, (dir, version) => {
    const set = [
      `internal/version.version=${version}`,
      ...['pkg/chartutil', 'pkg/lint/rules'].flatMap((at) => [
        `${at}.k8sVersionMajor=1`,
        `${at}.k8sVersionMinor=${MINOR}`,
      ]),
    ].map((one) => `-X ${helm}/${one}`);
    requireModule(dir, helm, version);
    goBuild(dir, ['-ldflags', `-s -w ${set.join(' ')}`], [`${helm}/cmd/helm`]);
  });
  part('coredns', 'v1.14.6', ['coredns'], say, (dir, version) => {
    requireModule(dir, 'github.com/coredns/coredns', version);
    const imports = PLUGINS.map((name) => `\t_ "github.com/coredns/coredns/plugin/${name}"\n`).join('');
    writeFileSync(
      join(dir, 'main.go'),
      `package main\n\nimport (\n\t"github.com/coredns/coredns/coremain"\n${imports})\n\nfunc main() {\n\tcoremain.Run()\n}\n`,
    );
    goBuild(dir, ['-ldflags', '-s -w'], ['.'], 'coredns');
  });
  const router = 'github.com/cloudnativelabs/kube-router/v2';
  part('kube-router', 'v2.1.0', ['kube-router'], say, (dir, version) => {
    requireModule(dir, router, version);
    goBuild(dir, ['-ldflags', '-s -w'], [`${router}/cmd/kube-router`]);
  });
  part('pause', 'v1', ['pause'], say, (dir) => {
    writeFileSync(join(dir, 'go.mod'), 'module parts\n\ngo 1.24.0\n');
    writeFileSync(join(dir, 'main.go'), PAUSE);
    goBuild(dir, ['-ldflags', '-s -w'], ['.'], 'pause');
  });
}

/** Builds a part, unless this version of it is there. */
function part(
  name: string,
  version: string,
  programs: readonly string[],
  say: (line: string) => void,
  build: (dir: string, version: string) => void,
): void {
  const done = join(CACHE, `${name}.version`);
  const has = existsSync(done) && readFileSync(done, 'utf8') === version;
  if (has && programs.every((program) => existsSync(join(BIN, program)))) return;
  say(`building ${name} ${version}${name === 'kubernetes' ? ' (about 6 minutes on 2 cores)' : ''}`);
  const dir = join(CACHE, 'src', name);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  build(dir, version);
  writeFileSync(done, version);
}

function requireModule(dir: string, path: string, version: string): void {
  writeFileSync(join(dir, 'go.mod'), `module parts\n\ngo 1.25.0\n\nrequire ${path} ${version}\n`);
}

/** Where a module's source is, downloaded when it is not there yet. */
export function moduleDirectory(module: string): string {
  const answer = call('go', ['mod', 'download', '-json', module], { cwd: CACHE });
  return (JSON.parse(answer) as { Dir: string }).Dir;
}

/** @param name of a program that becomes an image by itself, so it has to be static */
function goBuild(dir: string, flags: readonly string[], packages: readonly string[], name = ''): void {
  const env = { GOFLAGS: '-mod=mod -buildvcs=false', ...(name ? { CGO_ENABLED: '0' } : {}) };
  call('go', ['build', ...flags, '-o', `${BIN}/${name}`, ...packages], { cwd: dir, env });
}

function call(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): string {
  try {
    return execFileSync(program, args, {
      ...options,
      env: { ...process.env, ...options.env },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: BUILD_TIMEOUT_MS,
      maxBuffer: 64 * 1024 * 1024,
    });
  } catch (error) {
    const { message, stderr = '' } = error as Error & { stderr?: string };
    throw new Error(`${message.split('\n')[0]}\n${stderr.slice(-2_000)}`);
  }
}
