/** Servers that people have between NRDOT+ and their backend, as Debian has them. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, Process, waitUntil } from '@nrdot/testbed';

export interface Server extends AsyncDisposable {
  url: string;
  /** What it was asked. */
  log(): string;
}

/** Where a program is; undefined when it is not there, and its tests are left out. */
export function findProgram(name: string): string | undefined {
  const places = ['/usr/sbin', '/usr/bin', '/usr/local/bin', ...(process.env.PATH ?? '').split(':')];
  return places.map((place) => join(place, name)).find((path) => existsSync(path));
}

async function listening(process: Process, port: number): Promise<void> {
  const answers = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
  await waitUntil(answers, { what: 'it listens' }).catch((error: Error) => {
    throw new Error(`${error.message}\n${process.output()}`);
  });
}

function server(process: Process, url: string, log = () => process.output(2_000)): Server {
  return { url, log, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
}

/**
 * nginx before an upstream.
 * @param directives for its server, beside `listen` and the way to the upstream
 * @param tls names of the files of its certificate and key; with them it offers HTTP/2
 */
export async function startNginx(
  dir: string,
  upstream: string,
  directives: string,
  tls?: { cert: string; key: string },
): Promise<Server> {
  const port = await freePort();
  const own = tls ? `ssl_certificate ${tls.cert}; ssl_certificate_key ${tls.key};` : '';
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${dir}/${name};`)
    .join(' ');
  const log = `log_format protocol '$server_protocol $status';`;
  const access = join(dir, 'access.log');
  const file = join(dir, 'nginx.conf');
  writeFileSync(
    file,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; master_process off; pid ${dir}/nginx.pid; error_log stderr warn;
events {}
http { ${log} access_log ${access} protocol; ${temporary}
  server { listen 127.0.0.1:${port} ${tls ? 'ssl http2' : ''}; ${own} ${directives}
    location / { proxy_pass ${upstream}; proxy_http_version 1.1; proxy_request_buffering on; } } }\n`,
  );
  const nginx = new Process('nginx', findProgram('nginx')!, ['-c', file, '-p', dir]);
  await listening(nginx, port);
  return server(nginx, `${tls ? 'https' : 'http'}://127.0.0.1:${port}`, () => readFileSync(access, 'utf8'));
}

/**
 * A forward proxy; what it was asked for is in its output.
 * @param subnet of those who may ask; it then listens on every address
 */
export async function startTinyproxy(
  dir: string,
  user?: { name: string; password: string },
  subnet?: string,
): Promise<Server> {
  const port = await freePort();
  const file = join(dir, 'tinyproxy.conf');
  const auth = user ? `BasicAuth ${user.name} ${user.password}\n` : '';
  writeFileSync(
    file,
    `Port ${port}\n${subnet ? `Allow ${subnet}` : 'Listen 127.0.0.1'}\nTimeout 60\nLogLevel Connect\nMaxClients 50\nAllow 127.0.0.1\n${auth}`,
  );
  const proxy = new Process('tinyproxy', findProgram('tinyproxy')!, ['-d', '-c', file]);
  await listening(proxy, port);
  return server(proxy, `http://127.0.0.1:${port}`);
}

/** A user that a program as root becomes, as squid does. */
function ownedBy(user: string, dir: string): void {
  const idOf = (flag: string) => Number(execFileSync('id', [flag, user], { encoding: 'utf8' }));
  chownSync(dir, idOf('-u'), idOf('-g'));
  chmodSync(dirname(dir), 0o711);
}

/**
 * The forward proxy that companies have. With a user it asks for a password (407); to what is not allowed it says 403.
 * @param port to start it again where it was
 */
export async function startSquid(
  dir: string,
  { user, access = 'allow all', port }: SquidOptions = {},
): Promise<Server & { port: number }> {
  const own = mkdtempSync(join(dir, 'squid-'));
  const at = port ?? (await freePort());
  const log = join(own, 'access.log');
  const passwords = join(own, 'passwords');
  const asRoot = process.getuid?.() === 0;
  if (user) {
    const hash = execFileSync('openssl', ['passwd', '-apr1', user.password], { encoding: 'utf8' });
    writeFileSync(passwords, `${user.name}:${hash}`);
  }
  const auth = user
    ? `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${passwords}
auth_param basic children 2 startup=1
acl known proxy_auth REQUIRED
http_access deny !known
`
    : '';
  const file = join(own, 'squid.conf');
  writeFileSync(
    file,
    `http_port 127.0.0.1:${at}
visible_hostname localhost
${asRoot ? 'cache_effective_user proxy' : ''}
pid_filename none
coredump_dir ${own}
cache_log stdio:/dev/stderr
access_log stdio:${log}
netdb_filename none
cache deny all
pinger_enable off
max_filedescriptors 1024
shutdown_lifetime 0 seconds
${auth}http_access ${access}
`,
  );
  if (asRoot) ownedBy('proxy', own);
  // -N: neither a daemon nor workers, so that what is ended is all there is.
  const squid = new Process('squid', findProgram('squid')!, ['-N', '-d', '1', '-f', file]);
  await listening(squid, at);
  const read = () => (existsSync(log) ? readFileSync(log, 'utf8') : '');
  return { ...server(squid, `http://127.0.0.1:${at}`, read), port: at };
}

export interface SquidOptions {
  user?: { name: string; password: string };
  /** What is let through, in squid's words. */
  access?: string;
  port?: number;
}

/**
 * The OpenTelemetry Collector, OTLP/HTTP in and out.
 * @param binary where `findCollector` found it
 * @param exporter options of its `otlphttp`
 * @param more its port, to start it again where it was; whether its batch processor is in between
 */
export async function startCollector(
  binary: string,
  dir: string,
  exporter: { endpoint: string } & Record<string, unknown>,
  more: { port?: number; batch?: boolean } = {},
): Promise<{ url: string; port: number; process: Process } & AsyncDisposable> {
  const port = more.port ?? (await freePort());
  const file = join(mkdtempSync(join(dir, 'collector-')), 'collector.yaml');
  const pipeline = {
    ...{ receivers: ['otlp'], exporters: ['otlphttp'] },
    ...(more.batch ? { processors: ['batch'] } : {}),
  };
  writeFileSync(
    file,
    JSON.stringify({
      receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
      ...(more.batch ? { processors: { batch: {} } } : {}),
      exporters: { otlphttp: exporter },
      service: {
        telemetry: { metrics: { level: 'none' } },
        pipelines: { traces: pipeline, metrics: pipeline, logs: pipeline },
      },
    }),
  );
  const process = new Process('collector', binary, ['--config', file], {}, dir);
  const url = `http://127.0.0.1:${port}`;
  await waitUntil(
    async () => {
      if (!process.running) throw new Error(process.output());
      return (await fetch(`${url}/v1/traces`)).status === 405;
    },
    { what: 'the Collector listens' },
  );
  return { url, port, process, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
}

/** A server in Python that reads the first gzip member of a body and passes it on. */
export async function startFirstMember(upstream: string): Promise<Server> {
  const script = fileURLToPath(new URL('first_member.py', import.meta.url));
  const python = new Process('python3', findProgram('python3')!, [script, upstream]);
  const [, port = ''] = await python.line(/listening on (\d+)/);
  return server(python, `http://127.0.0.1:${port}`);
}

/** A certificate for 127.0.0.1 that is its own authority. */
export function makeCertificate(dir: string): { cert: string; key: string } {
  const [cert, key] = [join(dir, 'server.crt'), join(dir, 'server.key')];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'],
      ...['-keyout', key, '-out', cert],
    ],
    { stdio: 'pipe' },
  );
  return { cert, key };
}
