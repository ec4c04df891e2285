import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RawClient } from '@nrdot/testbed';
import { expect, it, vi } from 'vitest';
import { readBody } from './body.ts';
import { endWhenRead } from './linger.ts';

const COUNT = 300_000;
const reservation = { reserve: () => {}, look: () => {}, release: () => {} };

/** Sends a body in chunks of a byte. @returns how often the connection was paused until `handle` was done with it */
async function pausesOf(handle: (request: IncomingMessage, response: ServerResponse) => Promise<unknown>) {
  let pauses = 0;
  const read = Promise.withResolvers<unknown>();
  const server = createServer((request, response) => {
    const { socket } = request;
    const pause = socket.pause.bind(socket);
    socket.pause = () => {
      pauses++;
      return pause();
    };
    handle(request, response).then(read.resolve, read.reject);
  }).listen(0, '127.0.0.1');
  await vi.waitFor(() => expect(server.listening).toBe(true));
  using client = await RawClient.connect((server.address() as AddressInfo).port);
  client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  client.write(`${'1\r\nx\r\n'.repeat(COUNT)}0\r\n\r\n`); // one turn would read up to 2 MiB
  await read.promise;
  server.close();
  return pauses;
}

it('a body in chunks of a byte is read in many turns of the event loop, and whole', async () => {
  const pauses = await pausesOf(async (request) => {
    const body = await readBody(request, undefined, COUNT, reservation);
    expect(body.equals(Buffer.alloc(COUNT, 'x'))).toBe(true);
  });
  expect(pauses).toBeGreaterThan(10);
});

it('so is one that was refused', async () => {
  const pauses = await pausesOf(async (request, response) => {
    endWhenRead(request, response, Buffer.from('no'), COUNT);
    await once(request, 'end');
  });
  expect(pauses).toBeGreaterThan(10);
});
