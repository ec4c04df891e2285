/** The receiver as a process, against everything a client may send. */
import { connect } from 'node:net';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { readStatus } from '@nrdot/otlp';
import { freePort, type Process, startNrdot, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { request as otlpRequest } from '../../shared/otlp/test/arbitrary.ts';
import { writeConfig } from '../kit.ts';

const PROTOBUF = 'application/x-protobuf';
const JSON_TYPE = 'application/json';
const MAX_BODY = 200_000;
const SPAN = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}';

let dir: ReturnType<typeof temporaryDirectory>;
let redis: TestRedis;
let receiver: Process;
let otlp = '';
let admin = '';
beforeAll(async () => {
  dir = temporaryDirectory();
  redis = await TestRedis.start({ dir: dir.path });
  const config = {
    redis: { url: redis.url },
    receiver: {
      max_body: MAX_BODY,
      max_inflight: 500_000,
      request_timeout: '2s',
      cors: { allowed_origins: ['https://shop.example'], allowed_headers: ['x-tenant'] },
    },
  };
  receiver = startNrdot(['receiver', '--config', writeConfig(dir.path, config)]);
  [, otlp = ''] = await receiver.line(/"address":"([^"]+)","msg":"receiving/);
  [, admin = ''] = await receiver.line(/"admin":"([^"]+)"/);
  otlp = `http://${otlp}`;
  await waitUntil(async () => (await fetch(`http://${admin}/readyz`)).ok, { what: 'it is ready' });
});
afterAll(async () => {
  expect(await receiver.end()).toBe(0);
  await redis[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const post = (body: Uint8Array | string, headers: Record<string, string> = {}, path = '/v1/traces') =>
  fetch(`${otlp}${path}`, {
    method: 'POST',
    headers: { 'content-type': PROTOBUF, ...headers },
    body: typeof body === 'string' ? body : new Uint8Array(body),
  });
/** Status and message of an answer; the message read from a Status in the encoding of the request. */
const answer = async (response: Response) => {
  const type = response.headers.get('content-type') ?? '';
  return {
    status: response.status,
    type,
    said: readStatus(Buffer.from(await response.arrayBuffer()), type)?.message ?? '',
  };
};
const memory = async () => {
  const text = await (await fetch(`http://${admin}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\d+)$/m.exec(text)?.[1]) / 2 ** 20;
};

describe('the receiver', () => {
  it('says 200 with an empty response in the encoding of the request', async () => {
    const json = await post(SPAN, { 'content-type': 'application/json; charset=utf-8' });
    expect([json.status, json.headers.get('content-type'), await json.text()]).toEqual([
      200,
      JSON_TYPE,
      '{}',
    ]);
    const { bytes } = fc.sample(otlpRequest('logs'), 1)[0]!;
    const protobuf = await post(bytes, {}, '/v1/logs');
    expect([protobuf.status, protobuf.headers.get('content-type'), await protobuf.text()]).toEqual([
      200,
      PROTOBUF,
      '',
    ]);
    for (const path of ['/v1/traces', '/v1/metrics', '/v1/logs', '/v1development/profiles']) {
      expect((await post('', {}, path)).status, `an empty body at ${path}`).toBe(200);
    }
    expect((await post('{}', { 'content-type': JSON_TYPE })).status).toBe(200);
    expect((await post(Buffer.from('opaque'), {}, '/v1development/profiles')).status).toBe(200);
  });

  it('accepts every content encoding, several members and frames', async () => {
    const { bytes } = fc.sample(otlpRequest('traces'), 1)[0]!;
    for (const [encoding, body] of [
      ['gzip', gzipSync(bytes)],
      ['gzip', Buffer.concat([gzipSync(bytes), gzipSync(bytes)])],
      ['deflate', deflateSync(bytes)],
      ['zstd', Buffer.concat([zstdCompressSync(bytes), zstdCompressSync(bytes)])],
      ['identity', bytes],
    ] as const) {
      expect((await post(body, { 'content-encoding': encoding })).status, encoding).toBe(200);
    }
  });

  it('answers errors with a Status that says what is wrong and where', async () => {
    const json = { 'content-type': JSON_TYPE };
    const deep = `{"resourceSpans":[{"resource":{"attributes":[{"value":${'{"arrayValue":{"values":['.repeat(80)}${']}}'.repeat(80)}}]}}]}`;
    const cases: [string, Promise<Response>, number, RegExp, string?][] = [
      [
        'no content type',
        fetch(`${otlp}/v1/traces`, { method: 'POST', body: Buffer.from(SPAN) }),
        415,
        /Content-Type is missing/,
      ],
      [
        'a wrong one',
        post(SPAN, { 'content-type': 'text/plain' }),
        415,
        /"text\/plain" is not supported; expected/,
      ],
      [
        'an encoding nobody knows',
        post(SPAN, { ...json, 'content-encoding': 'br' }),
        415,
        /expected identity, gzip/,
      ],
      ['JSON for profiles', post('{}', json, '/v1development/profiles'), 415, /JSON is not supported/],
      [
        'invalid JSON',
        post('{"resourceSpans":[', json),
        400,
        /^resourceSpans\[0\]: expected an object/,
        JSON_TYPE,
      ],
      [
        'a wrong type in JSON',
        post('{"resourceSpans":[{"schemaUrl":5}]}', json),
        400,
        /^resourceSpans\[0\]\.schemaUrl: expected a string/,
      ],
      ['too deep JSON', post(deep, json), 400, /nested too deeply/],
      [
        'invalid protobuf',
        post(Buffer.from([0x0a, 0x05, 0x01])),
        400,
        /^resource_spans\[0\]: the bytes end/,
        PROTOBUF,
      ],
      ['JSON labelled as protobuf', post(SPAN), 400, /field/],
      ['invalid gzip', post(SPAN, { ...json, 'content-encoding': 'gzip' }), 400, /not valid gzip/],
      [
        'cut gzip',
        post(gzipSync(SPAN).subarray(0, -5), { ...json, 'content-encoding': 'gzip' }),
        400,
        /not valid gzip/,
      ],
      [
        'a bomb',
        post(gzipSync(Buffer.alloc(50_000_000)), { 'content-encoding': 'gzip' }),
        413,
        /larger than 200000 bytes when decompressed/,
      ],
      [
        'a zstd bomb',
        post(zstdCompressSync(Buffer.alloc(50_000_000)), { 'content-encoding': 'zstd' }),
        413,
        /larger than 200000/,
      ],
      ['too large', post(Buffer.alloc(MAX_BODY + 1)), 413, /larger than 200000 bytes/],
      ['GET', fetch(`${otlp}/v1/traces`), 405, /expected POST/],
      [
        'a path that cannot be decoded',
        post('', json, '/v1/%zz'),
        400,
        /'\/v1\/%zz' is not a valid url/,
        JSON_TYPE,
      ],
      ['another path', post('', {}, '/v1/nothing'), 404, /expected POST to \/v1\/traces/],
    ];
    for (const [what, promise, status, said, type] of cases) {
      const got = await answer(await promise);
      expect(got.status, what).toBe(status);
      expect(got.said, what).toMatch(said);
      if (type) expect(got.type, what).toBe(type);
    }
    expect((await fetch(`${otlp}/v1/traces`)).headers.get('allow')).toContain('POST');
  });

  it('admits configured browser origins', async () => {
    const preflight = (origin: string) =>
      fetch(`${otlp}/v1/traces`, {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'POST' },
      });
    const known = await preflight('https://shop.example');
    expect(known.status).toBe(204);
    expect(known.headers.get('access-control-allow-origin')).toBe('https://shop.example');
    expect(known.headers.get('access-control-allow-headers')).toContain('x-tenant');
    expect((await preflight('https://evil.example')).headers.get('access-control-allow-origin')).toBeNull();
    const sent = await post(SPAN, { 'content-type': JSON_TYPE, origin: 'https://shop.example' });
    expect(sent.headers.get('access-control-allow-origin')).toBe('https://shop.example');
  });

  it('bounds the bytes in memory: answers 503 with Retry-After to what does not fit, and continues', async () => {
    const port = Number(new URL(otlp).port);
    const slow = [1, 2, 3].map(() => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(
        `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: ${PROTOBUF}\r\nContent-Length: 190000\r\n\r\n`,
      );
      socket.write(Buffer.alloc(180_000)); // what has come counts, and not what is said to come
      return socket;
    });
    const refused = await waitUntil(
      async () => {
        const response = await post(Buffer.alloc(150_000));
        return response.status === 503 ? response : undefined;
      },
      { what: 'the memory is taken' },
    );
    expect(refused.headers.get('retry-after')).toBe('1');
    expect((await answer(refused)).said).toMatch(/receiver\.max_inflight/);
    // What is small on the wire counts by what it becomes.
    const small = await post(gzipSync(Buffer.alloc(190_000)), { 'content-encoding': 'gzip' });
    expect([small.status, (await answer(small)).said]).toEqual([
      503,
      expect.stringMatching(/receiver\.max_inflight/),
    ]);
    for (const socket of slow) socket.destroy();
    await waitUntil(
      async () =>
        (await post(gzipSync(SPAN), { 'content-type': JSON_TYPE, 'content-encoding': 'gzip' })).status ===
        200,
      {
        what: 'the memory of the others is free again',
      },
    );
  });

  it('times out a client that sends slowly, and survives garbage on the wire', async () => {
    const port = Number(new URL(otlp).port);
    const say = (text: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(port, '127.0.0.1');
        let got = '';
        socket.on('data', (chunk) => {
          got += chunk;
        });
        socket.on('error', () => resolve(got));
        socket.on('close', () => resolve(got));
        socket.write(text);
      });
    expect(await say('\u0000\u0001 nonsense\r\n\r\n')).toMatch(/^HTTP\/1\.1 400/);
    expect(await say(`POST /v1/traces HTTP/1.1\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431/,
    );
    expect(
      await say(
        `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: ${PROTOBUF}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      ),
    ).toMatch(/^HTTP\/1\.1 501 .*Transfer-Encoding "gzip, chunked" is not supported; expected "chunked"/s);
    // Sound so far, only slow: a 400 or 408 would make its sender give it up.
    expect(
      await say(
        `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: ${PROTOBUF}\r\nContent-Length: 100\r\n\r\nabc`,
      ),
    ).toMatch(/^HTTP\/1\.1 503 .*\r\nRetry-After: 1\r\n/);
    expect((await post(SPAN, { 'content-type': JSON_TYPE })).status).toBe(200);
  });

  it('survives thousands of hostile bodies with constant memory', async () => {
    const before = await memory();
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 3_000 }),
        fc.constantFrom('/v1/traces', '/v1/metrics', '/v1/logs'),
        fc.constantFrom(PROTOBUF, JSON_TYPE),
        fc.constantFrom('identity', 'gzip', 'zstd', 'deflate'),
        async (body, path, type, encoding) => {
          const response = await post(body, { 'content-type': type, 'content-encoding': encoding }, path);
          await response.arrayBuffer();
          expect([200, 400, 413]).toContain(response.status);
        },
      ),
      { numRuns: 2_000 },
    );
    expect(await memory()).toBeLessThan(before + 80);
    expect((await fetch(`http://${admin}/healthz`)).status).toBe(200);
  });

  it('requires a token if configured, and uses TLS only with a certificate', async () => {
    const port = await freePort();
    const config = writeConfig(dir.path, {
      redis: { url: redis.url },
      receiver: { listen: `127.0.0.1:${port}`, tokens: ['${env:INGEST}'] },
    });
    const guarded = startNrdot(['receiver', '--config', config], { INGEST: 's3cret-token' });
    await guarded.line(/receiving OTLP/);
    await waitUntil(
      async () => {
        const send = (authorization: string) =>
          fetch(`http://127.0.0.1:${port}/v1/traces`, {
            method: 'POST',
            headers: { 'content-type': JSON_TYPE, authorization },
            body: SPAN,
          });
        expect((await send('Bearer wrong')).status).toBe(401);
        expect((await send('')).status).toBe(401);
        return (await send('Bearer s3cret-token')).status === 200;
      },
      { what: 'the right token is accepted' },
    );
    expect(await guarded.end()).toBe(0);
    expect(guarded.output()).not.toContain('s3cret');
  });
});
