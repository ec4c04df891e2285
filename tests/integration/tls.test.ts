/** TLS, one-sided and mutual, with real certificates on the four sides that have it: receiver, admin, upstream, Redis. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect as secureConnect } from 'node:tls';
import { connect, type RedisTarget } from '@nrdot/redis';
import {
  freePort,
  Process,
  startMockUpstream,
  startNrdot,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Upstream } from '../../services/exporter/src/upstream.ts';
import { startOne } from '../kit.ts';
import { startReceiver } from '../security/receiver.ts';

const EMPTY = Buffer.alloc(0);
const SPAN = JSON.stringify({
  resourceSpans: [
    {
      scopeSpans: [
        { spans: [{ traceId: '0123456789abcdef0123456789abcdef', spanId: '0123456789abcdef', name: 'tls' }] },
      ],
    },
  ],
});

/** The user of docs/security.md. */
const ACL = `user nrdot on >word ~{nrdot}:* &* +@all -@dangerous +info +config|get +client
user default off
`;

const dir = temporaryDirectory();
const at = (file: string) => join(dir.path, file);

/** An authority, and certificates it signed for a server and a client; a second authority that nobody trusts. */
beforeAll(() => {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir.path, stdio: 'pipe' });
  for (const ca of ['ca', 'other-ca']) {
    openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${ca}`, '-keyout', `${ca}.key`, '-out', `${ca}.crt`],
    );
  }
  writeFileSync(at('san'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  for (const [name, ca] of [
    ['server', 'ca'],
    ['client', 'ca'],
    ['stranger', 'other-ca'],
  ] as const) {
    openssl(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`],
    );
    openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${ca}.crt`, '-CAkey', `${ca}.key`],
      ...['-CAcreateserial', '-days', '2', '-extfile', 'san', '-out', `${name}.crt`],
    );
  }
});
afterAll(() => dir[Symbol.dispose]());

const own = (name: string) => ({
  cert: readFileSync(at(`${name}.crt`)),
  key: readFileSync(at(`${name}.key`)),
});

/** @returns the status, or the code of what went wrong with the connection */
async function ask(
  url: string,
  options: { client?: string; ca?: string; body?: string; headers?: Record<string, string> },
): Promise<number | string> {
  const { client, ca = 'ca', body, headers = {} } = options;
  const asked = request(url, {
    ca: readFileSync(at(`${ca}.crt`)),
    ...(client ? own(client) : {}),
    method: body ? 'POST' : 'GET',
    headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
    agent: false,
  });
  asked.end(body);
  try {
    const [response] = await once(asked, 'response');
    response.resume();
    return response.statusCode;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

describe('the limits of a receiver', () => {
  it('hold with TLS as they do without: the size of headers, and the time that a request may take', async () => {
    const tls = { certFile: at('server.crt'), keyFile: at('server.key') };
    for (const [maxHeaderBytes, status] of [
      [64_000, 200],
      [8_192, 431],
    ] as const) {
      const receiver = await startReceiver({ tls, requestTimeoutMs: 400, maxHeaderBytes });
      const url = `https://127.0.0.1:${receiver.port}/v1/traces`;
      const headers = { 'x-long': 'x'.repeat(20_000) };
      expect(await ask(url, { body: SPAN, headers })).toBe(status);
      const slow = secureConnect({ port: receiver.port, host: '127.0.0.1', ca: own('ca').cert });
      slow.write('POST /v1/traces HTTP/1.1\r\nhost: a\r\n');
      const [answer] = await once(slow, 'data');
      expect(String(answer)).toMatch(/^HTTP\/1\.1 503/);
      slow.destroy();
      await receiver.stop();
    }
  });
});

describe('a pipeline with mutual TLS on the receiver and the admin address', () => {
  it('serves only clients with a certificate of its CA', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
    const tls = { cert_file: at('server.crt'), key_file: at('server.key'), client_ca_file: at('ca.crt') };
    await using running = await startOne(dir.path, mock, {
      receiver: { tls, tokens: ['ingest-word'] },
      admin: { tls, token: 'admin-word' },
    });
    const { otlp, admin } = running.receivers[0]!;
    expect([otlp, admin].every((url) => url.startsWith('https://'))).toBe(true);
    const send = { body: SPAN, headers: { authorization: 'Bearer ingest-word' } };
    expect(await ask(`${otlp}/v1/traces`, { ...send, client: 'client' })).toBe(200);
    expect(await ask(`${otlp}/v1/traces`, { client: 'client', body: SPAN })).toBe(401);
    expect(await ask(`${otlp}/v1/traces`, send)).toEqual(expect.any(String));
    expect(await ask(`${otlp}/v1/traces`, { ...send, client: 'stranger' })).toEqual(expect.any(String));
    expect(await ask(`${otlp}/v1/traces`, { ...send, client: 'client', ca: 'other-ca' })).toMatch(
      /CERT|VERIFY|ISSUER|SIGNATURE/,
    );
    expect(await ask(`${admin}/healthz`, { client: 'client' })).toBe(200);
    expect(await ask(`${admin}/metrics`, { client: 'client' })).toBe(401);
    const headers = { authorization: 'Bearer admin-word' };
    expect(await ask(`${admin}/metrics`, { client: 'client', headers })).toBe(200);
    expect(await ask(`${admin}/healthz`, {})).toEqual(expect.any(String));
    await waitUntil(() => mock.stats().items === 1, { what: 'the span arrived' });
    const log = running.processes.up!.output(2_000);
    for (const secret of ['ingest-word', 'admin-word']) expect(log).not.toContain(secret);
  });
});

describe('only one of certificate and key', () => {
  it.each([[[]], [['--config']]])(
    'is refused instead of falling back to plain HTTP (validate %j FILE)',
    async (named) => {
      writeFileSync(at('half.yaml'), JSON.stringify({ receiver: { tls: { cert_file: at('server.crt') } } }));
      const process = startNrdot(['validate', ...named, at('half.yaml')]);
      await process.line(/receiver\.tls.*both of cert_file and key_file/);
      await waitUntil(() => !process.running, { what: 'it ended' });
      expect(process.child.exitCode).toBe(2);
    },
  );
});

describe('an exporter', () => {
  it('trusts the configured CA, and presents its certificate to an upstream that requires one', async () => {
    const server = createServer(
      { ...own('server'), ca: readFileSync(at('ca.crt')), requestCert: true, rejectUnauthorized: true },
      (asked, answer) => {
        asked
          .resume()
          .on('end', () => answer.writeHead(200, { 'content-type': 'application/x-protobuf' }).end());
      },
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const outcome = async (tls: { caFile?: string; certFile?: string; keyFile?: string }) => {
      const upstream = new Upstream({
        endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
        endpoints: {},
        headers: { 'api-key': 'upstream-word' },
        timeoutMs: 5_000,
        maxResponseBytes: 1_000,
        connections: 1,
        userAgent: 'test',
        tls: { ...tls, insecureSkipVerify: false },
      });
      const result = await upstream.send('traces', EMPTY, 'identity');
      await upstream.close();
      expect(JSON.stringify(result)).not.toContain('upstream-word');
      return result.kind;
    };
    const files = (name: string) => ({ certFile: at(`${name}.crt`), keyFile: at(`${name}.key`) });
    expect(await outcome({ caFile: at('ca.crt'), ...files('client') })).toBe('delivered');
    expect(await outcome({ caFile: at('ca.crt'), ...files('stranger') })).toBe('retry');
    expect(await outcome({ caFile: at('ca.crt') })).toBe('retry');
    expect(await outcome(files('client'))).toBe('retry');
    server.close();
  });
});

describe('Redis', () => {
  it('is used over mutual TLS as an ACL user limited to our keys', async () => {
    const port = await freePort();
    writeFileSync(at('users.acl'), ACL);
    await using server = new Process('redis-server', 'redis-server', [
      ...['--port', '0', '--tls-port', String(port), '--bind', '127.0.0.1', '--dir', dir.path, '--save', ''],
      ...['--tls-cert-file', at('server.crt'), '--tls-key-file', at('server.key')],
      ...['--tls-ca-cert-file', at('ca.crt'), '--tls-auth-clients', 'yes'],
      ...['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction'],
      ...['--aclfile', at('users.acl')],
    ]);
    await server.line(/Ready to accept connections/);
    const ping = async (target: RedisTarget): Promise<string> => {
      const redis = connect(target, { kind: 'producer', name: 'test', commandTimeoutMs: 5_000 });
      try {
        return await new Promise<string>((resolve) => {
          redis.once('ready', () => redis.get('elsewhere').then(String, (error) => resolve(error.message)));
          redis.once('error', (error: Error) => resolve(error.message));
        });
      } finally {
        redis.disconnect();
      }
    };
    const base = { url: `rediss://127.0.0.1:${port}`, username: 'nrdot', password: 'word' };
    const tls = { caFile: at('ca.crt'), certFile: at('client.crt'), keyFile: at('client.key') };
    expect(await ping({ ...base, tls })).toMatch(/NOPERM/);
    expect(await ping({ ...base, tls: { ...tls, caFile: at('other-ca.crt') } })).toMatch(
      /certificate|signature/i,
    );
    expect(await ping({ ...base, tls: { caFile: at('ca.crt') } })).not.toMatch(/NOPERM/);
    expect(await ping({ ...base, tls, password: 'wrong' })).toMatch(/WRONGPASS/);

    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
    await using running = await startOne(dir.path, mock, {
      redis: {
        url: base.url,
        username: 'nrdot',
        password: 'word',
        tls: { enabled: true, ca_file: tls.caFile, cert_file: tls.certFile, key_file: tls.keyFile },
      },
    });
    const answer = await fetch(`${running.otlp}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: SPAN,
    });
    expect(answer.status).toBe(200);
    await waitUntil(() => mock.stats().items === 1, { what: 'the span arrived' });
    expect(running.processes.up!.output(2_000)).not.toMatch(/NOPERM|word/);
  });
});
