import { describe, expect, it } from 'vitest';
import { refusal } from './browser-guard.ts';
import { PageSession } from './page-session.ts';

const asked = (request: Partial<Parameters<typeof refusal>[0]>, hasToken = false, hosts: string[] = []) =>
  refusal({ host: '127.0.0.1:8888', origin: undefined, site: undefined, ...request }, hasToken, hosts);

describe('a request to the admin address', () => {
  it('may come from a command, and from our own page', () => {
    expect(asked({})).toBeUndefined();
    expect(asked({ origin: 'http://127.0.0.1:8888', site: 'same-origin' })).toBeUndefined();
    expect(asked({ host: 'localhost:8888', origin: 'http://localhost:8888' })).toBeUndefined();
    expect(asked({ host: 'LOCALHOST', origin: 'http://localhost' })).toBeUndefined();
    expect(asked({ host: '[::1]:8888', origin: 'http://[::1]:8888' })).toBeUndefined();
    expect(
      asked({ host: 'localhost:8888', origin: 'https://localhost:8888', isSecure: true }),
    ).toBeUndefined();
    expect(
      asked({ host: 'ops.example', origin: 'https://ops.example' }, true, ['ops.example']),
    ).toBeUndefined();
  });

  it.each([
    ['another site', { origin: 'https://evil.example' }],
    ['another port of this machine', { origin: 'http://127.0.0.1:3000' }],
    ['what only looks like this origin', { origin: 'http://user@127.0.0.1:8888' }],
    ['a path', { origin: 'http://127.0.0.1:8888/' }],
    ['another scheme', { origin: 'ftp://127.0.0.1:8888' }],
    ['a page in the clear, where ours is not', { origin: 'http://127.0.0.1:8888', isSecure: true }],
    ['a sandboxed frame or a file', { origin: 'null' }],
    ['another site, where a browser hides its origin', { site: 'cross-site' }],
    ['a site of the same owner', { site: 'same-site' }],
  ])('is refused if it comes from %s, with or without a token, unless it is for a file', (_from, request) => {
    expect(asked(request)).toMatch(/may not use this address/);
    expect(asked(request, true)).toMatch(/may not use this address/);
    expect(asked({ ...request, isFile: true })).toBeUndefined();
  });

  it('may not even read under a foreign host name that resolves to this machine, with or without a token', () => {
    for (const host of [
      'evil.example:8888',
      '127.0.0.1.evil.example',
      'localhost.evil.example',
      '',
      'svc.evil',
    ])
      for (const hasToken of [false, true])
        expect(asked({ host, isFile: true }, hasToken)).toMatch(/is not a name of this address/);
  });

  it('may use the name of a container or cluster service if a token is required, and configured names', () => {
    for (const host of [
      'scheduler:8888',
      'nrdot-dlq.monitoring.svc:8888',
      'a.b.svc.cluster.local',
      'x.internal',
    ]) {
      expect(asked({ host }, true)).toBeUndefined();
      expect(asked({ host })).toMatch(/is not a name of this address/);
    }
    expect(asked({ host: 'OPS.example:443' }, false, ['ops.example'])).toBeUndefined();
  });
});

describe('the session for reading a page', () => {
  it('is valid for an hour and one path, and not readable by scripts', () => {
    const session = new PageSession('/queues/', true);
    const header = session.begin(1_000);
    expect(header).toMatch(/; HttpOnly; SameSite=Strict; Path=\/queues\/; Max-Age=3600; Secure$/);
    const cookie = `other=1; ${header.split(';')[0]}`;
    expect(session.holds(cookie, 1_000)).toBe(true);
    expect(session.holds(cookie, 1_000 + 3_600_000)).toBe(false);
    expect(session.holds('nrdot_page=guess', 1_000)).toBe(false);
    expect(session.holds(undefined, 1_000)).toBe(false);
  });

  it('is kept for a bounded number of visitors, dropping the oldest', () => {
    const session = new PageSession('/queues/', false);
    const cookies = Array.from({ length: 40 }, (_, i) => session.begin(i).split(';')[0]);
    const held = cookies.filter((cookie) => session.holds(cookie, 100));
    expect(held.length).toBeLessThanOrEqual(32);
    expect(held).toContain(cookies.at(-1));
    expect(held).not.toContain(cookies[0]);
  });
});
