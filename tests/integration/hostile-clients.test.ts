/** The receiver as a process, against clients that hold on to it or send what is no HTTP. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { type Process, startNrdot, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeConfig } from '../kit.ts';
import { post } from '../security/receiver.ts';

/** As many as the descriptors of this process and of the receiver allow: the usual limit of a CI machine is above 20,000. */
const DESCRIPTORS = Number(execFileSync('sh', ['-c', 'ulimit -n']).toString()) || 1_024;
const IDLE = Math.min(10_000, DESCRIPTORS - 500);
const GROWTH_MAX_BYTES = 250 * 1024 * 1024;
const PIPELINED = 5_000;

let dir: ReturnType<typeof temporaryDirectory>;
let redis: TestRedis;
let receiver: Process;
let url = '';
let port = 0;
beforeAll(async () => {
  dir = temporaryDirectory();
  redis = await TestRedis.start({ dir: dir.path });
  const config = {
    redis: { url: redis.url },
    receiver: { request_timeout: '2s', max_connections: IDLE, keep_alive: '60s' },
  };
  receiver = startNrdot(['receiver', '--config', writeConfig(dir.path, config)]);
  const [, address = ''] = await receiver.line(/"address":"([^"]+)","msg":"receiving/);
  url = `http://${address}`;
  port = Number(address.split(':')[1]);
  await waitUntil(async () => (await post(url)).ok, { what: 'it takes a request' });
});
afterAll(async () => {
  expect(await receiver.end()).toBe(0);
  await redis[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const rss = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${receiver.pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;

interface Client {
  socket: Socket;
  said: string;
  closed: boolean;
}

function client(sends = ''): Client {
  const made: Client = { socket: connect(port, '127.0.0.1'), said: '', closed: false };
  made.socket.on('data', (bytes) => {
    made.said += bytes.toString('latin1');
  });
  made.socket.on('error', () => {});
  made.socket.on('close', () => {
    made.closed = true;
  });
  if (sends) made.socket.write(sends);
  return made;
}

it('disconnects clients that send a header or body a byte at a time, and serves others meanwhile', async () => {
  const slow = [
    client('POST /v1/traces HTTP/1.1\r\nHost: x\r\n'),
    client(
      'POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{',
    ),
    client('POST /'),
  ];
  const dribble = setInterval(() => {
    for (const { socket, closed } of slow) if (!closed) socket.write('a');
  }, 100);
  try {
    expect((await post(url)).status).toBe(200);
    await waitUntil(() => slow.every(({ closed }) => closed), { what: 'all connections were closed' });
    for (const { said } of slow) expect(said.slice(0, 12)).toMatch(/^(HTTP\/1\.1 (408|503)|)$/);
  } finally {
    clearInterval(dribble);
  }
});

it('answers a flood of headers with 431, and retains nothing', async () => {
  const before = rss();
  const floods = Array.from({ length: 50 }, () =>
    client(`GET /v1/traces HTTP/1.1\r\nHost: x\r\n${`X-A: ${'y'.repeat(1_000)}\r\n`.repeat(200)}`),
  );
  const many = client(`GET /v1/traces HTTP/1.1\r\nHost: x\r\n${'a:\r\n'.repeat(20_000)}`);
  await waitUntil(() => [...floods, many].every(({ closed }) => closed), {
    what: 'all connections were closed',
  });
  expect(floods.filter(({ said }) => said !== '').every(({ said }) => said.startsWith('HTTP/1.1 431'))).toBe(
    true,
  );
  expect(rss() - before).toBeLessThan(GROWTH_MAX_BYTES);
  expect((await post(url)).status).toBe(200);
});

it('answers pipelined requests in order, and stops at the first invalid one', async () => {
  const sound = 'GET /v1/traces HTTP/1.1\r\nHost: x\r\n\r\n';
  const mixed = client(`${sound.repeat(5)}\0\x01garbage\r\n\r\n${sound.repeat(5)}`);
  await waitUntil(() => mixed.closed, { what: 'the connection was closed' });
  const statuses = [...mixed.said.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
  expect(statuses.length).toBeLessThanOrEqual(6);
  expect(
    statuses.every((status, i) => status === '405' || (status === '400' && i === statuses.length - 1)),
  ).toBe(true);
  const before = rss();
  const greedy = client(sound.repeat(PIPELINED)); // reads none of its answers for a while
  greedy.socket.pause();
  expect((await post(url)).status).toBe(200);
  greedy.socket.resume();
  await waitUntil(() => (greedy.said.match(/HTTP\/1\.1 405/g) ?? []).length === PIPELINED || greedy.closed, {
    what: 'it has its answers or was closed',
  });
  expect(rss() - before).toBeLessThan(GROWTH_MAX_BYTES);
  greedy.socket.destroy();
});

it(`holds ${IDLE} idle connections, closes further ones, and times them out`, async () => {
  const before = rss();
  const idle: Client[] = [];
  try {
    while (idle.length < IDLE) {
      const from = idle.length;
      for (let i = 0; i < 500 && idle.length < IDLE; i++) idle.push(client());
      await waitUntil(() => idle.slice(from).every(({ socket, closed }) => !socket.connecting || closed), {
        what: '500 more are open',
      });
    }
    const beyond = client();
    await waitUntil(() => beyond.closed, { what: 'one beyond the limit was closed' });
    expect(rss() - before).toBeLessThan(GROWTH_MAX_BYTES);
    // A silent connection has sent no request: the time for one to arrive runs out, and makes room.
    await waitUntil(
      async () =>
        post(url).then(
          ({ ok }) => ok,
          () => false,
        ),
      { what: 'a new client is served' },
    );
  } finally {
    for (const { socket } of idle) socket.destroy();
  }
});
