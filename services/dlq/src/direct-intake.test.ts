import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createLogger } from '@nrdot/telemetry';
import { RawClient } from '@nrdot/testbed';
import { expect, it, vi } from 'vitest';
import { DirectIntake, takeDirectly } from './direct-intake.ts';
import type { Spilled } from './intake.ts';
import type { Ledger } from './ledger.ts';

const BODY = 'p'.repeat(10_000);
const request = (token: string, i: number) =>
  [
    `POST /v1/batches/b${i} HTTP/1.1`,
    ...['Host: x', `Authorization: Bearer ${token}`, 'Content-Type: application/octet-stream'],
    ...['X-Nrdot-Signal: logs', 'X-Nrdot-Class: normal', 'X-Nrdot-Items: 1', 'X-Nrdot-Encoding: identity'],
    ...[`X-Nrdot-Received-At: ${Date.now()}`, `Content-Length: ${BODY.length}`, '', BODY],
  ].join('\r\n');

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heldBytes(): number {
  for (let i = 0; i < 2; i++) collect(); // the second sweeps what the first has found
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const SILENT = createLogger({ level: 'silent', format: 'json' });

/** An intake whose disk writes nothing before `release`. */
async function start(maxInflightBytes: number, { maxBytes = BODY.length, log = SILENT } = {}) {
  const { promise, resolve: release } = Promise.withResolvers<void>();
  const written: string[] = [];
  const intake = {
    has: () => false,
    write: async ({ id }: { id: string }) => {
      written.push(id);
      await promise;
      return { area: 'normal', fresh: true };
    },
  };
  const ledger = { begin: async () => {}, abandon: () => {}, accepted: async () => {} };
  const direct = new DirectIntake(
    { listen: { host: '127.0.0.1', port: 0 }, maxBytes, maxInflightBytes, token: 'word' },
    ...([intake, ledger] as never as [never, never]),
    log,
  );
  const { port } = await direct.start();
  return { port, written, release, [Symbol.asyncDispose]: () => direct.stop() };
}

it('counts a payload as held until it is written, also if the receiver has gone meanwhile', async () => {
  await using direct = await start(30_000);
  const { port, written, release } = direct;
  for (let i = 0; i < 3; i++) {
    using client = await RawClient.connect(port);
    client.write(request('word', i));
    await vi.waitFor(() => expect(written).toHaveLength(i + 1));
  }
  await wait(100); // the connections are closed
  using client = await RawClient.connect(port);
  client.write(request('word', 3));
  await vi.waitFor(() => expect([...client.statuses, ...written.slice(3)]).toEqual(['503']));
  release();
  await wait(100);
  client.write(request('word', 4));
  await vi.waitFor(() => expect(client.statuses).toEqual(['503', '200']));
});

it('takes the batches of a connection in turn, and reads no more while some wait', async () => {
  await using direct = await start(100_000);
  const { port, written, release } = direct;
  using client = await RawClient.connect(port);
  const many = 2_000; // more in all than the kernel buffers
  client.write(Array.from({ length: many }, (_, i) => request('word', i)).join('') + request('wrong', many));
  await vi.waitFor(() => expect(written).toHaveLength(1));
  await wait(300);
  expect(written).toHaveLength(1);
  expect(client.unsent).toBeGreaterThan(0); // the server has stopped to read
  release();
  await vi.waitFor(() => expect(client.statuses).toHaveLength(many + 1), { timeout: 120_000, interval: 200 });
  expect(new Set(client.statuses.slice(0, many))).toEqual(new Set(['200']));
  expect(client.statuses.at(-1)).toBe('401');
  expect(written).toEqual(Array.from({ length: many }, (_, i) => `b${i}`));
});

it('logs once, for debugging, that a receiver has gone in the middle of a payload', async () => {
  const lines: string[] = [];
  const log = createLogger({ level: 'debug', format: 'json', write: (line) => lines.push(line) });
  await using direct = await start(30_000, { log });
  {
    using client = await RawClient.connect(direct.port);
    client.write(request('word', 1).slice(0, -1));
    await wait(100);
  }
  await vi.waitFor(() => expect(lines).toHaveLength(1));
  await wait(100);
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({
      level: 'debug',
      msg: `the receiver closed the connection after ${BODY.length - 1} bytes of a payload`,
    }),
  ]);
  // What it sent is no longer held.
  direct.release();
  using client = await RawClient.connect(direct.port);
  for (let i = 2; i < 5; i++) client.write(request('word', i));
  await vi.waitFor(() => expect(client.statuses).toEqual(['200', '200', '200']));
});

const CHUNK = '1\r\nx\r\n';

it('keeps little more than its bytes of a payload that comes a byte at a time', async () => {
  const chunks = 200_000;
  await using direct = await start(chunks, { maxBytes: chunks });
  using client = await RawClient.connect(direct.port);
  const [head] = request('word', 1).split('Content-Length');
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const found = (message: unknown) => resolve((message as { socket: Socket }).socket);
  subscribe('http.server.request.start', found);
  const opening = `${head}Transfer-Encoding: chunked\r\n\r\n`;
  client.write(opening);
  const socket = await promise;
  unsubscribe('http.server.request.start', found);
  const before = heldBytes();
  const some = CHUNK.repeat(chunks - 1);
  client.write(some);
  await vi.waitFor(() => expect(socket.bytesRead).toBe(opening.length + some.length), { timeout: 20_000 });
  expect(heldBytes() - before).toBeLessThan(20 * chunks);
  client.write(`${CHUNK}0\r\n\r\n`);
  await vi.waitFor(() => expect(direct.written).toEqual(['b1']));
});

it('does not note a batch as in flight that is on the disk already: a kill would have it accepted twice', async () => {
  const noted: string[] = [];
  const ledger = {
    begin: async (id: string) => void noted.push(id),
    accepted: async () => {},
    abandon: () => {},
  };
  const written = new Set(['b1']);
  const intake = {
    has: (id: string) => written.has(id),
    write: async ({ id }: { id: string }) => ({
      area: 'normal' as const,
      fresh: written.size < written.add(id).size,
    }),
  };
  const log = createLogger({ level: 'silent', format: 'json' });
  for (const id of ['b1', 'b2', 'b2'])
    await takeDirectly({ id, items: 50 } as Spilled, intake, ledger as unknown as Ledger, log);
  expect(noted).toEqual(['b2']);
});
