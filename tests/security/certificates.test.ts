/** Renewed certificates are used without a restart and without dropping a connection. */
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createProxy } from 'node:http';
import { Agent, createServer, request } from 'node:https';
import { type AddressInfo, connect, type Server as NetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { loadConfig, warningsOf } from '@nrdot/config';
import { AdminServer, CertificateWatch, followCertificate, secureServer } from '@nrdot/service';
import { createLogger, MetricsRegistry, type Transition, Transitions } from '@nrdot/telemetry';
import { waitUntil } from '@nrdot/testbed';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Upstream } from '../../services/exporter/src/upstream.ts';
import { DlqClient } from '../../services/receiver/src/dlq-client.ts';
import { startReceiver } from './receiver.ts';

let dir: string;
const at = (file: string) => join(dir, file);
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'nrdot-certificates-'));
  for (const [name, days] of [
    ['first', '2'],
    ['second', '2'],
    ['long', '90'],
  ] as const)
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', days],
        ...['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'],
        ...['-keyout', `${name}.key`, '-out', `${name}.crt`],
      ],
      { cwd: dir, stdio: 'pipe' },
    );
  use('first');
});
afterAll(() => rmSync(dir, { recursive: true }));

function use(name: string): void {
  copyFileSync(at(`${name}.crt`), at('used.crt'));
  copyFileSync(at(`${name}.key`), at('used.key'));
}

const pair = (name: string) => ({
  cert: readFileSync(at(`${name}.crt`)),
  key: readFileSync(at(`${name}.key`)),
});
const authorities = () => ['first', 'second'].map((name) => readFileSync(at(`${name}.crt`)));

async function listening(server: NetServer): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function shown(url: string, agent?: Agent): Promise<string> {
  const asked = request(url, { ca: authorities(), ...(agent ? { agent } : { agent: false }) }).end();
  const [response] = await once(asked, 'response');
  const { CN } = (response.socket as TLSSocket).getPeerCertificate().subject;
  response.resume();
  await once(response, 'end');
  return String(CN);
}

it('a server uses the renewed one for new connections, and existing ones continue', async () => {
  use('first');
  const server = createServer(pair('used'), (_, response) => response.end('yes'));
  const url = await listening(server);
  followCertificate(server, { certFile: at('used.crt'), keyFile: at('used.key') }, 5);
  const kept = new Agent({ keepAlive: true, maxSockets: 1 });
  expect(await shown(url, kept)).toBe('first');
  writeFileSync(at('used.key'), 'half of a file'); // while it is being written
  await wait(50);
  expect(await shown(url)).toBe('first');
  use('second');
  await waitUntil(async () => (await shown(url)) === 'second', { what: 'the renewed one is shown' });
  expect(await shown(url, kept)).toBe('first'); // the same connection
  kept.destroy();
  server.closeAllConnections();
  server.close();
});

it('a server uses the one that was renewed while it started', async () => {
  use('first');
  const admin = new AdminServer(
    { listen: { host: '127.0.0.1', port: 0 }, tls: { certFile: at('used.crt'), keyFile: at('used.key') } },
    new MetricsRegistry([]),
    createLogger({ level: 'silent', format: 'json' }),
  );
  use('second');
  const { port } = await admin.start();
  expect(await shown(`https://127.0.0.1:${port}/healthz`)).toBe('second');
  await admin.stop();
});

it('a server uses the one that was being written while it started', async () => {
  use('first');
  const server = createServer(pair('used'), (_, response) => response.end('yes'));
  copyFileSync(at('second.crt'), at('used.crt')); // its key is yet to come
  const url = await listening(server);
  followCertificate(server, { certFile: at('used.crt'), keyFile: at('used.key') }, 5);
  expect(await shown(url)).toBe('first');
  use('second');
  await waitUntil(async () => (await shown(url)) === 'second', { what: 'the renewed one is shown' });
  server.closeAllConnections();
  server.close();
});

it('a server trusts the CA of clients that it has read, while the file has none that is complete', async () => {
  use('first');
  const ca = at('clients.crt');
  copyFileSync(at('first.crt'), ca);
  const tls = { certFile: at('used.crt'), keyFile: at('used.key'), clientCaFile: ca };
  const server = createServer({ ...secureServer(tls).https }, (_, response) => response.end('yes'));
  const url = await listening(server);
  followCertificate(server, tls, 5);
  const asked = (name: string) => shown(url, new Agent(pair(name))).catch(() => 'refused');
  const whole = readFileSync(at('second.crt'), 'utf8');
  for (const bad of [
    '',
    'garbage\n',
    whole.slice(0, 300),
    `${whole}${whole.slice(0, 300)}`,
    `${whole.slice(0, 200)}${whole}`,
  ]) {
    writeFileSync(ca, bad);
    await wait(30);
    expect([await asked('first'), await asked('second')], bad).toEqual(['first', 'refused']);
    expect(() => secureServer(tls)).toThrow(/certificate/);
  }
  writeFileSync(ca, `${whole}\n# and nothing else\n`);
  await waitUntil(async () => (await asked('second')) === 'first', { what: 'the new CA is trusted' });
  expect(await asked('first')).toBe('refused');
  server.closeAllConnections();
  server.close();
});

it('a configuration with a file of certificates to trust that has none is refused', () => {
  for (const bad of ['', 'garbage\n', readFileSync(at('first.crt'), 'utf8').slice(0, 300)]) {
    writeFileSync(at('trusted.crt'), bad);
    for (const [section, option] of [
      ['receiver.tls', 'client_ca_file'],
      ['exporter.tls', 'ca_file'],
      ['redis.tls', 'ca_file'],
      ['dlq', 'ca_file'],
    ] as const) {
      const own =
        option === 'client_ca_file' ? { cert_file: at('first.crt'), key_file: at('first.key') } : {};
      const options = { ...own, [option]: at('trusted.crt') };
      const [room, below] = section.split('.');
      const text = JSON.stringify({ [room!]: below ? { [below]: options } : options });
      const load = () => loadConfig({ env: {}, text, forStart: { files: true, upstream: false } });
      expect(load, text).toThrow(new RegExp(`${section}\\.${option}.*(no certificate|incomplete)`, 's'));
    }
  }
});

it('a client uses the CA and certificate that are in the files at that time', async () => {
  for (const name of ['first', 'second']) copyFileSync(at(`${name}.crt`), at(`trusted-${name}.crt`));
  copyFileSync(at('first.crt'), at('trusted.crt'));
  use('first');
  let names: string[] = [];
  const take = (name: string) =>
    createServer(
      { ...pair(name), ca: authorities(), requestCert: true, rejectUnauthorized: false },
      (asked, response) => {
        names.push(String((asked.socket as TLSSocket).getPeerCertificate().subject?.CN));
        asked.resume().on('end', () => response.end());
      },
    );
  const [before, after] = [take('first'), take('second')];
  const urls = [await listening(before), await listening(after)];
  const tls = {
    caFile: at('trusted.crt'),
    certFile: at('used.crt'),
    keyFile: at('used.key'),
    insecureSkipVerify: false,
  };
  const proxy = createProxy().on('connect', ({ url = '' }, socket: Socket) => {
    const { hostname, port } = new URL(`http://${url}`);
    const through = connect(Number(port), hostname, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    pipeline(socket, through, socket, () => {});
  });
  const proxyUrl = (await listening(proxy)).replace('https', 'http');
  const upstreams = [...urls, ...urls].map(
    (endpoint, i) =>
      new Upstream({
        ...{ endpoint, endpoints: {}, headers: {}, timeoutMs: 5_000, maxResponseBytes: 1_000 },
        ...{ connections: 1, userAgent: 'test', tls },
        ...{ proxyFor: () => (i < urls.length ? undefined : proxyUrl) },
      } as never),
  );
  const clients = urls.map((url) => new DlqClient(url, { caFile: at('trusted.crt') }));
  const batch = {
    id: 'b',
    signal: 'logs',
    class: 'normal',
    origin: 'live',
    encoding: 'identity',
    items: 1,
    receivedAt: 1,
  };
  const store = (client: DlqClient) =>
    client.store({ ...batch, payload: Buffer.from('x') } as never).then(
      () => 'stored',
      () => 'refused',
    );
  const kinds = async () => [
    ...(await Promise.all(
      upstreams.map(async (one) => (await one.send('logs', Buffer.from('x'), 'identity')).kind),
    )),
    ...(await Promise.all(clients.map(store))),
  ];
  expect(await kinds()).toEqual(['delivered', 'retry', 'delivered', 'retry', 'stored', 'refused']);
  expect(names).toContain('first');
  copyFileSync(at('second.crt'), at('trusted.crt'));
  use('second');
  names = [];
  const renewed = (await kinds()).with(4, 'either'); // it may still have its connection
  // The first of each pair of upstreams by its connection.
  expect(renewed).toEqual([...Array(4).fill('delivered'), 'either', 'stored']);
  for (const name of ['first', 'second']) expect(names.filter((one) => one === name)).toHaveLength(2);
  for (const one of upstreams) await one.close();
  for (const client of clients) client.close();
  for (const server of [before, after, proxy]) {
    server.closeAllConnections();
    server.close();
  }
});

describe('the watch on the certificates of a process', () => {
  const used = () => `{cert_file: ${at('used.crt')}, key_file: ${at('used.key')}}`;
  let events: Transition[] = [];
  let watch: CertificateWatch | undefined;
  afterEach(() => watch?.stop());

  function watching(services: string[], text: string, laterMs = 0): MetricsRegistry {
    const { config } = loadConfig({ env: {}, text });
    const registry = new MetricsRegistry(['receiver']);
    events = [];
    const transitions = new Transitions({
      log: createLogger({ level: 'silent', format: 'json' }),
      service: 'nrdot',
      record: (event) => void events.push(event),
    });
    watch = new CertificateWatch(config, services, registry, transitions, {
      everyMs: 5,
      now: () => Date.now() + laterMs,
    });
    return registry;
  }
  const told = () =>
    events.map(({ level, subject, state, message }) => `${level} ${subject} ${state} ${message}`);

  it('reports that one was renewed, is unreadable, and is readable again, once each', async () => {
    use('first');
    watching(['receiver'], `receiver: {tls: ${used()}}\nexporter: {tls: ${used()}}`);
    await wait(30);
    expect(told()).toEqual([]);
    use('second');
    await waitUntil(() => events.length > 0, { what: 'the renewal is reported' });
    writeFileSync(at('used.key'), 'half of a file');
    await waitUntil(() => events.length > 1, { what: 'what lasts is reported' });
    await wait(50);
    use('second');
    await waitUntil(() => events.length > 2, { what: 'its end is reported' });
    const name = `The certificate of the receiver \\(${at('used.crt')}\\)`;
    expect(told()).toEqual([
      expect.stringMatching(
        `^info certificate:receiver happened ${name} was renewed: valid until [-0-9]{10}\\. New connections use it within 10 s\\.$`,
      ),
      expect.stringMatching(
        `^error certificate:receiver unreadable ${name} cannot be used with ${at('used.key')}: .+ stays in use`,
      ),
      expect.stringMatching(`^info certificate:receiver well ${name} is valid until [-0-9]{10}\\.$`),
    ]);
  });

  it.each([
    ['6 days of 90', 'long', 84, 'warn certificate:admin expires The certificate .* expires in 6 d'],
    ['30 days of 90', 'long', 60, undefined],
    ['one day of 2', 'first', 1, undefined],
    ['half a day of 2', 'first', 1.5, 'warn certificate:admin expires The certificate .* expires in 12.0 h'],
    ['none', 'first', 3, 'error certificate:admin expired The certificate .* expired on [-0-9]{10}: '],
  ])('reports once with %s left', async (_, name, days, line) => {
    use(name);
    watching(['exporter'], `admin: {tls: ${used()}}`, days * 86_400_000 - 1_000);
    await wait(30);
    expect(told()).toEqual(line === undefined ? [] : [expect.stringMatching(`^${line}`)]);
  });

  it('reports a CA of clients that is not complete, and the certificates of all its clients', async () => {
    use('first');
    writeFileSync(at('clients.crt'), 'garbage');
    const tls = `{cert_file: ${at('used.crt')}, key_file: ${at('used.key')}, client_ca_file: ${at('clients.crt')}}`;
    const registry = watching(
      ['receiver'],
      `receiver: {tls: ${tls}}\ndlq: ${used()}\ntelemetry: {otlp: {tls: ${used()}}}`,
    );
    await waitUntil(() => events.length > 0, { what: 'the CA is reported' });
    expect(told()).toEqual([
      expect.stringMatching(
        `^error certificate:receiver unreadable .* with ${at('used.key')} and ${at('clients.crt')}: it has no certificate .*stays in use`,
      ),
    ]);
    const uses = [
      ...(await registry.text()).matchAll(/certificate_expiry_timestamp_seconds\{use="(\w+)"\} \d/g),
    ];
    expect(uses.map(([, name]) => name)).toEqual(['receiver', 'dlq_client', 'telemetry']);
  });

  it('exposes the expiry of each as a metric, for its own services only', async () => {
    use('first');
    const both = `receiver: {tls: ${used()}}\ndlq: {tls: ${used()}}`;
    const text = await watching(['receiver'], both).text();
    const seconds = /certificate_expiry_timestamp_seconds\{use="receiver"\} (\d+)/.exec(text)?.[1];
    expect(Number(seconds) * 1000 - Date.now()).toBeGreaterThan(86_400_000);
    expect(text).not.toContain('use="dlq"');
  });
});

it('a receiver presents the certificate that the dlq requires, and a configuration without one causes a warning', async () => {
  use('first');
  const asking = { ...pair('first'), ca: authorities(), requestCert: true, rejectUnauthorized: true };
  const server = createServer(
    asking,
    (request, response) => void request.resume().on('end', () => response.end()),
  );
  const url = await listening(server);
  const batch = {
    id: 'b',
    signal: 'logs',
    class: 'normal',
    origin: 'live',
    encoding: 'identity',
    items: 1,
    receivedAt: 1,
  };
  const kept = (own: object) => {
    const client = new DlqClient(url, { caFile: at('first.crt'), ...own });
    return client
      .store({ ...batch, payload: Buffer.from('x') } as never)
      .then(
        () => true,
        () => false,
      )
      .finally(() => client.close());
  };
  expect(await kept({})).toBe(false);
  expect(await kept({ certFile: at('second.crt'), keyFile: at('second.key') })).toBe(true);
  server.closeAllConnections();
  server.close();
  const warned = (more: string) =>
    warningsOf(
      loadConfig({
        text: `dlq: {tls: {cert_file: a, key_file: b, client_ca_file: c}${more}}`,
        file: 'nrdot.yaml',
        env: {},
      }).config,
    );
  expect(warned('')).toEqual([expect.stringContaining('dlq.cert_file')]);
  expect(warned(', cert_file: d, key_file: e')).toEqual([]);
});

describe("the image's health check", () => {
  const ask = (port: number, path: string) =>
    promisify(execFile)('bash', ['infra/docker/ask', 'GET', String(port), path]).then(({ stdout }) => stdout);

  it.each(['HTTP', 'TLS', 'TLS with certificates of clients'])(
    'distinguishes a live service by %s',
    async (speaks) => {
      use('first');
      const tls = {
        ...(speaks === 'HTTP' ? {} : { certFile: at('used.crt'), keyFile: at('used.key') }),
        ...(speaks.endsWith('clients') ? { clientCaFile: at('used.crt') } : {}),
      };
      const admin = new AdminServer(
        { listen: { host: '127.0.0.1', port: 0 }, tls },
        new MetricsRegistry([]),
        createLogger({ level: 'silent', format: 'json' }),
      );
      const { port } = await admin.start();
      // Several times: a question in the clear is cut off at one place or another.
      for (let i = 0; i < 8; i++) expect(await ask(port, '/healthz')).toContain('alive');
      await expect(ask(port, '/nothing')).rejects.toThrow();
      await admin.stop();
      await expect(ask(port, '/healthz')).rejects.toThrow();
    },
  );
});

it('a connection that never completes the handshake is closed after the request timeout', async () => {
  use('first');
  const receiver = await startReceiver({
    tls: { certFile: at('used.crt'), keyFile: at('used.key') },
    requestTimeoutMs: 500,
  });
  const sockets = ['', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'].map((hello) => {
    const socket = connect(receiver.port, '127.0.0.1').on('error', () => {});
    socket.write(Buffer.from(hello, 'latin1'));
    return socket.resume();
  });
  await Promise.all(sockets.map((socket) => once(socket, 'close', { signal: AbortSignal.timeout(60_000) })));
  await receiver.stop();
});

it('requests behind one for another protocol are answered by TLS as well', async () => {
  use('first');
  const admin = new AdminServer(
    { listen: { host: '127.0.0.1', port: 0 }, tls: { certFile: at('used.crt'), keyFile: at('used.key') } },
    new MetricsRegistry([]),
    createLogger({ level: 'silent', format: 'json' }),
  );
  const { port } = await admin.start();
  const socket = connectTls({ port, host: '127.0.0.1', ca: authorities() });
  const get = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
  socket.write(get('/healthz', upgrade) + get('/nothing') + get('/healthz', 'Connection: close\r\n'));
  const statuses = [...(await text(socket)).matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
  expect(statuses).toEqual(['200', '404', '200']);
  await admin.stop();
});

it('a connection that is still in its handshake does not hold up a stop; one that has ended it is answered', async () => {
  use('first');
  const receiver = await startReceiver({
    tls: { certFile: at('used.crt'), keyFile: at('used.key') },
    requestTimeoutMs: 15_000,
  });
  const agent = new Agent({ keepAlive: true });
  expect(await shown(`https://127.0.0.1:${receiver.port}/`, agent)).toBe('first');
  const socket = connect(receiver.port, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  await wait(100);
  const closed = once(socket.resume(), 'close');
  const startedAt = performance.now();
  await receiver.stop();
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  await closed;
  agent.destroy();
});
