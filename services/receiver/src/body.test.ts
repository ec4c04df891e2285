import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RawClient } from '@nrdot/testbed';
import { expect, it, vi } from 'vitest';
import { readBody } from './body.ts';

it('a body in chunks of a byte is read in many turns of the event loop, and whole', async () => {
  const count = 300_000;
  const reservation = { reserve: () => {}, look: () => {}, release: () => {} };
  let pauses = 0;
  const read = Promise.withResolvers<Buffer>();
  const server = createServer((request) => {
    const { socket } = request;
    const pause = socket.pause.bind(socket);
    socket.pause = () => {
      pauses++;
      return pause();
    };
    readBody(request, undefined, count, reservation).then(read.resolve, read.reject);
  }).listen(0, '127.0.0.1');
  await vi.waitFor(() => expect(server.listening).toBe(true));
  using client = await RawClient.connect((server.address() as AddressInfo).port);
  client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  client.write(`${'1\r\nx\r\n'.repeat(count)}0\r\n\r\n`); // one turn would read up to 2 MiB
  expect((await read.promise).equals(Buffer.alloc(count, 'x'))).toBe(true);
  expect(pauses).toBeGreaterThan(10);
  server.close();
});
