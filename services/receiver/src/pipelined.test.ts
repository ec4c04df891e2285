import dns from 'node:dns';
import { setTimeout as wait } from 'node:timers/promises';
import type { EnqueueResult } from '@nrdot/queue';
import { RawClient } from '@nrdot/testbed';
import { afterEach, expect, it, vi } from 'vitest';
import { type Kept, SPAN, startReceiver } from '../../../tests/security/receiver.ts';

let receiver: Kept | undefined;
afterEach(() => receiver?.stop());

const POST = `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${SPAN.length}\r\n\r\n${SPAN}`;
const LAST = POST.replace('/v1/traces', '/v1/nothing');

it('requests that are sent before the answer to the first wait for it, unread, and are answered in order', async () => {
  const { promise, resolve } = Promise.withResolvers<EnqueueResult>();
  receiver = await startReceiver({}, promise);
  using client = await RawClient.connect(receiver.port);
  const many = 8_000;
  const large = POST.replace('Host: x', `Host: x\r\nX-Pad: ${'x'.repeat(2_000)}`); // more in all than the kernel buffers
  client.write(large.repeat(many) + LAST);
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  await wait(300);
  expect(receiver.batches).toHaveLength(1);
  expect(client.unsent).toBeGreaterThan(0); // the receiver has stopped to read
  resolve('queued');
  await vi.waitFor(() => expect(client.statuses).toHaveLength(many + 1), { timeout: 120_000, interval: 200 });
  expect(client.statuses.lastIndexOf('200')).toBe(many - 1);
  expect(client.statuses.at(-1)).toBe('404');
  expect(receiver.batches).toHaveLength(many);
});

it('a body that comes in pieces behind a request that waits is read', async () => {
  const { promise, resolve } = Promise.withResolvers<EnqueueResult>();
  receiver = await startReceiver({}, promise);
  using client = await RawClient.connect(receiver.port);
  client.write(POST + POST.slice(0, -10));
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  resolve('queued');
  await vi.waitFor(() => expect(client.statuses).toEqual(['200']));
  client.write(POST.slice(-10));
  await vi.waitFor(() => expect(client.statuses).toEqual(['200', '200']));
  client.write(POST);
  await vi.waitFor(() => expect(client.statuses).toHaveLength(3));
});

it('requests to the second address of localhost wait as well', async () => {
  const lookup = (host: string, ...[options, done]: unknown[]) => {
    const [{ all }, answer] = (done ? [options, done] : [{}, options]) as [
      { all?: boolean },
      (...of: unknown[]) => void,
    ];
    const addresses = host === 'localhost' ? ['127.0.0.1', '127.0.0.2'] : [host];
    const found = addresses.map((address) => ({ address, family: 4 }));
    if (all) answer(null, found);
    else answer(null, addresses[0], 4);
  };
  const spy = vi.spyOn(dns, 'lookup').mockImplementation(lookup as never);
  const { promise, resolve } = Promise.withResolvers<EnqueueResult>();
  receiver = await startReceiver({ listen: { host: 'localhost', port: 0 } }, promise);
  spy.mockRestore();
  using client = await RawClient.connect(receiver.port, '127.0.0.2');
  client.write(POST.repeat(5));
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  await wait(300);
  expect(receiver.batches).toHaveLength(1);
  resolve('queued');
  await vi.waitFor(() => expect(client.statuses).toHaveLength(5));
});

/** As Java's HttpClient does with the first request of a connection. */
const UPGRADE = POST.replace(
  'Host: x',
  'Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA',
);

it('a request for another protocol is answered in this one, and so are those behind it', async () => {
  receiver = await startReceiver();
  using client = await RawClient.connect(receiver.port);
  client.write(UPGRADE + POST + LAST);
  await vi.waitFor(() => expect(client.statuses).toEqual(['200', '200', '404']));
  client.write(UPGRADE.slice(0, -10)); // and now a body in pieces
  await wait(50);
  client.write(UPGRADE.slice(-10) + POST);
  await vi.waitFor(() => expect(client.statuses).toHaveLength(5));
  expect(receiver.batches).toHaveLength(4);
  const chunked = UPGRADE.replace(/Content-Length.*/s, 'Transfer-Encoding: chunked\r\n\r\n');
  client.write(`${chunked}${SPAN.length.toString(16)}\r\n${SPAN}\r\n0\r\n\r\n${POST}`);
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(6));
});

it('a request for another protocol behind ones that wait for their answers waits as well', async () => {
  const { promise, resolve } = Promise.withResolvers<EnqueueResult>();
  receiver = await startReceiver({}, promise);
  using client = await RawClient.connect(receiver.port);
  client.write(POST + POST + UPGRADE + UPGRADE + POST);
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  await wait(50);
  client.write(LAST);
  resolve('queued');
  await vi.waitFor(() => expect(client.statuses).toEqual(['200', '200', '200', '200', '200', '404']));
  expect(receiver.batches).toHaveLength(5);
});

it('a connection whose request for another protocol waits does not keep the receiver from stopping', async () => {
  const never = new Promise<EnqueueResult>(() => {});
  receiver = await startReceiver({}, never);
  using client = await RawClient.connect(receiver.port);
  client.write(POST + UPGRADE);
  await vi.waitFor(() => expect(receiver!.batches).toHaveLength(1));
  await receiver.stop();
  receiver = undefined;
  await client.closed;
});

it('a request for another protocol with more headers than are read is refused', async () => {
  receiver = await startReceiver();
  using client = await RawClient.connect(receiver.port);
  client.write(UPGRADE.replace('Host: x', `Host: x${'\r\na:'.repeat(1_000)}`) + POST);
  await client.closed;
  expect(client.statuses).toEqual(['431']);
});
