/** How the exporter speaks to an upstream, against a real HTTP server that says what it likes. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Upstream } from '../../services/exporter/src/upstream.ts';

const RESPONSE_MAX_BYTES = 64 * 1024;

let answer: (request: IncomingMessage, response: ServerResponse) => void;
let arrived: Buffer[] = [];
const server = createServer((request, response) => {
  arrived = [];
  request.on('data', (chunk: Buffer) => arrived.push(chunk));
  request.on('end', () => answer(request, response));
});
let upstream: Upstream;
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  upstream = new Upstream({
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    endpoints: {},
    headers: { 'api-key': 'NRAK-1234567890', authorization: 'Bearer tok-abcdef', 'x-flag': 'on' },
    timeoutMs: 5_000,
    maxResponseBytes: RESPONSE_MAX_BYTES,
    connections: 1,
    userAgent: 'test',
    tls: { insecureSkipVerify: false },
  });
});
afterAll(async () => {
  await upstream.close();
  server.close();
});

const send = (how: typeof answer) => {
  answer = how;
  return upstream.send('traces', Buffer.from('body'), 'identity');
};
const say = (status: number, text: string) => (_: IncomingMessage, response: ServerResponse) =>
  response.writeHead(status, { 'content-type': 'text/plain' }).end(text);

it('keys quoted by an upstream are redacted in its message', async () => {
  const quoting = (request: IncomingMessage, response: ServerResponse) =>
    say(401, `key ${request.headers['api-key']}, ${request.headers.authorization} is not known, x is on`)(
      request,
      response,
    );
  expect(await send(quoting)).toMatchObject({
    kind: 'hold',
    reason: 'auth',
    message: expect.stringMatching(
      /^http:\/\/127\.0\.0\.1:\d+\/v1\/traces answered 401 Unauthorized: key \[redacted\], \[redacted\] is not known, x is on$/,
    ),
  });
  expect(await send(say(400, 'the token tok-abcdef has expired'))).toMatchObject({
    kind: 'rejected',
    message: 'the token [redacted] has expired',
  });
  upstream.setHeaders({ 'api-key': 'NRAK-new-one' });
  expect(await send(say(400, 'NRAK-new-one?'))).toMatchObject({ message: '[redacted]?' });
});

it('a large body leaves a MiB at a time, and is whole', async () => {
  const body = Buffer.alloc(5 * 2 ** 20 + 3, 'payload');
  const write = vi.spyOn(Socket.prototype, 'write');
  let headers: IncomingMessage['headers'] = {};
  answer = (request, response) => {
    ({ headers } = request);
    response.end();
  };
  expect(await upstream.send('traces', body, 'identity')).toMatchObject({ kind: 'delivered' });
  const most = Math.max(...write.mock.calls.map(([chunk]) => (chunk as unknown as Buffer).length));
  write.mockRestore();
  expect(Buffer.concat(arrived).equals(body)).toBe(true);
  expect(headers).toMatchObject({ 'content-length': String(body.byteLength) });
  expect(headers).not.toHaveProperty('transfer-encoding');
  expect(most).toBe(2 ** 20);
  // An answer that does not wait for all of it is heard.
  const early = createServer((_, response) => void response.writeHead(413).end());
  await new Promise<void>((resolve) => early.listen(0, '127.0.0.1', resolve));
  const other = new Upstream({
    ...{ endpoint: `http://127.0.0.1:${(early.address() as AddressInfo).port}`, endpoints: {}, headers: {} },
    ...{ timeoutMs: 5_000, maxResponseBytes: RESPONSE_MAX_BYTES, connections: 1, userAgent: 'test' },
    tls: { insecureSkipVerify: false },
  });
  for (let i = 0; i < 3; i++)
    expect(await other.send('traces', body, 'identity')).toMatchObject({ kind: 'too-large' });
  await other.close();
  early.close();
});

it('its message is one line of bounded length', async () => {
  expect(await send(say(400, `first\r\nsecond\u0000\u001b[31m${'x'.repeat(5_000)}`))).toMatchObject({
    message: expect.stringMatching(/^first second \[31mx{200,300}$/),
  });
});

it('its message has no half of a surrogate pair, which would make job data unreadable for Redis', async () => {
  const json = (text: string) => (_: IncomingMessage, response: ServerResponse) =>
    response.writeHead(400, { 'content-type': 'application/json' }).end(text);
  for (const text of [`{"message":"${'a'.repeat(299)}🚀"}`, '{"message":"a \\ud83d b"}']) {
    const { message } = await send(json(text));
    expect(message).toMatch(/^a/);
    expect(message.isWellFormed(), message).toBe(true);
  }
});

it('a count or code in JSON that is not a number does not turn a response into a failure', async () => {
  const odd = '{"toString":1,"valueOf":1}';
  const json = (status: number, text: string) => (_: IncomingMessage, response: ServerResponse) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(text);
  for (const count of [odd, '[{}]', 'true', '"x"'])
    expect(await send(json(200, `{"partialSuccess":{"rejectedSpans":${count}}}`))).toMatchObject({
      kind: 'delivered',
      refusedItems: 0,
    });
  expect(await send(json(400, `{"code":${odd},"message":"bad"}`))).toMatchObject({
    kind: 'rejected',
    message: 'bad',
  });
});

it('a compressed response is read although it was not requested', async () => {
  const packed =
    (status: number, encoding: string, body: Buffer, type = 'application/json') =>
    (_: IncomingMessage, response: ServerResponse) =>
      response.writeHead(status, { 'content-type': type, 'content-encoding': encoding }).end(body);
  const partial = Buffer.from('{"partialSuccess":{"rejectedSpans":2,"errorMessage":"too old"}}');
  for (const [encoding, body] of [
    ['gzip', gzipSync(partial)],
    ['zstd', zstdCompressSync(partial)],
    ['deflate', deflateSync(partial)],
    ['identity', partial],
  ] as const)
    expect(await send(packed(200, encoding, body)), encoding).toMatchObject({
      ...{ kind: 'delivered', refusedItems: 2, message: 'too old' },
    });
  expect(await send(packed(400, 'gzip', gzipSync('{"message":"the field x"}')))).toMatchObject({
    ...{ kind: 'rejected', message: 'the field x' },
  });
  expect(await send(packed(200, 'gzip', gzipSync('<html>'), 'text/html'))).toMatchObject({ kind: 'hold' });
  // What cannot be read, or not within the limit, says nothing; its status does.
  for (const [encoding, body] of [
    ['br', partial],
    ['gzip', partial],
    ['gzip', gzipSync(partial).subarray(0, 30)],
    ['gzip', gzipSync(Buffer.alloc(RESPONSE_MAX_BYTES + 1))],
  ] as const) {
    expect(await send(packed(200, encoding, body))).toMatchObject({ kind: 'delivered', refusedItems: 0 });
    expect(await send(packed(400, encoding, body))).toMatchObject({
      ...{ kind: 'rejected', message: 'the upstream answered 400 Bad Request without further details' },
    });
  }
});

it('a response is read only up to the limit; its status decides', async () => {
  let written = 0;
  const endless =
    (status: number, type = 'text/plain') =>
    (_: IncomingMessage, response: ServerResponse) => {
      response.writeHead(status, { 'content-type': type });
      written = 0;
      const more = () => {
        while (!response.destroyed && written < 64 * 1024 * 1024) {
          written += 16_384;
          if (!response.write(Buffer.alloc(16_384, 'a'))) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    };
  expect(await send(endless(503))).toMatchObject({ kind: 'retry', reason: 'unavailable', status: 503 });
  expect(await send(endless(200, 'application/x-protobuf'))).toMatchObject({
    kind: 'delivered',
    refusedItems: 0,
  });
  expect(await send(endless(200, 'text/html'))).toMatchObject({ kind: 'hold', reason: 'place' });
  expect(written).toBeLessThan(32 * 1024 * 1024);
  expect(await send(say(200, ''))).toMatchObject({ kind: 'delivered' });
});

it('a header is sent once, whatever its case, and Content-Type is that of the body', async () => {
  upstream.setHeaders({
    'Content-Type': 'application/x-protobuf',
    'User-Agent': 'mine',
    'API-KEY': 'NRAK-1234567890',
  });
  let raw: string[] = [];
  const heard = (request: IncomingMessage, response: ServerResponse) => {
    raw = request.rawHeaders;
    response.end();
  };
  await send(heard);
  const names = raw.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  expect(names).toHaveLength(new Set(names).size);
  expect(Object.fromEntries(names.map((name, i) => [name, raw[2 * i + 1]]))).toMatchObject({
    'content-type': 'application/x-protobuf',
    'user-agent': 'mine',
    'api-key': 'NRAK-1234567890',
    // Without it any encoding of the answer would be right, and a partial success in it would go unread.
    'accept-encoding': 'identity',
  });
});

it('Retry-After is parsed as seconds and as a date', async () => {
  const asking = (value: string) => (_: IncomingMessage, response: ServerResponse) =>
    response.writeHead(429, { 'retry-after': value }).end();
  expect(await send(asking('7'))).toMatchObject({ reason: 'throttled', retryAfterMs: 7_000 });
  const outcome = await send(asking(new Date(Date.now() + 60_000).toUTCString()));
  if (outcome.kind !== 'retry') throw new Error(outcome.kind);
  expect(outcome.retryAfterMs).toBeGreaterThan(30_000);
  expect(outcome.retryAfterMs).toBeLessThanOrEqual(60_000);
});

it('a connection that breaks before the status line is retried', async () => {
  expect(await send((_, response) => void response.destroy())).toMatchObject({
    kind: 'retry',
    reason: 'connection',
  });
});

it.each<[string, (response: ServerResponse) => void]>([
  [
    'is cut',
    (response) => response.writeHead(200, { 'content-length': 100 }).write('half', () => response.destroy()),
  ],
  ['is cut between chunks', (response) => response.writeHead(200).write('half', () => response.destroy())],
  [
    'has a malformed chunk',
    (response) => void response.socket!.end('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n'),
  ],
  [
    'is empty, though a length is given',
    (response) => void response.socket!.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n'),
  ],
  ['never comes', (response) => response.writeHead(200, { 'content-length': 100 }).flushHeaders()],
])('a success whose body %s is a success: sending it again would deliver it twice', async (_, answer) => {
  expect(await send((_, response) => answer(response))).toMatchObject({ kind: 'delivered', refusedItems: 0 });
});

it('informational answers are passed over, but for 100 Continue and 101, which end the connection: the message says so', async () => {
  expect(
    await send((_, response) => {
      response.writeProcessing();
      response.writeEarlyHints({ link: '</a>; rel=preload' });
      response.writeProcessing();
      response.end();
    }),
  ).toMatchObject({ kind: 'delivered' });
  const unasked = (head: string) => (request: IncomingMessage, response: ServerResponse) => {
    request.socket.write(`HTTP/1.1 ${head}\r\n\r\n`);
    response.end();
  };
  expect(await send(unasked('100 Continue'))).toMatchObject({
    ...{ kind: 'retry', reason: 'connection' },
    message: expect.stringMatching(
      /100 Continue, which was not asked for; what it did with the request is not known/,
    ),
  });
  expect(await send(unasked('101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x'))).toMatchObject({
    ...{ kind: 'retry', reason: 'connection' },
    message: expect.stringContaining('(101), which was not asked for'),
  });
  expect(await send(say(200, ''))).toMatchObject({ kind: 'delivered' });
});

it('a redirect is followed with the key to its own host, and without it to another', async () => {
  const heard: (string | undefined)[] = [];
  const redirecting = (to: string) => (request: IncomingMessage, response: ServerResponse) => {
    heard.push(`${request.method} ${request.url} ${request.headers['api-key'] ?? 'no key'}`);
    if (request.url === '/moved') response.writeHead(200).end();
    else response.writeHead(308, { location: to }).end();
  };
  upstream.setHeaders({ 'api-key': 'NRAK-1234567890' });
  expect(await send(redirecting('/moved'))).toMatchObject({ kind: 'delivered' });
  const { port } = server.address() as AddressInfo;
  expect(await send(redirecting(`http://localhost:${port}/moved`))).toMatchObject({ kind: 'delivered' });
  expect(heard).toEqual([
    ...['POST /v1/traces NRAK-1234567890', 'POST /moved NRAK-1234567890'],
    ...['POST /v1/traces NRAK-1234567890', 'POST /moved no key'],
  ]);
  expect(await send(redirecting('/v1/traces'))).toMatchObject({
    kind: 'hold',
    reason: 'place',
    status: 308,
    message: expect.stringContaining('it has moved to'),
  });
  expect(heard.length).toBe(4 + 6);
  expect(await send(redirecting('file:///etc/passwd'))).toMatchObject({
    kind: 'hold',
    message: expect.stringMatching(/it has moved to file:…$/),
  });
});

describe('a proxy', () => {
  let refuses = 0;
  let hangs = false;
  const proxy = createServer((request, response) => {
    request.resume();
    request.on('end', () => response.writeHead(refuses, { 'content-type': 'text/html' }).end('<html>'));
  });
  proxy.on('connect', (request, socket: Socket) => {
    socket.on('error', () => {});
    if (hangs) return;
    if (refuses > 0) return void socket.end(`HTTP/1.1 ${refuses} No\r\ncontent-length: 0\r\n\r\n`);
    const [host, port] = request.url!.split(':');
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    onward.on('error', () => socket.destroy());
    socket.on('close', () => onward.destroy());
  });
  let name = '';
  beforeAll(async () => {
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    name = `127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    proxy.closeAllConnections();
    proxy.close();
  });

  async function byProxy(
    endpoint: string,
    { at = name, timeoutMs = 5_000 } = {},
    run = (by: Upstream) => by.send('traces', Buffer.from('body'), 'identity'),
  ) {
    const by = new Upstream({
      ...{ endpoint, endpoints: {}, headers: {}, timeoutMs, userAgent: 'test' },
      ...{ maxResponseBytes: RESPONSE_MAX_BYTES, connections: 1, tls: { insecureSkipVerify: false } },
      proxyFor: () => `http://nrdot:hunter2@${at}`,
    });
    try {
      return await run(by);
    } finally {
      await by.close();
    }
  }

  it.each([
    [407, { kind: 'hold', reason: 'place' }],
    [403, { kind: 'hold', reason: 'place' }],
    [400, { kind: 'hold', reason: 'place' }],
    [413, { kind: 'hold', reason: 'place' }],
    [503, { kind: 'retry', reason: 'unavailable' }],
    [500, { kind: 'retry', reason: 'server_error' }],
  ])('that answers %i to a tunnel: the answer is about the proxy, not the data', async (status, outcome) => {
    refuses = status;
    expect(await byProxy('https://127.0.0.1:1')).toMatchObject({
      ...{ ...outcome, status },
      message: expect.stringMatching(new RegExp(`^the proxy ${name} answered ${status} `)),
    });
  });

  it('that requires a password without a tunnel pauses sending, and is named', async () => {
    refuses = 407;
    expect(await byProxy('http://127.0.0.1:1')).toMatchObject({
      ...{ kind: 'hold', reason: 'place', status: 407 },
      message: `the proxy ${name} answered 407 Proxy Authentication Required`,
    });
  });

  it.each(['http', 'https'])('that is down (%s): the message names it', async (scheme) => {
    expect(await byProxy(`${scheme}://127.0.0.1:2`, { at: '127.0.0.1:1' })).toMatchObject({
      ...{ kind: 'retry', reason: 'connection' },
      message: expect.stringMatching(/^through the proxy 127\.0\.0\.1:1: .*refused/),
    });
  });

  it('that hung during a tunnel is asked for another one', async () => {
    hangs = true;
    refuses = 0;
    const send = (by: Upstream) => by.send('traces', Buffer.from('body'), 'identity');
    const { port } = server.address() as AddressInfo;
    const outcomes = await byProxy(`https://127.0.0.1:${port}`, { timeoutMs: 300 }, async (by) => {
      const hung = await send(by);
      hangs = false;
      refuses = 407;
      for (let i = 0; i < 20; i++) {
        const next = await send(by);
        if (next.kind !== 'retry' || next.reason !== 'timeout') return next;
      }
      return hung;
    });
    expect(outcomes).toMatchObject({ kind: 'hold', status: 407 });
  });
});
