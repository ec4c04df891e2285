/** The Debian package where systemd runs: installed, started by its units, hardened as they say, and removed. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildPackage } from '../../infra/debian/build.ts';
import { docker, run, whyNoEngine } from './engine.ts';

const MACHINE = 'nrdot-test-machine';
const UNITS = ['receiver', 'scheduler', 'exporter', 'dlq'];
/** What `systemd-analyze security` gives at most; 10 is a unit without any hardening. */
const EXPOSED_AT_MOST = 2;

function whyNot(): string | undefined {
  const why = whyNoEngine();
  if (why) return why;
  try {
    execFileSync('dpkg-deb', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'there is no dpkg-deb';
  }
}
const why = whyNot();

const within = (...command: string[]) => docker('exec', MACHINE, ...command);
const shell = (line: string) => within('bash', '-c', line);

describe.skipIf(why)(`the Debian package${why ? ` (skipped: ${why})` : ''}`, () => {
  const dir = temporaryDirectory();
  let started = '';

  beforeAll(async () => {
    const context = join(dir.path, 'context');
    mkdirSync(context);
    writeFileSync(
      join(context, 'Dockerfile'),
      `FROM node:24-bookworm-slim
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd systemd-sysv redis-server curl procps >/dev/null
RUN systemctl mask redis-server.service && rm -f /usr/local/bin/node
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
`,
    );
    await run(['docker', 'build', '-q', '-t', MACHINE, context], { timeoutMs: 300_000 });
    const file = buildPackage(dir.path);
    await docker('rm', '-f', MACHINE).catch(() => '');
    started = await docker(
      ...[
        'run',
        '-d',
        '--name',
        MACHINE,
        '--cap-add',
        'SYS_ADMIN',
        '--cap-add',
        'NET_ADMIN',
        '--cgroupns=host',
      ],
      ...['--security-opt', 'seccomp=unconfined', '--security-opt', 'apparmor=unconfined'],
      ...['-v', '/sys/fs/cgroup:/sys/fs/cgroup:rw', '--tmpfs', '/run', '--tmpfs', '/run/lock', MACHINE],
    );
    await waitUntil(async () => /running|degraded/.test(await shell('systemctl is-system-running || true')), {
      what: 'systemd is up',
      everyMs: 300,
    });
    await docker('cp', file, `${MACHINE}:/root/`);
    await shell(`dpkg -i /root/${basename(file)}`);
  }, 900_000);
  afterAll(async () => {
    if (started) await docker('rm', '-f', MACHINE);
    dir[Symbol.dispose]();
  });

  it('starts nothing automatically, and only its own user can read its configuration', async () => {
    expect(await shell('systemctl is-active nrdot.service || true')).toBe('inactive\n');
    expect(await shell('stat -c "%U %G %a" /etc/nrdot/nrdot.yaml')).toBe('root nrdot 640\n');
    expect(await shell('nrdot validate /etc/nrdot/nrdot.yaml && nrdot --version')).toMatch(
      /is valid\.\n\d+\.\d+\.\d+/,
    );
  });

  it('runs everything in one unit, which is active once it accepts requests', async () => {
    // With systemd's patience: Type=notify is done when the service says so.
    await within('systemctl', 'start', 'nrdot.service');
    expect(await shell('nrdot generate --items 200 --rate 0')).toMatch(/acknowledged +200 items/);
    expect(await shell('ps -o user= -C redis-server; stat -c %U /var/lib/nrdot')).toBe('nrdot\nnrdot\n');
    await within('systemctl', 'reload', 'nrdot.service');
    await within('systemctl', 'stop', 'nrdot.service');
    expect(await shell('systemctl show -p Result --value nrdot.service')).toBe('success\n');
    expect(await shell('pgrep -c redis-server || true')).toBe('0\n');
  });

  it('runs each service in its own unit, with an existing Redis', async () => {
    await shell(
      'systemd-run --unit store redis-server --port 6379 --appendonly yes --appendfsync always --maxmemory-policy noeviction --dir /tmp',
    );
    await shell('systemd-run --unit backend nrdot mock-upstream');
    const config = `redis: { url: redis://127.0.0.1:6379 }
data_dir: /var/lib/nrdot
exporter: { endpoint: http://127.0.0.1:4320 }
admin: { listen: 127.0.0.1:0 }
dlq: { url: http://127.0.0.1:4319 }
`;
    await shell(`printf '%s' '${config}' > /etc/nrdot/nrdot.yaml`);
    for (const name of UNITS) await within('systemctl', 'start', `nrdot-${name}.service`);
    expect(await shell('nrdot generate --items 300 --rate 0')).toMatch(/acknowledged +300 items/);
    await waitUntil(
      async () => JSON.parse(await shell('curl -s http://127.0.0.1:4320/_mock/stats')).items === 300,
      {
        what: 'all points have arrived',
        everyMs: 300,
      },
    );
    for (const name of UNITS)
      expect(await shell(`systemctl is-active nrdot-${name}.service`)).toBe('active\n');
  });

  it.each(['nrdot', 'nrdot-receiver'])(
    'hardens %s as far as a service with a JIT compiler allows',
    async (name) => {
      const text = await shell(`systemd-analyze security --no-pager ${name}.service | tail -1`);
      expect(Number(/exposure level for \S+: ([\d.]+)/.exec(text)?.[1])).toBeLessThanOrEqual(EXPOSED_AT_MOST);
    },
  );

  it('stops its units when removed, and leaves configuration and data', async () => {
    await within('dpkg', '-r', 'nrdot-plus');
    for (const name of UNITS)
      expect(await shell(`systemctl is-active nrdot-${name}.service || true`)).toBe('inactive\n');
    expect(await shell('ls /etc/nrdot')).toContain('nrdot.yaml');
    expect(await shell('ls -d /usr/bin/nrdot 2>/dev/null || echo gone')).toBe('gone\n');
    expect(await shell('ls /var/lib/nrdot')).toContain('dlq');
  });
});
