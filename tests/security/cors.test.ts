import { loadConfig } from '@nrdot/config';
import { afterEach, expect, it } from 'vitest';
import { type Kept, post, startReceiver } from './receiver.ts';

let receiver: Kept;
afterEach(() => receiver.stop());
const cors = (...allowedOrigins: string[]) => ({
  cors: { allowedOrigins, allowedHeaders: ['x-tenant'], allowCredentials: false, maxAgeMs: 60_000 },
});
const allowed = async (origin: string) =>
  (await post(receiver.url, { origin })).headers.get('access-control-allow-origin');

it('allows no origin unless one is configured', async () => {
  receiver = await startReceiver();
  expect(await allowed('https://shop.example')).toBeNull();
});

it('allows exactly the configured origins, and none that resembles one', async () => {
  receiver = await startReceiver(cors('https://shop.example'));
  expect(await allowed('https://shop.example')).toBe('https://shop.example');
  for (const origin of [
    'https://shop.example.evil',
    'https://evil/https://shop.example',
    'http://shop.example',
    'https://shop.example:444',
    'https://sub.shop.example',
    'null',
    'https://SHOP.example',
  ])
    expect(await allowed(origin), origin).toBeNull();
});

it('refuses a configured origin of half a MiB, which a pattern that goes back would take a quarter of an hour for', () => {
  const text = `receiver: {cors: {allowed_origins: ['a://${'a.'.repeat(2 ** 18)}**']}}`;
  expect(() => loadConfig({ env: {}, text })).toThrow(/allowed_origins\[0\].*expected origins/s);
});

it("takes the configured origins in any spelling of a browser's own, and refuses what no browser sends", async () => {
  const configured = (...origins: string[]) =>
    loadConfig({ env: {}, text: JSON.stringify({ receiver: { cors: { allowed_origins: origins } } }) }).config
      .receiver.cors;
  receiver = await startReceiver({
    cors: configured(
      'HTTPS://Shop.Example:443',
      'http://10.0.0.1:80',
      'https://*.Apps.Example:443',
      'http://[::1]:443',
      'https://shop.example:8443',
      'chrome-extension://abc',
    ),
  });
  for (const origin of [
    'https://shop.example',
    'http://10.0.0.1',
    'https://a.apps.example',
    'http://[::1]:443',
    'https://shop.example:8443',
    'chrome-extension://abc',
  ])
    expect(await allowed(origin), origin).toBe(origin);
  for (const origin of ['https://shop.example:443', 'https://10.0.0.1', 'http://[::1]'])
    expect(await allowed(origin), origin).toBeNull();
  for (const never of [
    'https://me@shop.example',
    'https://shop.example?x',
    'https://shop.example#x',
    'https://shop.example/',
    'https://bücher.example',
    'shop.example',
  ])
    expect(() => configured(never), never).toThrow(/expected origins as browsers send them/);
});

it('never allows credentials, and tells caches that the answer depends on the origin', async () => {
  receiver = await startReceiver(cors('https://shop.example'));
  const { headers } = await post(receiver.url, { origin: 'https://shop.example' });
  expect([headers.get('access-control-allow-credentials'), headers.get('vary')]).toEqual([null, 'Origin']);
});

it('expands a wildcard within a host only to host names', async () => {
  receiver = await startReceiver(cors('https://*.shop.example', 'http://localhost:*'));
  for (const origin of ['https://a.shop.example', 'https://a.b.shop.example', 'http://localhost:3000'])
    expect(await allowed(origin), origin).toBe(origin);
  for (const origin of [
    'https://shop.example',
    'https://.shop.example.evil',
    'https://evil/.shop.example',
    'https://evil:1@a.shop.example',
    'https://evil?.shop.example',
    'http://a.shop.example',
    'http://localhost:',
    'http://localhost.evil',
  ])
    expect(await allowed(origin), origin).toBeNull();
});

it('allows credentials if configured, only for named origins', async () => {
  receiver = await startReceiver({
    cors: { ...cors('https://*.shop.example').cors, allowCredentials: true },
  });
  for (const method of ['POST', 'OPTIONS']) {
    const { headers } = await fetch(`${receiver.url}/v1/traces`, {
      method,
      headers: { origin: 'https://a.shop.example', 'access-control-request-method': 'POST' },
    });
    expect(headers.get('access-control-allow-credentials')).toBe('true');
    expect(headers.get('access-control-allow-origin')).toBe('https://a.shop.example');
  }
  const { headers } = await post(receiver.url, { origin: 'https://evil.example' });
  expect(headers.get('access-control-allow-credentials')).toBeNull();
  const both = 'receiver: {cors: {allowed_origins: ["*"], allow_credentials: true}}';
  expect(() => loadConfig({ env: {}, text: both })).toThrow(/allow_credentials/);
});

it('answers a preflight with the configuration, not with the request', async () => {
  receiver = await startReceiver(cors('https://shop.example'));
  const asked = {
    'access-control-request-method': 'DELETE',
    'access-control-request-headers': 'authorization, x-evil',
  };
  const answer = await fetch(`${receiver.url}/v1/traces`, {
    method: 'OPTIONS',
    headers: { origin: 'https://shop.example', ...asked },
  });
  expect(answer.headers.get('access-control-allow-methods')).toBe('POST');
  expect(answer.headers.get('access-control-allow-headers')).toBe('content-type, content-encoding, x-tenant');
});
