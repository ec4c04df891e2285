import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { RawClient } from '@nrdot/testbed';
import { expect, it, vi } from 'vitest';
import { AdminServer, OneAtATime } from './index.ts';

const POST = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody';

it('a connection that exceeds the limit of waiting requests is closed, and others are served', async () => {
  const inTurn = new OneAtATime(5);
  const held: ServerResponse[] = [];
  const server = createServer((request, response) =>
    inTurn.take(request, response, () => {
      request.resume();
      held.push(response);
    }),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  using greedy = await RawClient.connect(port);
  greedy.write(POST.repeat(5));
  await vi.waitFor(() => expect(held).toHaveLength(1));
  using greedier = await RawClient.connect(port);
  greedier.write(POST.repeat(4));
  await greedier.closed;
  expect(greedier.statuses).toEqual([]);
  expect(held).toHaveLength(2); // the first of it was its turn
  using other = await RawClient.connect(port);
  other.write(POST.repeat(2)); // what was cut waits no more
  await vi.waitFor(() => {
    for (const response of held.splice(0)) response.end();
    expect([...greedy.statuses, ...other.statuses]).toEqual(Array(7).fill('200'));
  });
  server.close();
});

it('a connection has at most a thousand waiting requests, which are aborted without stack traces when it closes', async () => {
  const inTurn = new OneAtATime();
  const stacks: string[] = [];
  let held = 0;
  const server = createServer((request, response) => {
    request.on('error', ({ stack }) => stacks.push(String(stack)));
    inTurn.take(request, response, () => held++);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const get = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
  using within = await RawClient.connect(port);
  let isCut = false;
  void within.closed.then(() => {
    isCut = true;
  });
  within.write(get.repeat(1_001));
  await vi.waitFor(() => expect(held).toBe(1));
  using beyond = await RawClient.connect(port);
  beyond.write(get.repeat(1_002));
  await beyond.closed;
  expect(stacks.length).toBeGreaterThanOrEqual(1_000);
  expect(stacks.filter((stack) => stack.includes('\n'))).toEqual([]);
  expect(new Error('later').stack).toContain('\n');
  expect(isCut).toBe(false);
  server.closeAllConnections();
  server.close();
});

it('a turn of the event loop begins no more than 64 requests, though each is answered at once', async () => {
  const inTurn = new OneAtATime();
  let thisTurn = 0;
  let most = 0;
  const server = createServer((request, response) =>
    inTurn.take(request, response, () => {
      if (thisTurn++ === 0)
        setImmediate(() => {
          most = Math.max(most, thisTurn);
          thisTurn = 0;
        });
      request.resume();
      response.end();
    }),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  using client = await RawClient.connect((server.address() as AddressInfo).port);
  client.write('OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000));
  await vi.waitFor(() => expect(client.statuses).toHaveLength(1_000), { timeout: 20_000 });
  expect(most).toBeLessThanOrEqual(2 * 64); // this probe's turns are not quite those of the limit
  server.close();
});

it('the admin address handles the requests of a connection in turn, and reads no more while some wait', async () => {
  const { promise, resolve } = Promise.withResolvers<object>();
  let handled = 0;
  const log = createLogger({ level: 'silent', format: 'json' });
  const admin = new AdminServer({ listen: { host: '127.0.0.1', port: 0 } }, new MetricsRegistry([]), log);
  admin.route('GET', '/api/thing', () => {
    handled++;
    return promise;
  });
  const { port } = await admin.start();
  using client = await RawClient.connect(port);
  const get = (path: string) =>
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nX-Pad: ${'x'.repeat(2_000)}\r\n\r\n`;
  const many = 8_000; // more in all than the kernel buffers
  client.write(get('/api/thing').repeat(many) + get('/nothing'));
  await vi.waitFor(() => expect(handled).toBe(1));
  await wait(300);
  expect(handled).toBe(1);
  expect(client.unsent).toBeGreaterThan(0); // the server has stopped to read
  using other = await RawClient.connect(port);
  other.write(get('/healthz'));
  await vi.waitFor(() => expect(other.statuses).toEqual(['200']));
  resolve({ thing: 1 });
  await vi.waitFor(() => expect(client.statuses).toHaveLength(many + 1), { timeout: 120_000, interval: 200 });
  expect(client.statuses.lastIndexOf('200')).toBe(many - 1);
  expect(client.statuses.at(-1)).toBe('404');
  expect(handled).toBe(many);
  await admin.stop();
});
