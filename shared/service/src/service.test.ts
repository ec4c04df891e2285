import { once } from 'node:events';
import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { isLoopback } from '@nrdot/config';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { describe, expect, it, vi } from 'vitest';
import {
  AdminError,
  AdminServer,
  addConfigRoutes,
  formatAddress,
  LiveConfig,
  sameSecret,
  stopTogether,
} from './index.ts';

const log = createLogger({ level: 'silent', format: 'json' });
const listen = { host: '127.0.0.1', port: 0 };

describe('the admin address', () => {
  it('distinguishes alive from ready, with the reason', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    let why: string | undefined = 'Redis: connection refused';
    admin.watch({
      name: 'receiver',
      notReady: () => why,
      warning: () => 'the upstream is away',
      stop: async () => {},
    });
    const url = `http://${formatAddress(await admin.start())}`;
    const ready = async () => {
      const response = await fetch(`${url}/readyz`);
      return [response.status, await response.json()];
    };
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect(await ready()).toEqual([
      503,
      { status: 'not ready', services: { receiver: why }, notices: { receiver: 'the upstream is away' } },
    ]);
    why = undefined;
    expect((await ready())[0]).toBe(200); // what is wrong outside is said, and no reason to send clients elsewhere
    admin.drain();
    expect((await ready())[1]).toMatchObject({ status: 'stopping' });
    await admin.stop();
  });

  it('refuses a request with two Host headers, because a proxy may have used the other', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    const { port } = await admin.start();
    const status = async (headers: string[]) => {
      const [response] = (await once(
        request({ host: '127.0.0.1', port, path: '/healthz', headers }).end(),
        'response',
      )) as [IncomingMessage];
      response.resume();
      return response.statusCode;
    };
    expect(await status(['Host', 'localhost'])).toBe(200);
    expect(await status(['Host', 'localhost', 'Host', 'evil.example'])).toBe(400);
    expect(await status(['Host', 'evil.example', 'host', 'localhost'])).toBe(400);
    await admin.stop();
  });

  it('answers health checks without Host or with any, and tells such a request no reasons', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    const notReady = () => 'Redis redis-7.internal:6379: refused';
    admin.watch({ name: 'receiver', notReady, stop: async () => {} });
    const { port } = await admin.start();
    const answer = async (path: string, ...lines: string[]) => {
      const socket = connect(port, '127.0.0.1');
      socket.end([`GET ${path}`, ...lines, '', ''].join('\r\n'));
      const [head = '', body] = (await text(socket)).split('\r\n\r\n');
      return [Number(head.split(' ')[1]), body];
    };
    const short = '{"status":"not ready"}';
    // HAProxy's `option httpchk GET /readyz` sends this.
    expect(await answer('/readyz HTTP/1.0')).toEqual([503, short]);
    expect(await answer('/healthz HTTP/1.0')).toEqual([200, '{"status":"alive"}']);
    const elsewhere = ['Host: evil.example', 'Connection: close'];
    expect(await answer('/readyz HTTP/1.1', ...elsewhere)).toEqual([503, short]);
    const [, own] = await answer('/readyz HTTP/1.1', `Host: 127.0.0.1:${port}`, 'Connection: close');
    expect(own).toContain('redis-7');
    expect((await answer('/metrics HTTP/1.0'))[0]).toBe(403);
    expect((await answer('/metrics HTTP/1.1', ...elsewhere))[0]).toBe(403);
    await admin.stop();
  });

  it('does nothing for a page of another site, by whatever method; links lead to its own page', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    const done: string[] = [];
    const board = async () => ({ status: 200, contentType: 'text/html', body: `${done.push('board')}` });
    admin.route('GET', '/api/thing', () => ({ thing: done.push('thing') }));
    admin.foreignPage('/pages/', board);
    admin.file('/', 'text/html', async () => Buffer.from('page'));
    const { port } = await admin.start();
    const status = async (method: string, path: string, headers: OutgoingHttpHeaders) => {
      const [response] = (await once(
        request({ host: '127.0.0.1', port, method, path, headers }).end(),
        'response',
      )) as [IncomingMessage];
      response.resume();
      return response.statusCode;
    };
    const image = { 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' };
    const link = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
    for (const method of ['GET', 'HEAD']) {
      for (const path of ['/api/thing', '/pages/', '/metrics', '/api/thing?x=/', '//api/thing'])
        for (const foreign of [
          { 'sec-fetch-site': 'cross-site', ...image },
          { 'sec-fetch-site': 'same-site', ...link },
          { origin: 'https://evil.example' },
          { origin: 'null' },
        ])
          expect(await status(method, path, foreign), `${method} ${path}`).toBe(403);
      expect(done).toEqual([]);
      expect(await status(method, '/', { 'sec-fetch-site': 'cross-site', ...link })).toBe(200);
      expect(await status(method, '/healthz', { 'sec-fetch-site': 'cross-site', ...image })).toBe(200);
    }
    for (const own of [
      {},
      { 'sec-fetch-site': 'none', ...link },
      { 'sec-fetch-site': 'same-origin' },
      { 'sec-fetch-site': 'same-origin', origin: `http://127.0.0.1:${port}` },
    ])
      for (const path of ['/api/thing', '/pages/', '/metrics'])
        expect(await status('GET', path, own)).toBe(200);
    await admin.stop();
  });

  it('requires its token for everything except health checks, and does not listen beyond loopback without one', async () => {
    const admin = new AdminServer({ listen, token: 'secret' }, new MetricsRegistry([]), log);
    admin.route('GET', '/api/thing', () => ({ thing: 1 }));
    const url = `http://${formatAddress(await admin.start())}`;
    const status = async (path: string, authorization = '') =>
      (await fetch(url + path, { headers: { authorization } })).status;
    expect(await status('/healthz')).toBe(200);
    expect([
      await status('/metrics'),
      await status('/api/thing'),
      await status('/api/thing', 'Bearer wrong'),
    ]).toEqual([401, 401, 401]);
    expect([await status('/metrics', 'Bearer secret'), await status('/api/thing', 'bearer secret')]).toEqual([
      200, 200,
    ]);
    await admin.stop();
    expect(
      () => new AdminServer({ listen: { host: '0.0.0.0', port: 1 } }, new MetricsRegistry([]), log),
    ).toThrow(/admin\.token/);
  });

  it('reads nothing of a body without the token, nor where there is nothing', async () => {
    const admin = new AdminServer({ listen, token: 'secret' }, new MetricsRegistry([]), log);
    admin.route('POST', '/api/thing', () => ({ thing: 1 }));
    admin.foreignPage('/pages/', async () => ({ status: 200, contentType: 'text/html', body: '' }));
    const { port } = await admin.start();
    const status = async (path: string) => {
      const headers = { 'content-type': 'application/json', 'content-length': 1_000_000 };
      const sent = request({ host: '127.0.0.1', port, method: 'POST', path, headers });
      sent.write('{');
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      sent.destroy();
      return response.statusCode;
    };
    expect(await status('/api/thing')).toBe(401);
    expect(await status('/pages/session')).toBe(401);
    expect(await status('/api/nothing')).toBe(404);
    await admin.stop();
  });

  it('does not wait for ever for the rest of a request', async () => {
    const admin = new AdminServer({ listen, requestTimeoutMs: 200 }, new MetricsRegistry([]), log);
    admin.route('POST', '/api/thing', () => ({ thing: 1 }));
    const { port } = await admin.start();
    const sent = request({
      ...{ host: '127.0.0.1', port, method: 'POST', path: '/api/thing' },
      headers: { 'content-type': 'application/json', 'content-length': 1_000_000 },
    });
    sent.write('{');
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    expect(response.statusCode).toBe(408);
    await admin.stop();
  });

  it('has a limit of connections, beyond which they are closed', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    const { port } = await admin.start();
    let closed = 0;
    const sockets = Array.from({ length: 1_010 }, () =>
      connect(port, '127.0.0.1')
        .on('error', () => {})
        .on('close', () => closed++),
    );
    await vi.waitUntil(() => closed === 10, 20_000);
    for (const socket of sockets) socket.destroy();
    await admin.stop();
  });

  it('reveals only its readiness without the token', async () => {
    const admin = new AdminServer({ listen, token: 'secret' }, new MetricsRegistry([]), log);
    admin.watch({
      name: 'receiver',
      notReady: () => 'Redis redis-7.internal:6379: refused',
      warning: () => 'the upstream is away',
      stop: async () => {},
    });
    const url = `http://${formatAddress(await admin.start())}/readyz`;
    const ready = async (authorization: string) => {
      const response = await fetch(url, { headers: { authorization } });
      return [response.status, await response.json()];
    };
    for (const authorization of ['', 'Bearer wrong'])
      expect(await ready(authorization)).toEqual([503, { status: 'not ready' }]);
    expect((await ready('Bearer secret'))[1]).toMatchObject({
      services: { receiver: expect.stringContaining('redis-7') },
    });
    await admin.stop();
  });

  it('rejects changes that are too many, too deep or invalid as client errors', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    addConfigRoutes(admin, new LiveConfig({ env: {} }), () => {});
    const url = `http://${formatAddress(await admin.start())}/api/config/preview`;
    const status = async (type: string, body: string) =>
      (await fetch(url, { method: 'POST', headers: { 'content-type': `application/${type}` }, body })).status;
    const many = Array.from({ length: 5_000 }, (_, i) => `k${i}: 1`).join('\n');
    expect(await status('yaml', many)).toBe(413);
    for (const text of [
      '['.repeat(30_000),
      `{"a":${'['.repeat(10_000)}${']'.repeat(10_000)}}`,
      '[]',
      '5',
      '"x"',
    ])
      for (const type of ['json', 'yaml'])
        expect(await status(type, text), `${type} ${text.slice(0, 9)}`).toBe(400);
    await admin.stop();
  });

  it('goes on while it reads changes of 32 KB that are nothing but errors, and names some of them', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    addConfigRoutes(admin, new LiveConfig({ env: {} }), () => {});
    const url = `http://${formatAddress(await admin.start())}/api/config/preview`;
    let turns = 0;
    let isOver = false;
    const count = () => {
      turns++;
      if (!isOver) setImmediate(count);
    };
    count();
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/yaml' },
      body: '}'.repeat(32_000),
    });
    isOver = true;
    expect(answer.status).toBe(400);
    const { error } = (await answer.json()) as { error: { code: string; problems: object[] } };
    expect(error.code).toBe('invalid_config');
    expect(error.problems).toHaveLength(20);
    expect(error.problems[0]).toMatchObject({ source: 'changes:1', expected: 'valid YAML' });
    // Reading it on this thread takes one turn.
    expect(turns).toBeGreaterThan(500);
    await admin.stop();
  });

  it('returns errors as JSON with a message', async () => {
    const admin = new AdminServer({ listen }, new MetricsRegistry([]), log);
    admin.route('POST', '/api/fail', ({ body }) => {
      throw body ? new AdminError(400, 'bad_request', 'expected nothing') : new Error('a fault');
    });
    admin.route('GET', '/api/lines', async () =>
      (async function* lines() {
        yield 'a\n';
        yield 'b\n';
      })(),
    );
    const url = `http://${formatAddress(await admin.start())}`;
    const post = (body?: string) =>
      fetch(`${url}/api/fail`, {
        method: 'POST',
        ...(body ? { body, headers: { 'content-type': 'application/json' } } : {}),
      });
    expect(await (await post('{"a":1}')).json()).toEqual({
      error: { code: 'bad_request', message: 'expected nothing' },
    });
    expect(await (await post('{')).json()).toMatchObject({ error: { code: 'bad_request' } });
    expect((await post()).status).toBe(500);
    expect((await fetch(`${url}/nothing`)).status).toBe(404);
    expect(await (await fetch(`${url}/api/lines`)).text()).toBe('a\nb\n');
    await admin.stop();
  });
});

describe('stopping', () => {
  const service = (name: string, stop: (ms: number) => Promise<void>, letsIn?: true) => ({
    ...{ name, stop, notReady: () => undefined },
    ...(letsIn ? { letsIn } : {}),
  });

  it('continues after a failure, and reports which service did not stop cleanly', async () => {
    const stopped: string[] = [];
    const note = (name: string) => async () => void stopped.push(name);
    const failing = async () => {
      stopped.push('scheduler');
      throw new Error('no');
    };
    const unclean = await stopTogether(
      [
        service('dlq', note('dlq')),
        service('receiver', note('receiver'), true),
        service('scheduler', failing),
      ],
      10,
      log,
    );
    expect(stopped).toEqual(['receiver', 'dlq', 'scheduler']); // what lets data in goes first
    expect(unclean).toEqual([{ service: 'scheduler', message: 'no' }]);
  });

  it('has one time limit for all services, however many hang', async () => {
    vi.useFakeTimers();
    try {
      const given: number[] = [];
      const hangs = (ms: number) => {
        given.push(ms);
        return new Promise<void>(() => {});
      };
      const names = ['exporter', 'scheduler', 'dlq'];
      const ended = stopTogether(
        [service('receiver', hangs, true), ...names.map((name) => service(name, hangs))],
        20_000,
        log,
      );
      await vi.advanceTimersByTimeAsync(25_000); // 10 and 2.5 of grace, what is left, and 2.5
      expect((await ended).map(({ service: name }) => name)).toEqual(['receiver', ...names]);
      expect(given[0]).toBe(10_000);
      for (const ms of given.slice(1)) expect(ms).toBeLessThanOrEqual(10_000);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('small things', () => {
  it('recognize a loopback address, and compare whole secrets', () => {
    expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost'].every(isLoopback)).toBe(true);
    expect(['0.0.0.0', '10.0.0.1', '::', '127.0.0.1.evil'].some(isLoopback)).toBe(false);
    expect([sameSecret('a', 'a'), sameSecret('a', 'b'), sameSecret('', 'a')]).toEqual([true, false, false]);
    expect(formatAddress({ host: '::1', port: 1 })).toBe('[::1]:1');
  });
});
