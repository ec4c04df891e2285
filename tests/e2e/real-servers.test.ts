/** What people have between NRDOT+ and their backend, from Debian: an ingress, a proxy, a server that reads one gzip member. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  complaint,
  generate,
  judge,
  type MockUpstream,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { accounting, type Running, startOne, untilQuiet } from '../kit.ts';
import {
  findProgram,
  makeCertificate,
  startFirstMember,
  startNginx,
  startSquid,
  startTinyproxy,
} from '../servers/servers.ts';

const without = (name: string) => findProgram(name) === undefined;
/** What a suite is called, with the reason when it is left out. */
const named = (what: string, ...programs: string[]) => {
  const absent = programs.filter(without).join(' ');
  return absent ? `${what} (left out: there is no ${absent}; on Debian: apt-get install -y ${absent})` : what;
};

/** Runs a test with a mock upstream and a directory of its own. */
async function withMock(run: (mock: MockUpstream, dir: string) => Promise<void>): Promise<void> {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
  await run(mock, dir.path);
}

/** Sends a load through a pipeline whose upstream is `url`, and waits until all of it has arrived in the mock. */
async function delivers(
  mock: MockUpstream,
  dir: string,
  url: string,
  load: Partial<Parameters<typeof generate>[0]> = {},
  config: Record<string, unknown> = {},
  env: Record<string, string> = {},
): Promise<string> {
  await using running = await startOne(dir, { url }, config, env);
  const report = await generate({ endpoint: running.otlp, rate: 0, batchSize: 20, items: 1_200, ...load });
  const books = await untilQuiet(running.admin);
  expect(complaint(judge(report, mock.received(report.run)))).toBe('');
  expect(books).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
  return running.processes.up!.output(2_000);
}

/** All that was accepted is kept outside the rejected area, and delivery is paused. */
async function untilHeld({ admin }: Running, items: number): Promise<void> {
  await waitUntil(
    async () => {
      const books = await accounting(admin);
      return books.on_disk === items && books.delivered + books.rejected + books.dropped === 0;
    },
    { what: 'all items are held' },
  );
}

/** What `nrdot status` says of the upstream. */
async function upstreamFinding({ admin }: Running): Promise<string> {
  const { findings } = (await (await fetch(`${admin}/api/status`)).json()) as {
    findings: { code: string; text: string }[];
  };
  return findings.find(({ code }) => code.startsWith('breaker_'))?.text ?? '';
}

describe.skipIf(without('python3'))(
  named('a server in Python that reads the first gzip member', 'python3'),
  () => {
    it('loses nothing of a backlog', () =>
      withMock(async (mock, dir) => {
        mock.set({ latencyMs: 1_000 });
        await using server = await startFirstMember(mock.url);
        setTimeout(() => mock.set({ latencyMs: 0 }), 1_500);
        const one = { exporter: { concurrency: 1 } };
        await delivers(mock, dir, server.url, { encoding: 'gzip', connections: 8 }, one);
        expect(mock.stats().requests).toBeLessThan(60);
      }));
  },
);

describe.skipIf(without('nginx'))(named('behind nginx', 'nginx'), () => {
  it('with client_max_body_size: requests refused with 413 arrive in parts', () =>
    withMock(async (mock, dir) => {
      await using nginx = await startNginx(dir, mock.url, 'client_max_body_size 100k;');
      await delivers(mock, dir, nginx.url, { batchSize: 3_000, items: 6_000 });
      expect(nginx.log()).toContain('HTTP/1.1 413');
    }));

  it('that closes a connection after ten requests', () =>
    withMock(async (mock, dir) => {
      await using nginx = await startNginx(dir, mock.url, 'keepalive_requests 10;');
      await delivers(mock, dir, nginx.url, { items: 4_000 });
      expect(mock.stats().duplicates).toBe(0);
    }));

  it('whose upstream is down for a while (502) or too slow (504)', () =>
    withMock(async (mock, dir) => {
      await using nginx = await startNginx(dir, mock.url, 'proxy_read_timeout 1s;');
      mock.set({ outage: true });
      const comesBack = async () => {
        await waitUntil(() => nginx.log().includes('HTTP/1.1 502'), { what: 'nginx has answered 502' });
        mock.set({ outage: false, latencyMs: 1_500 });
        await waitUntil(() => nginx.log().includes('HTTP/1.1 504'), { what: 'nginx has answered 504' });
        mock.set({ latencyMs: 0 });
      };
      await Promise.all([comesBack(), delivers(mock, dir, nginx.url)]);
    }));

  it('that answers 404 while its backend restarts: everything is kept, and then arrives', () =>
    withMock(async (mock, dir) => {
      const without = "error_page 502 504 =404 @none; location @none { return 404 'default backend - 404'; }";
      await using nginx = await startNginx(dir, mock.url, without);
      await using running = await startOne(dir, nginx);
      mock.set({ outage: true });
      const report = await generate({ endpoint: running.otlp, rate: 0, batchSize: 20, items: 1_200 });
      await untilHeld(running, report.items);
      expect(nginx.log()).toContain('HTTP/1.1 404');
      expect(await upstreamFinding(running)).toMatch(
        /the address does not answer like an upstream — http:\/\/127\.0\.0\.1:\d+\/v1\/\w+ answered 404 Not Found/,
      );
      mock.set({ outage: false });
      expect(await untilQuiet(running.admin)).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
      expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    }));

  it('that has moved (301): everything is kept, the new address is named, and with it everything arrives', () =>
    withMock(async (mock, dir) => {
      const to = mock.url.replace('127.0.0.1', 'localhost');
      await using nginx = await startNginx(dir, mock.url, `return 301 ${to}$request_uri;`);
      const running = await startOne(dir, nginx);
      const report = await generate({ endpoint: running.otlp, rate: 0, batchSize: 20, items: 1_200 });
      await untilHeld(running, report.items);
      const found = await upstreamFinding(running);
      await running[Symbol.asyncDispose]();
      expect(nginx.log()).toContain('HTTP/1.1 301');
      expect(mock.stats().requests).toBe(0);
      const [, named = ''] = /it has moved to (http:\S+)\/v1\//.exec(found) ?? [];
      expect(named).toBe(to);
      await using mended = await startOne(dir, { url: named });
      expect(await untilQuiet(mended.admin)).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
      expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    }));

  it('that redirects to https on the same host (308) is followed, with the key', () =>
    withMock(async (mock, dir) => {
      const [plain, secure] = [join(dir, 'plain'), join(dir, 'secure')];
      for (const each of [plain, secure]) mkdirSync(each);
      const { cert, key } = makeCertificate(dir);
      mock.set({ requireHeaders: { 'api-key': 'secret' } });
      await using target = await startNginx(secure, mock.url, '', { cert, key });
      await using nginx = await startNginx(plain, mock.url, `return 308 ${target.url}$request_uri;`);
      const exporter = { tls: { ca_file: cert }, headers: { 'api-key': 'secret' } };
      await delivers(mock, dir, nginx.url, {}, { exporter });
      expect(nginx.log()).toContain('HTTP/1.1 308');
      expect(target.log()).toContain('HTTP/1.1 200');
    }));

  it('that offers HTTP/2 is used with HTTP/1.1', () =>
    withMock(async (mock, dir) => {
      const { cert, key } = makeCertificate(dir);
      await using nginx = await startNginx(dir, mock.url, '', { cert, key });
      await delivers(mock, dir, nginx.url, {}, { exporter: { tls: { ca_file: cert } } });
      expect(nginx.log()).toContain('HTTP/1.1 200');
      expect(nginx.log()).not.toContain('HTTP/2.0');
    }));
});

describe.skipIf(without('tinyproxy'))(named('by tinyproxy', 'tinyproxy'), () => {
  it('from the environment; NO_PROXY makes exceptions', () =>
    withMock(async (mock, dir) => {
      await using proxy = await startTinyproxy(dir);
      const log = await delivers(mock, dir, mock.url, {}, {}, { HTTP_PROXY: proxy.url });
      expect(log).toContain(proxy.url.replace('http://', ''));
      expect(proxy.log()).toMatch(/POST http:\/\/127\.0\.0\.1:\d+\/v1\/traces/);

      const before = proxy.log().length;
      await delivers(mock, dir, mock.url, {}, {}, { HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.0/8' });
      expect(proxy.log()).toHaveLength(before);
    }));

  it('from the configuration, with a password, by a tunnel to an upstream with TLS', () =>
    withMock(async (mock, dir) => {
      const user = { name: 'nrdot', password: 'hunter2' };
      await using proxy = await startTinyproxy(dir, user);
      const { cert, key } = makeCertificate(dir);
      await using nginx = await startNginx(dir, mock.url, '', { cert, key });
      const named = proxy.url.replace('//', '//nrdot:hunter2@');
      const log = await delivers(
        mock,
        dir,
        nginx.url,
        {},
        {
          exporter: { proxy: named, tls: { ca_file: cert } },
        },
      );
      expect(log).toContain(proxy.url.replace('http://', ''));
      expect(log).not.toContain('hunter2');
      expect(proxy.log()).toMatch(/CONNECT 127\.0\.0\.1:\d+/);
      expect(nginx.log()).not.toContain('HTTP/2.0');
    }));
});

describe.skipIf(without('squid') || without('nginx'))(named('by squid', 'squid', 'nginx'), () => {
  const user = { name: 'nrdot', password: 'hunter2' };

  /** The mock itself, or with TLS in front of it. */
  async function upstreamOf(mock: MockUpstream, dir: string, scheme: string) {
    if (scheme === 'http') return { url: mock.url, exporter: {}, [Symbol.asyncDispose]: async () => {} };
    const { cert, key } = makeCertificate(dir);
    const nginx = await startNginx(dir, mock.url, '', { cert, key });
    return { ...nginx, exporter: { tls: { ca_file: cert } } };
  }

  it('from the environment, without TLS', () =>
    withMock(async (mock, dir) => {
      await using squid = await startSquid(dir);
      await delivers(mock, dir, mock.url, {}, {}, { HTTP_PROXY: squid.url });
      expect(squid.log()).toMatch(/TCP_MISS\/200 \d+ POST http:\/\/127\.0\.0\.1:\d+\/v1\/traces/);
    }));

  it.each([
    ['http', /TCP_MISS\/200 \d+ POST \S+ nrdot /],
    ['https', /TCP_TUNNEL\/200 \d+ CONNECT 127\.0\.0\.1:\d+ nrdot /],
  ])('that requires a password and gets it (%s)', (scheme, logged) =>
    withMock(async (mock, dir) => {
      await using squid = await startSquid(dir, { user });
      await using upstream = await upstreamOf(mock, dir, scheme);
      const proxy = squid.url.replace('//', `//${user.name}:${user.password}@`);
      const log = await delivers(mock, dir, upstream.url, {}, { exporter: { ...upstream.exporter, proxy } });
      expect(log).toContain(squid.url.replace('http://', ''));
      expect(log).not.toContain(user.password);
      await waitUntil(() => logged.test(squid.log()), { what: 'squid has logged it' });
      expect(squid.log()).not.toContain('/407');
    }),
  );

  it.each([
    ['that requires a password and does not get it', 'http', { user }, '407 Proxy Authentication Required'],
    ['that requires a password and does not get it', 'https', { user }, '407 Proxy Authentication Required'],
    ['that refuses a tunnel to the upstream', 'https', { access: 'deny CONNECT' }, '403 Forbidden'],
  ])(
    '%s (%s): everything is kept, the proxy is named, and once it allows access everything arrives',
    (_, scheme, how, answer) =>
      withMock(async (mock, dir) => {
        await using upstream = await upstreamOf(mock, dir, scheme);
        await using closed = await startSquid(dir, how);
        const exporter = { ...upstream.exporter, proxy: closed.url };
        await using running = await startOne(dir, upstream, { exporter });
        const report = await generate({ endpoint: running.otlp, rate: 0, batchSize: 20, items: 1_200 });
        await untilHeld(running, report.items);
        const place = closed.url.replace('http://', '');
        expect(await upstreamFinding(running)).toContain(
          `the address does not answer like an upstream — the proxy ${place} answered ${answer}.`,
        );
        expect(mock.stats().requests).toBe(0);
        await closed[Symbol.asyncDispose]();
        await using _open = await startSquid(dir, { port: closed.port });
        expect(await untilQuiet(running.admin)).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
        expect(complaint(judge(report, mock.received(report.run)))).toBe('');
      }),
  );

  it.each(['http', 'https'])(
    'that is down for a while (%s): everything is kept, the proxy is named, and everything arrives',
    (scheme) =>
      withMock(async (mock, dir) => {
        await using upstream = await upstreamOf(mock, dir, scheme);
        await using gone = await startSquid(dir);
        const exporter = { ...upstream.exporter, proxy: gone.url };
        await using running = await startOne(dir, upstream, { exporter });
        const load = { endpoint: running.otlp, rate: 0, batchSize: 20, items: 600 };
        const before = await generate(load);
        await untilQuiet(running.admin);
        await gone[Symbol.asyncDispose]();
        const during = await generate(load);
        await waitUntil(async () => (await accounting(running.admin)).on_disk === during.items, {
          what: 'what was sent meanwhile is on disk',
        });
        const place = gone.url.replace('http://', '');
        expect(await upstreamFinding(running)).toContain(
          `the upstream fails — through the proxy ${place}: connection refused`,
        );
        await using _back = await startSquid(dir, { port: gone.port });
        expect(await untilQuiet(running.admin)).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
        for (const report of [before, during])
          expect(complaint(judge(report, mock.received(report.run)))).toBe('');
      }),
  );
});
