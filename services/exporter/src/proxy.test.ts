import { expect, it } from 'vitest';
import { proxyFor, proxyName } from './proxy.ts';

const ENV = { HTTPS_PROXY: 'http://secure:3128', HTTP_PROXY: 'plain:8080' };
const via = (url: string, configured: string | undefined, env: Record<string, string>) =>
  proxyFor(new URL(url), configured, env);

it('comes from the configuration, or from the environment by the scheme of the URL', () => {
  expect(via('https://otlp.example', undefined, ENV)).toBe('http://secure:3128');
  expect(via('http://otlp.example', undefined, ENV)).toBe('http://plain:8080');
  expect(via('http://otlp.example', undefined, { HTTPS_PROXY: 'http://secure:3128' })).toBeUndefined();
  expect(via('http://otlp.example', undefined, { ...ENV, http_proxy: 'http://lower:1' })).toBe(
    'http://lower:1',
  );
  expect(via('https://otlp.example', 'http://own:1', { ...ENV, NO_PROXY: '*' })).toBe('http://own:1');
  expect(via('https://otlp.example', 'none', ENV)).toBeUndefined();
  expect(via('https://otlp.example', undefined, {})).toBeUndefined();
});

it('rejects an invalid URL by the name of its variable, without showing it: it may contain a password', () => {
  expect(() => via('https://otlp.example', undefined, { HTTPS_PROXY: 'ftp://word@host' })).toThrow(
    /^the environment variable https_proxy is not a proxy URL; expected http:\/\/host:port or https:\/\/host:port$/,
  );
});

it('matches NO_PROXY by host, subdomain, port, address and range', () => {
  const excepted = (url: string, NO_PROXY: string) => via(url, undefined, { ...ENV, NO_PROXY }) === undefined;
  for (const [url, list] of [
    ['https://otlp.example', 'other, otlp.example'],
    ['https://eu.otlp.example', 'otlp.example'],
    ['https://eu.otlp.example', '.otlp.example'],
    ['https://eu.otlp.example.', '*.OTLP.example'],
    ['https://otlp.example:4318', 'otlp.example:4318'],
    ['https://otlp.example', 'otlp.example:443'],
    ['https://10.1.2.3', '10.0.0.0/8'],
    ['https://[::1]:4318', '::1'],
    ['https://[::1]:4318', '[::1]:4318'],
    ['https://[fd00::1]', 'fd00::/8'],
    ['https://anything', '*'],
  ] as const)
    expect(excepted(url, list), `${url} ${list}`).toBe(true);
  for (const [url, list] of [
    ['https://otlp.example', '.otlp.example'],
    ['https://notlp.example', 'otlp.example'],
    ['https://otlp.example', 'otlp.example:4318'],
    ['https://11.1.2.3', '10.0.0.0/8'],
    ['https://otlp.example', '10.0.0.0/8, 10.0.0.0/99, /, nonsense/x'],
    ['https://otlp.example', ''],
  ] as const)
    expect(excepted(url, list), `${url} ${list}`).toBe(false);
});

it('is shown without its password', () => {
  expect(proxyName('http://user:word@proxy.example:3128')).toBe('proxy.example:3128');
});
