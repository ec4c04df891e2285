import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { Balancer } from './balancer.ts';

const disposals: (() => unknown)[] = [];
afterEach(async () => {
  for (const dispose of disposals.splice(0)) await dispose();
});

async function serve(listener: RequestListener): Promise<number> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  disposals.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

async function before(...ports: number[]): Promise<Balancer> {
  const balancer = await Balancer.to(ports);
  disposals.unshift(() => balancer[Symbol.asyncDispose]());
  return balancer;
}

const named = (name: string) =>
  serve(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    outgoing.writeHead(201, { 'x-name': name }).end(Buffer.concat(chunks));
  });

describe('a load balancer', () => {
  it('sends each request to the next server, with body, status and headers unchanged', async () => {
    const { url } = await before(await named('a'), await named('b'));
    const answers = [];
    for (const body of ['1', '2', '3', '4']) {
      const answer = await fetch(url, { method: 'POST', body });
      answers.push([answer.status, answer.headers.get('x-name'), await answer.text()]);
    }
    expect(answers.map(([, name]) => name).toSorted()).toEqual(['a', 'a', 'b', 'b']);
    expect(answers.map(([, name]) => name).slice(0, 2)).not.toEqual(
      answers.map(([, name]) => name).slice(1, 3),
    );
    expect(answers.map(([status, , body]) => [status, body])).toEqual(
      [1, 2, 3, 4].map((n) => [201, String(n)]),
    );
  });

  it('answers 502 for a server that is down', async () => {
    const { url } = await before(1);
    expect((await fetch(url, { method: 'POST', body: 'x' })).status).toBe(502);
  });

  it('aborts an aborted response, and a request whose client has left', async () => {
    const cut = await before(
      await serve((_, outgoing) => void outgoing.writeHead(200).write('half', () => outgoing.destroy())),
    );
    await expect(fetch(cut.url).then((answer) => answer.text())).rejects.toThrow();

    const gone = Promise.withResolvers<void>();
    const { url } = await before(await serve((incoming) => void incoming.on('close', gone.resolve).resume()));
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf', () => socket.destroy());
    await gone.promise;
  });
});
