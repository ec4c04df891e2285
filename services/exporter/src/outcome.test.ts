import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  isOtlpAnswer,
  MEANINGS,
  type Meaning,
  NO_OTLP,
  nextHop,
  outcomeOf,
  parseRetryAfter,
  verdictOf,
} from './outcome.ts';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const answer = (status: number, more: Partial<Parameters<typeof outcomeOf>[0]> = {}) => ({
  status,
  otlp: true,
  contentType: 'application/x-protobuf',
  retryAfter: undefined,
  refusedItems: 0,
  message: '',
  url: 'https://otlp.example.com/v1/logs',
  ...more,
});
const meant = (status: number, more: Parameters<typeof answer>[1] = {}) => {
  const outcome = outcomeOf(answer(status, more), NOW);
  return outcome.kind === 'retry' || outcome.kind === 'hold'
    ? `${outcome.kind} ${outcome.reason}`
    : outcome.kind;
};

describe('the meaning of a response', () => {
  it('rejects data only if the response is about the data', () => {
    const refused = Array.from({ length: 500 }, (_, i) => i + 100).filter((status) =>
      ['rejected', 'too-large'].includes(meant(status)),
    );
    expect(refused).toEqual([400, 409, 413, 422]);
  });

  it('pauses after a response about the place, and retries after one about the server', () => {
    expect([200, 202, 204, 207].map((status) => meant(status))).toEqual(Array(4).fill('delivered'));
    for (const status of [
      301, 302, 303, 307, 308, 404, 405, 406, 407, 410, 415, 421, 426, 501, 505, 520, 529, 530,
    ])
      expect([status, meant(status)]).toEqual([status, 'hold place']);
    for (const status of [401, 402, 403, 511]) expect([status, meant(status)]).toEqual([status, 'hold auth']);
    for (const status of [408, 425, 502, 503, 504])
      expect([status, meant(status)]).toEqual([status, 'retry unavailable']);
    for (const status of [500, 507, 598])
      expect([status, meant(status)]).toEqual([status, 'retry server_error']);
    expect(meant(429)).toBe('retry throttled');
  });

  it('pauses after a success that is not an OTLP response', () => {
    expect(meant(200, { otlp: false, contentType: 'text/html' })).toBe('hold place');
    expect(outcomeOf(answer(200, { otlp: false, contentType: 'text/html' }), NOW)).toMatchObject({
      message:
        'https://otlp.example.com/v1/logs answered 200 OK with text/html, which is not an OTLP response',
    });
    const html = Buffer.from('\n<html>');
    expect(isOtlpAnswer('text/html; charset=utf-8', html)).toBe(false);
    expect(isOtlpAnswer('text/plain', Buffer.from('welcome'))).toBe(false);
    expect(isOtlpAnswer('', html)).toBe(false);
    expect(isOtlpAnswer('text/html', Buffer.alloc(0))).toBe(true);
    expect(isOtlpAnswer('text/html', Buffer.alloc(0), 5_000_000)).toBe(false);
    expect(isOtlpAnswer('', Buffer.from([8, 1]))).toBe(true);
    for (const type of ['application/x-protobuf', 'application/json; charset=utf-8'])
      expect(isOtlpAnswer(type, Buffer.from('{}'))).toBe(true);
  });

  it('retries the statuses in retry_on, whatever they mean otherwise', () => {
    expect(outcomeOf(answer(404), NOW, [404])).toMatchObject({ kind: 'retry', reason: 'unavailable' });
    expect(outcomeOf(answer(400), NOW, [404])).toMatchObject({ kind: 'rejected' });
  });

  it('reports quota, failure and place to the breaker, and a 500 only once per batch', () => {
    const heard = (status: number, attempts = 1) => verdictOf(outcomeOf(answer(status), NOW), attempts);
    expect([200, 400, 413].map((status) => heard(status))).toEqual(['ok', 'ok', 'ok']);
    expect([429, 503, 401, 404].map((status) => heard(status))).toEqual([
      'quota',
      'failure',
      'auth',
      'place',
    ]);
    expect([heard(500), heard(500, 2), heard(503, 2)]).toEqual(['fault', 'again', 'failure']);
  });

  it('always has a message: that of the upstream, or the name of the status', () => {
    expect(outcomeOf(answer(400, { message: 'bad span id' }), NOW)).toMatchObject({ message: 'bad span id' });
    expect(outcomeOf(answer(400), NOW)).toMatchObject({
      message: 'the upstream answered 400 Bad Request without further details',
    });
    expect(outcomeOf(answer(404, { message: 'nothing here' }), NOW)).toMatchObject({
      message: 'https://otlp.example.com/v1/logs answered 404 Not Found: nothing here',
    });
    expect(outcomeOf(answer(301, { location: 'https://new.example.com/v1/logs' }), NOW)).toMatchObject({
      message:
        'https://otlp.example.com/v1/logs answered 301 Moved Permanently: it has moved to https://new.example.com/v1/logs',
    });
  });

  it('says what the breaker counts at the first attempt', () => {
    for (let status = 200; status < 600; status++) {
      const { hears } = MEANINGS.find(({ statuses }) => statuses?.(status))!;
      expect(verdictOf(outcomeOf(answer(status), NOW), 1), `${status}`).toBe(hears);
    }
  });

  it('docs/upstream.md contains the table', () => {
    const page = readFileSync(new URL('../../../docs/upstream.md', import.meta.url), 'utf8');
    const rows = page
      .split('\n')
      .filter((line) => line.startsWith('|'))
      .map((line) =>
        line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim())
          .join(' | '),
      );
    const row = ({ answers, becomes, hears, reads }: Meaning) =>
      [answers, becomes, `\`${hears}\``, reads].join(' | ');
    for (const meaning of [...MEANINGS, NO_OTLP]) expect(rows).toContain(row(meaning));
  });
});

describe('Retry-After', () => {
  it('is parsed as seconds and as a date', () => {
    expect(parseRetryAfter('7', NOW)).toBe(7_000);
    expect(parseRetryAfter('Thu, 01 Jan 2026 00:00:05 GMT', NOW)).toBe(5_000);
    expect(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', NOW)).toBe(0);
    for (const nonsense of [undefined, '', 'soon', '-5', '1e9'])
      expect(parseRetryAfter(nonsense, NOW)).toBeUndefined();
    for (const [status, kind] of [
      [503, 'retry'],
      [404, 'hold'],
    ] as const)
      expect(outcomeOf(answer(status, { retryAfter: '2' }), NOW)).toMatchObject({
        kind,
        retryAfterMs: 2_000,
      });
  });
});

describe('a redirect', () => {
  const from = (url: string, withSecrets = true) => ({ url: new URL(url), withSecrets });
  const leads = (
    status: number,
    location: string | undefined,
    at = from('http://a.example/v1/logs'),
    hops = 0,
  ) => {
    const hop = nextHop(status, location, at, hops);
    return hop && `${hop.url.href} ${hop.withSecrets ? 'with' : 'without'} secrets`;
  };

  it('is followed if method and body are kept, a limited number of times', () => {
    expect(leads(308, 'http://a.example:8080/v1/logs')).toBe('http://a.example:8080/v1/logs with secrets');
    expect(leads(307, '/v2/logs')).toBe('http://a.example/v2/logs with secrets');
    for (const status of [200, 301, 302, 303, 404]) expect(leads(status, '/v2/logs')).toBeUndefined();
    for (const nowhere of [undefined, 'http://', 'ftp://a.example/', 'javascript:0'])
      expect(leads(308, nowhere)).toBeUndefined();
    expect(leads(308, '/again', undefined, 5)).toBeUndefined();
  });

  it('sends no secrets to another host, out of TLS, or back', () => {
    expect(leads(308, 'https://a.example/v1/logs')).toBe('https://a.example/v1/logs with secrets');
    expect(leads(308, 'https://b.example/v1/logs')).toBe('https://b.example/v1/logs without secrets');
    expect(leads(308, 'http://a.example/', from('https://a.example/'))).toBe(
      'http://a.example/ without secrets',
    );
    expect(leads(308, 'https://a.example/', from('https://b.example/', false))).toBe(
      'https://a.example/ without secrets',
    );
    expect(leads(308, 'http://a.example.evil/', from('http://a.example/'))).toBe(
      'http://a.example.evil/ without secrets',
    );
  });
});
