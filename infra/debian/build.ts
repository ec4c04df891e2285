/**
 * Builds a Debian package: the bundle with the Node it is tested on (no Debian release has that one), and systemd units, one
 * for all in one process and one for each service.
 *     node infra/debian/build.ts [directory]     writes nrdot-plus_<version>_<architecture>.deb into it; needs dpkg-deb
 */
import { execFileSync, type StdioOptions } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LIB = '/usr/lib/nrdot-plus';
const CONFIG = '/etc/nrdot/nrdot.yaml';
const STATE = '/var/lib/nrdot';
/** More than admin.shutdown_timeout, so that what is in flight is finished. */
const STOP_SECONDS = 40;
const SERVICES = ['receiver', 'scheduler', 'exporter', 'dlq'];

const unit = (what: string, command: string) => `[Unit]
Description=NRDOT+ ${what}
Documentation=file:/usr/share/doc/nrdot-plus/README.md
Wants=network-online.target
After=network-online.target redis-server.service

[Service]
Type=notify
# systemd-notify speaks for it.
NotifyAccess=all
ExecStart=/usr/bin/nrdot ${command} --config ${CONFIG}
ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
# Of \`nrdot up\`, its redis-server is ended by itself, when all is written.
KillMode=mixed
TimeoutStopSec=${STOP_SECONDS}
Restart=on-failure
RestartSec=2
User=nrdot
Group=nrdot
# Secrets as variables for \${env:NAME} in the configuration, one NAME=value a line.
EnvironmentFile=-/etc/nrdot/environment
WorkingDirectory=${STATE}
StateDirectory=nrdot
StateDirectoryMode=0700
UMask=0077
LimitNOFILE=65536

CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
PrivateDevices=yes
PrivateTmp=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# MemoryDenyWriteExecute would keep V8 from compiling.

[Install]
WantedBy=multi-user.target
`;

const FIRST_CONFIG = `# Every option: nrdot validate --explain, or docs/configuration.md. After a change: nrdot validate ${CONFIG}
# and systemctl reload-or-restart nrdot (or nrdot-receiver and the others).
data_dir: ${STATE}
# exporter:
#   endpoint: https://otlp.nr-data.net
#   headers: { api-key: "\${env:NEW_RELIC_LICENSE_KEY}" }
`;

/** @returns the file's path */
export function buildPackage(into: string): string {
  const { version, description, license } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const architecture = { x64: 'amd64', arm64: 'arm64' }[process.arch as string];
  if (!architecture) throw new Error(`${process.arch}: expected a machine of x64 or arm64`);
  const tree = mkdtempSync(join(tmpdir(), 'nrdot-deb-'));
  chmodSync(tree, 0o755);
  try {
    const put = (path: string, text: string, mode = 0o644) => {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      writeFileSync(join(tree, path), text);
      chmodSync(join(tree, path), mode);
    };
    const stdio: StdioOptions = ['ignore', 2, 2];
    execFileSync(process.execPath, [join(ROOT, 'cli/build.ts'), join(tree, LIB)], { stdio });
    const native = 'node_modules/@mongodb-js';
    cpSync(join(ROOT, native), join(tree, LIB, native), { recursive: true });
    cpSync(realpathSync(join(ROOT, 'node_modules/node/bin/node')), join(tree, LIB, 'node'));
    put('/usr/bin/nrdot', `#!/bin/sh\nexec ${LIB}/node ${LIB}/nrdot.js "$@"\n`, 0o755);
    put('/usr/lib/systemd/system/nrdot.service', unit('pipeline: all services in one process', 'up'));
    for (const name of SERVICES) put(`/usr/lib/systemd/system/nrdot-${name}.service`, unit(name, name));
    put('/usr/lib/sysusers.d/nrdot.conf', `u nrdot - "NRDOT+" ${STATE}\n`);
    put(CONFIG, FIRST_CONFIG);
    put('/usr/share/doc/nrdot-plus/README.md', readFileSync(join(tree, LIB, 'README.md'), 'utf8'));
    const text = readFileSync(join(ROOT, 'LICENSE'), 'utf8');
    put('/usr/share/doc/nrdot-plus/copyright', `License: ${license}\n\n${text}`);
    // It depends on what the bundled Node requires.
    put(
      '/DEBIAN/control',
      `Package: nrdot-plus
Version: ${version}
Architecture: ${architecture}
Maintainer: NRDOT+ <maintainers@nrdot-plus.invalid>
Section: net
Priority: optional
Depends: libc6 (>= 2.28), libstdc++6 (>= 9)
Recommends: redis-server (>= 5:7)
Description: ${description}
`,
    );
    put('/DEBIAN/conffiles', `${CONFIG}\n`);
    // Starts nothing: the administrator chooses the unit.
    put(
      '/DEBIAN/postinst',
      `#!/bin/sh\nset -e\nif [ "$1" = configure ]; then\n  systemd-sysusers nrdot.conf\n  chgrp nrdot ${CONFIG}\n  chmod 640 ${CONFIG}\n  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\nfi\n`,
      0o755,
    );
    put(
      '/DEBIAN/prerm',
      `#!/bin/sh\nset -e\nif [ "$1" = remove ] && [ -d /run/systemd/system ]; then\n  systemctl stop ${['nrdot', ...SERVICES.map((name) => `nrdot-${name}`)].map((name) => `${name}.service`).join(' ')}\nfi\n`,
      0o755,
    );
    const file = join(into, `nrdot-plus_${version}_${architecture}.deb`);
    mkdirSync(into, { recursive: true });
    execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Zgzip', tree, file], { stdio });
    return file;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  console.log(buildPackage(process.argv[2] ?? join(ROOT, 'release')));
