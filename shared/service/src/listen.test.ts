import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { fastify } from 'fastify';
import { expect, it } from 'vitest';
import { listen } from './listen.ts';

/** Two addresses of this machine, as `localhost` is where IPv6 is on. */
const TWO = async () => ['127.0.0.1', '127.0.0.2'];

async function start(connections: number) {
  const app = fastify({ forceCloseConnections: true });
  app.get('/', (request) => request.socket.localAddress);
  const { port } = await listen(app, { host: 'localhost', port: 0 }, { connections }, TWO);
  return { port, [Symbol.asyncDispose]: () => app.close() };
}

it('answers on each address of localhost', async () => {
  await using server = await start(10);
  for (const address of await TWO())
    expect(await (await fetch(`http://${address}:${server.port}/`)).text()).toBe(address);
});

it('listens once on an address that the hosts file has twice', async () => {
  const app = fastify();
  const twice = async () => [...(await TWO()), ...(await TWO())];
  await listen(app, { host: 'localhost', port: 0 }, { connections: 10 }, twice);
  await app.close();
});

it('passes over an address that is none of this machine, also if it is the first', async () => {
  const app = fastify();
  app.get('/', () => 'yes');
  const { port } = await listen(app, { host: 'localhost', port: 0 }, { connections: 10 }, async () => [
    '192.0.2.1',
    '127.0.0.2',
  ]);
  expect(await (await fetch(`http://127.0.0.2:${port}/`)).text()).toBe('yes');
  await app.close();
});

it('limits connections on each address', async () => {
  await using server = await start(2);
  for (const host of await TWO()) {
    const sockets = [1, 2, 3].map(() => connect({ host, port: server.port }));
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    const cut = await Promise.race(
      sockets.map((socket) => once(socket.resume(), 'close').then(() => socket)),
    );
    expect(sockets).toContain(cut);
    for (const socket of sockets) socket.destroy();
  }
});

it('closes each address', async () => {
  const server = await start(10);
  await server[Symbol.asyncDispose]();
  for (const address of await TWO())
    await expect(fetch(`http://${address}:${server.port}/`)).rejects.toThrow('fetch failed');
});

it('waits for the requests of each address before it is closed', async () => {
  for (const address of await TWO()) {
    const { promise, resolve } = Promise.withResolvers<string>();
    const app = fastify();
    const isAsked = new Promise<void>((asked) => {
      app.get('/', () => {
        asked();
        return promise;
      });
    });
    const { port } = await listen(app, { host: 'localhost', port: 0 }, { connections: 10 }, TWO);
    const answer = fetch(`http://${address}:${port}/`, { headers: { connection: 'close' } });
    await isAsked;
    let isClosed = false;
    const closing = app.close().then(() => {
      isClosed = true;
    });
    await wait(200);
    expect({ address, isClosed }).toEqual({ address, isClosed: false });
    resolve('done');
    expect(await (await answer).text()).toBe('done');
    await closing;
  }
});

it('fails when the port of one of them is taken, and passes over an address that is none of this machine', async () => {
  await using other = await start(10);
  const app = fastify();
  // The first is free: the port is taken on the second alone.
  await expect(
    listen(app, { host: 'localhost', port: other.port }, { connections: 1 }, async () => [
      '127.0.0.3',
      '127.0.0.2',
    ]),
  ).rejects.toThrow('EADDRINUSE');
  await app.close();
  await using alone = await (async () => {
    const one = fastify();
    await listen(one, { host: 'localhost', port: 0 }, { connections: 1 }, async () => [
      '127.0.0.1',
      '192.0.2.1',
    ]);
    return { [Symbol.asyncDispose]: () => one.close() };
  })();
  expect(alone).toBeDefined();
});
