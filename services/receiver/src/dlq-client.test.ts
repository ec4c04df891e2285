import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Batch } from '@nrdot/queue';
import { expect, it } from 'vitest';
import { DlqClient } from './dlq-client.ts';

it('gives up a dlq that says nothing, or never ends what it says', async () => {
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
