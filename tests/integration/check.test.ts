/** `nrdot check upstream` names what is in the way, part by part. */
import { createServer } from 'node:net';
import { loadConfig } from '@nrdot/config';
import { checkUpstream, outcomeOf } from '@nrdot/exporter';
import { freePort, startMockUpstream } from '@nrdot/testbed';
import { expect, it } from 'vitest';

async function check(exporter: Record<string, unknown>): Promise<string[]> {
  const { config } = loadConfig({
    env: {},
    text: JSON.stringify({ exporter: { timeout: '2s', ...exporter } }),
  });
  return (await checkUpstream(config, '0')).map(
    ({ signal, ok, part, found }) => `${signal}: ${ok ? 'ok' : part}, ${found}`,
  );
}

it('sends one request per signal, with headers and encoding, and stores nothing', async () => {
  const mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    behaviour: { requireHeaders: { 'api-key': 'right' } },
    keep: 9,
  });
  const right = { endpoint: mock.url, headers: { 'api-key': 'right' }, compression: 'gzip' };
  for (const line of await check(right)) expect(line).toMatch(/^(traces|metrics|logs): ok, accepts it/);
  expect(mock.stats().items).toBe(0);
  expect(
    mock
      .kept()
      .map(({ path }) => path)
      .sort(),
  ).toEqual(['/v1/logs', '/v1/metrics', '/v1/traces']);
  expect(mock.kept()[0]!.headers['content-encoding']).toBe('gzip');
  for (const line of await check({ ...right, headers: { 'api-key': 'wrong' } }))
    expect(line).toMatch(/: key, .*401/);
  for (const line of await check({ ...right, endpoint: `${mock.url}/otlp` }))
    expect(line).toMatch(/: address, .*404/);
  mock.set({ status: 503 });
  for (const line of await check(right)) expect(line).toMatch(/: upstream, answers 503/);
  mock.set({ status: 415 });
  for (const line of await check(right)) expect(line).toMatch(/: encoding, answers 415/);
  mock.set({ status: 400 });
  for (const line of await check(right)) expect(line).toMatch(/: ok, is reached/);
  await mock.close();
});

it('names the part by what the pipeline would make of the same answer', async () => {
  const PARTS: Record<string, RegExp> = {
    rejected: /: ok, is reached/, // about the data, and the request has none
    'too-large': /: size, answers/,
    'hold auth': /: key, answers/,
    'hold place': /: (address|encoding|proxy), /,
    'retry unavailable': /: upstream, answers/,
    'retry throttled': /: upstream, answers/,
    'retry server_error': /: upstream, answers/,
  };
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  const retryOn = [404, 530];
  for (let status = 300; status < 600; status++) {
    mock.set({ status });
    const url = `${mock.url}/v1/traces`;
    const answer = {
      status,
      otlp: true,
      contentType: '',
      retryAfter: undefined,
      refusedItems: 0,
      message: '',
    };
    const outcome = outcomeOf({ ...answer, url }, 0, retryOn);
    const meaning =
      outcome.kind === 'retry' || outcome.kind === 'hold'
        ? `${outcome.kind} ${outcome.reason}`
        : outcome.kind;
    const [traces] = await check({ endpoint: mock.url, retry_on: retryOn });
    expect(traces, `${status} is ${meaning}`).toMatch(PARTS[meaning]!);
  }
  await mock.close();
});

it('distinguishes name resolution, connection, TLS, and a server that does not speak HTTP', async () => {
  const [traces] = await check({ endpoint: 'http://no-such-host.invalid' });
  expect(traces).toMatch(/^traces: host, cannot resolve no-such-host\.invalid/);
  const port = await freePort();
  expect((await check({ endpoint: `http://127.0.0.1:${port}` }))[0]).toBe(
    `traces: network, connection refused by 127.0.0.1:${port}`,
  );
  expect((await check({ endpoint: 'http://up.example', proxy: `http://127.0.0.1:${port}` }))[0]).toMatch(
    /^traces: proxy, through the proxy \S+ connection refused/,
  );
  const other = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('\0\0\u0006\u0004\0\0\0\0\0'));
  });
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port: taken } = other.address() as { port: number };
  expect((await check({ endpoint: `http://127.0.0.1:${taken}` }))[0]).toMatch(
    /^traces: address, .*not HTTP\/1\.1/,
  );
  expect((await check({ endpoint: `https://127.0.0.1:${taken}` }))[0]).toMatch(
    /^traces: tls, .*does not speak TLS/,
  );
  other.close();
});
