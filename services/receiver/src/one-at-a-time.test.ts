import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import type { EnqueueResult } from '@nrdot/queue';
import { afterEach, expect, it, vi } from 'vitest';
import { type Kept, SPAN, startReceiver } from '../../../tests/security/receiver.ts';
import { OneAtATime } from './one-at-a-time.ts';

let receiver: Kept | undefined;
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  return receiver?.stop();
});

const POST = `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${SPAN.length}\r\n\r\n${SPAN}`;
const LAST = POST.replace('/v1/traces', '/v1/nothing');

async function client(port = receiver!.port): Promise<{ socket: Socket; statuses(): string[] }> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  let said = '';
  socket.on('data', (bytes) => {
    said += bytes.toString('latin1');
  });
  await once(socket, 'connect');
  return { socket, statuses: () => [...said.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status!) };
}

it('requests that are sent before the answer to the first wait for it, unread, and are answered in order', async () => {
  const { promise, resolve } = Promise.withResolvers<EnqueueResult>();
  receiver = await startReceiver({}, promise);
  const { socket, statuses } = await client();
  const many = 8_000;
  const large = POST.replace('Host: x', `Host: x\r\nX-Pad: ${'x'.repeat(2_000)}`); // more in all than the kernel buffers
  socket.write(large.repeat(many) + LAST);
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  await wait(300);
  expect(receiver.batches).toHaveLength(1);
  expect(socket.writableLength).toBeGreaterThan(0); // the receiver has stopped to read
  resolve('queued');
  await vi.waitFor(() => expect(statuses()).toHaveLength(many + 1), { timeout: 120_000, interval: 200 });
  expect(statuses().lastIndexOf('200')).toBe(many - 1);
  expect(statuses().at(-1)).toBe('404');
  expect(receiver.batches).toHaveLength(many);
});

it('a body that comes in pieces behind a request that waits is read', async () => {
  const { promise, resolve } = Promise.withResolvers<EnqueueResult>();
  receiver = await startReceiver({}, promise);
  const { socket, statuses } = await client();
  socket.write(POST + POST.slice(0, -10));
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  resolve('queued');
  await vi.waitFor(() => expect(statuses()).toEqual(['200']));
  socket.write(POST.slice(-10));
  await vi.waitFor(() => expect(statuses()).toEqual(['200', '200']));
  socket.write(POST);
  await vi.waitFor(() => expect(statuses()).toHaveLength(3));
});

it('no more wait than the limit; who sends another one is cut, and others are served', async () => {
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
  const greedy = await client(port);
  greedy.socket.write(POST.repeat(5));
  await vi.waitFor(() => expect(held).toHaveLength(1));
  const greedier = await client(port);
  greedier.socket.write(POST.repeat(4));
  await once(greedier.socket, 'close');
  expect(greedier.statuses()).toEqual([]);
  expect(held).toHaveLength(2); // the first of it was its turn
  const other = await client(port);
  other.socket.write(POST.repeat(2)); // what was cut waits no more
  await vi.waitFor(() => {
    for (const response of held.splice(0)) response.end();
    expect([...greedy.statuses(), ...other.statuses()]).toEqual(Array(7).fill('200'));
  });
  server.close();
});
