import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { ClientRequest, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Batch } from '@nrdot/queue';
import { expect, it, vi } from 'vitest';
import { DlqClient } from './dlq-client.ts';

const batch: Batch = {
  id: 'b1',
  signal: 'traces',
  class: 'high',
  origin: 'live',
  encoding: 'identity',
  items: 1,
  receivedAt: 1,
  payload: Buffer.from('payload'),
};

it('gives up on a dlq that does not answer, or whose answer never ends', async () => {
  const trickles: NodeJS.Timeout[] = [];
  const server = createServer((request, response) => {
    request.resume();
    if (request.url?.endsWith('b1')) return; // nothing
    response.writeHead(503);
    trickles.push(setInterval(() => response.write('.'), 100));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new DlqClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const results = await Promise.allSettled([client.store(batch), client.store({ ...batch, id: 'b2' })]);
  expect(results.map((result) => result.status === 'rejected' && String(result.reason))).toEqual([
    expect.stringMatching(/did not answer within 3 s/),
    expect.stringMatching(/did not answer within 3 s/),
  ]);
  for (const trickle of trickles) clearInterval(trickle);
  client.close();
  server.close();
});

it('writes a large batch in pieces, complete and in order', async () => {
  const arrived: Buffer[] = [];
  const server = createServer(async (request, response) => {
    for await (const chunk of request as AsyncIterable<Buffer>) arrived.push(chunk);
    response.end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const write = vi.spyOn(ClientRequest.prototype, 'write');
  const end = vi.spyOn(ClientRequest.prototype, 'end');
  const client = new DlqClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const payload = randomBytes(5_500_000);
  await client.store({ ...batch, payload });
  const sizes = [...write.mock.calls, ...end.mock.calls].map(([chunk]) => (chunk as Buffer)?.byteLength ?? 0);
  expect(Math.max(...sizes)).toBe(1024 * 1024);
  expect(Buffer.concat(arrived).equals(payload)).toBe(true);
  vi.restoreAllMocks();
  client.close();
  server.close();
});
