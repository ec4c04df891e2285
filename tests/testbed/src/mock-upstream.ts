/** An OTLP/HTTP backend for tests and for trying things: it counts what arrives and fails as it is told. */

import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import { type AddressInfo, isIP, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { exportAnswer, statusAnswer } from './answer.ts';
import { clockMs } from './generator.ts';
import { TEST_SIGNALS, type TestSignal } from './identity.ts';
import { NEW_RELIC_LIMITS, type NewRelicRule, readAsNewRelic } from './new-relic.ts';
import { Received, type ReceivedStats } from './received.ts';
import type { SequenceSet } from './sequence-set.ts';

/** How it answers. Rates are shares of requests, 0 to 1. */
export interface Behaviour {
  latencyMs: number;
  /** Up to so much more, evenly. */
  jitterMs: number;
  errorRate: number;
  errorStatus: number;
  /** 429, with Retry-After. */
  throttleRate: number;
  retryAfterSeconds: number;
  /** 400: refused for good. */
  refuseRate: number;
  /** 200 with a partial success that rejects one item; the rest counts as received. */
  partialRate: number;
  /** Takes the request, then cuts the connection instead of answering. */
  cutRate: number;
  /** Takes the request and answers 200 with a body that is no response. */
  garbageRate: number;
  /** Answers 200 as if it had taken the request, and forgets it: nobody can know, but for a test that counts. */
  loseRate: number;
  /** Answers every request with this status instead; 0 for none. */
  status: number;
  /** The same for the requests of one signal, such as `{ "logs": 403 }`. */
  signalStatus: Record<string, number>;
  /** Takes the requests of these signals and lets them wait so long for an answer, such as `{ "logs": 60000 }`. */
  signalLatencyMs: Record<string, number>;
  /** Answers 200 with a page for people, as a login or a parking page does. */
  html: boolean;
  /** Answers every request with this redirect instead; 0 for none. */
  redirectStatus: number;
  /** Where to, such as `http://127.0.0.1:4320`; the request's path is added. */
  redirectTo: string;
  /** A text that makes a request fail that has it in it, anywhere in the decompressed body; empty for none. */
  poison: string;
  /** With this status. */
  poisonStatus: number;
  /** Cuts every connection. */
  outage: boolean;
  /** 413 beyond it. */
  maxBodyBytes: number;
  /** Reads the first gzip member, or zstd frame, of a body and takes it for the whole, as some servers do. */
  firstMemberOnly: boolean;
  /** Bodies with this Content-Encoding are answered with `refuseEncodingStatus`; empty for none. */
  refuseEncoding: string;
  refuseEncodingStatus: number;
  /** What the link to it carries, all requests together; 0 for no limit. */
  bytesPerSecond: number;
  /** Items per second it can take, requests waiting for their turn; 0 for no limit. */
  itemsPerSecond: number;
  /** Answers 401 unless each of these headers is there. */
  requireHeaders: Record<string, string>;
  /** Answers and reads as New Relic does: see `#newRelic`. */
  newRelic: boolean;
  /** With `newRelic`: requests of a signal in a minute; beyond it 429 until the minute has ended. 0 for no limit. */
  requestsPerMinute: number;
}

export const HEALTHY: Behaviour = {
  latencyMs: 0,
  jitterMs: 0,
  errorRate: 0,
  errorStatus: 503,
  throttleRate: 0,
  retryAfterSeconds: 0,
  refuseRate: 0,
  partialRate: 0,
  cutRate: 0,
  garbageRate: 0,
  loseRate: 0,
  status: 0,
  signalStatus: {},
  signalLatencyMs: {},
  html: false,
  redirectStatus: 0,
  redirectTo: '',
  poison: '',
  poisonStatus: 500,
  outage: false,
  maxBodyBytes: 64 * 1024 * 1024,
  firstMemberOnly: false,
  refuseEncoding: '',
  refuseEncodingStatus: 415,
  bytesPerSecond: 0,
  itemsPerSecond: 0,
  requireHeaders: {},
  newRelic: false,
  requestsPerMinute: 0,
};

export interface KeptRequest {
  path: string;
  headers: Record<string, string>;
  /** Decompressed. */
  body: Buffer;
}

export interface MockUpstreamOptions {
  /** `host:port`; port 0 takes a free one. */
  listen: string;
  behaviour?: Partial<Behaviour>;
  /** Keep the last so many requests whole. */
  keep?: number;
  /** What comes was encoded anew on its way, as by a Collector: its items are known by their ids alone. */
  encodedAnew?: boolean;
  /** Called with each request that was taken, decompressed, in the order of their arrival. */
  taken?(signal: TestSignal, body: Buffer): void;
}

export interface MockStats extends ReceivedStats {
  requests: number;
  wireBytes: number;
  bodyBytes: number;
  byStatus: Record<string, number>;
  /** Requests with a body that could not be read. */
  unreadable: number;
  profiles: number;
  maxConcurrency: number;
  /** With `newRelic`: what was dropped, pruned or shortened behind a 200, by rule; see new-relic.ts. */
  newRelic: Partial<Record<NewRelicRule, number>>;
}

export interface MockUpstream {
  url: string;
  stats(): MockStats;
  /** The sequences of a generator's run that arrived. */
  received(run: number): SequenceSet;
  kept(): readonly KeptRequest[];
  set(behaviour: Partial<Behaviour>): void;
  behaviour(): Behaviour;
  /** Forgets what arrived. */
  reset(): void;
  close(): Promise<void>;
}

const CONTROL_MAX_BYTES = 64 * 1024;
/** An ingest license key. */
const LICENSE_KEY = /^[A-Za-z0-9_-]{40}$/;
const NEW_RELIC_ENCODINGS = new Set(['identity', 'gzip', 'zstd']);

export async function startMockUpstream(options: MockUpstreamOptions): Promise<MockUpstream> {
  const mock = new Mock(options);
  await mock.listen(options.listen);
  return mock;
}

class Mock implements MockUpstream {
  url = '';
  readonly #server: Server;
  readonly #keep: number;
  readonly #taken: MockUpstreamOptions['taken'];
  #behaviour: Behaviour;
  readonly #encodedAnew: boolean;
  #received: Received;
  #kept: KeptRequest[] = [];
  #counts = emptyCounts();
  #concurrency = 0;
  /** When the next item may be taken, for `itemsPerSecond`. */
  #freeAtMs = 0;
  /** When the link has room for the next byte, for `bytesPerSecond`. */
  #linkFreeAtMs = 0;
  /** Requests of each signal in the minute at hand, for `requestsPerMinute`. */
  #minute = { number: 0, requests: new Map<string, number>() };

  constructor(options: MockUpstreamOptions) {
    this.#behaviour = { ...HEALTHY, ...options.behaviour };
    this.#keep = options.keep ?? 0;
    this.#taken = options.taken;
    this.#encodedAnew = options.encodedAnew ?? false;
    this.#received = new Received(this.#encodedAnew);
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error: Error) => {
        if (!response.headersSent && !response.destroyed) response.writeHead(500).end(error.message);
      });
    });
    this.#server.keepAliveTimeout = 75_000;
    this.#server.on('connection', (socket: Socket) => {
      socket.setNoDelay(true);
    });
  }

  async listen(address: string): Promise<void> {
    const at = address.lastIndexOf(':');
    const host = address.slice(0, at).replace(/^\[|\]$/g, '');
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      // Without a host: all addresses, of both families where there are two.
      this.#server.listen({ port: Number(address.slice(at + 1)), ...(host ? { host } : {}) }, resolve);
    });
    const { port, address: bound } = this.#server.address() as AddressInfo;
    const name = host || bound;
    this.url = `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
  }

  stats(): MockStats {
    const { byStatus, newRelic } = this.#counts;
    return {
      ...this.#received.stats(),
      ...this.#counts,
      byStatus: { ...byStatus },
      newRelic: { ...newRelic },
    };
  }

  received(run: number): SequenceSet {
    return this.#received.of(run);
  }

  kept(): readonly KeptRequest[] {
    return this.#kept;
  }

  behaviour(): Behaviour {
    return { ...this.#behaviour };
  }

  set(behaviour: Partial<Behaviour>): void {
    this.#behaviour = { ...this.#behaviour, ...behaviour };
    if (behaviour.outage) this.#server.closeAllConnections();
  }

  reset(): void {
    this.#received = new Received(this.#encodedAnew);
    this.#kept = [];
    this.#counts = emptyCounts();
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?')[0]!;
    if (path.startsWith('/_mock/')) return this.#control(path, request, response);
    if (this.#behaviour.outage) {
      request.socket.destroy();
      return;
    }
    const signal = TEST_SIGNALS.find((name) => path === `/v1/${name}`);
    const profiles = path === '/v1development/profiles';
    if (signal === undefined && !profiles) return this.#answer(response, request, 404, 'no such path');
    if (request.method !== 'POST') return this.#answer(response, request, 405, 'expected POST');
    this.#counts.maxConcurrency = Math.max(this.#counts.maxConcurrency, ++this.#concurrency);
    try {
      await this.#export(signal, path, request, response);
    } finally {
      this.#concurrency -= 1;
    }
  }

  async #export(
    signal: TestSignal | undefined,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const behaviour = this.#behaviour;
    const wire = await read(request, behaviour.maxBodyBytes, (bytes) => this.#carried(bytes));
    this.#counts.requests += 1;
    if (wire === undefined) return this.#answer(response, request, 413, 'the body is too large');
    this.#counts.wireBytes += wire.byteLength;
    const name = signal ?? 'profiles';
    const pauseMs =
      behaviour.latencyMs + (behaviour.signalLatencyMs[name] ?? 0) + Math.random() * behaviour.jitterMs;
    if (pauseMs > 0) await wait(pauseMs);
    if (this.#behaviour.outage) {
      request.socket.destroy();
      return;
    }
    for (const [name, value] of Object.entries(behaviour.requireHeaders)) {
      if (request.headers[name.toLowerCase()] !== value) {
        return this.#answer(response, request, 401, `the header ${name} is missing or wrong`);
      }
    }
    if (behaviour.newRelic) {
      const [status, retryAfter] = this.#newRelic(request, name, wire);
      if (status > 0) return this.#answer(response, request, status, '', 0, retryAfter);
    }
    const status = behaviour.signalStatus[name] || behaviour.status;
    if (status > 0) return this.#answer(response, request, status, STATUS_CODES[status] ?? 'as told');
    if (behaviour.redirectStatus > 0) {
      this.#count(behaviour.redirectStatus);
      response.writeHead(behaviour.redirectStatus, { location: behaviour.redirectTo + path }).end();
      return;
    }
    if (behaviour.html) {
      this.#count(200);
      response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>Sign in</title>');
      return;
    }
    const dice = Math.random();
    let edge = behaviour.errorRate;
    if (dice < edge)
      return this.#answer(response, request, behaviour.errorStatus, 'a fault of the mock upstream');
    edge += behaviour.throttleRate;
    if (dice < edge) return this.#answer(response, request, 429, 'too many requests');
    edge += behaviour.refuseRate;
    if (dice < edge) return this.#answer(response, request, 400, 'refused for good');

    edge += behaviour.loseRate;
    if (dice < edge) return this.#answer(response, request, 200, '');

    const encoding = request.headers['content-encoding'] ?? 'identity';
    if (behaviour.refuseEncoding === encoding) {
      return this.#answer(response, request, behaviour.refuseEncodingStatus, `${encoding} is not supported`);
    }
    let body: Buffer;
    let items = 0;
    const json = (request.headers['content-type'] ?? '').startsWith('application/json');
    try {
      // Whether it reads more than the first is not documented, so nobody may rely on it.
      body =
        behaviour.firstMemberOnly || behaviour.newRelic
          ? firstMember(wire, encoding)
          : await decompress(wire, encoding);
      if (behaviour.poison !== '' && body.includes(behaviour.poison))
        return this.#answer(response, request, behaviour.poisonStatus, `it has ${behaviour.poison} in it`);
      if (signal) items = this.#received.take(signal, body, json ? 'json' : 'protobuf', clockMs());
      else this.#counts.profiles += 1;
      if (behaviour.newRelic && signal && !json)
        readAsNewRelic(signal, body, clockMs(), (rule) => {
          this.#counts.newRelic[rule] = (this.#counts.newRelic[rule] ?? 0) + 1;
        });
    } catch (error) {
      this.#counts.unreadable += 1;
      return this.#answer(response, request, 400, (error as Error).message);
    }
    this.#counts.bodyBytes += body.byteLength;
    if (signal && !json) this.#taken?.(signal, body);
    if (this.#keep > 0) {
      const headers = Object.fromEntries(Object.entries(request.headers).map(([k, v]) => [k, String(v)]));
      this.#kept = [...this.#kept.slice(-(this.#keep - 1)), { path, headers, body }];
    }
    if (behaviour.itemsPerSecond > 0) {
      const nowMs = clockMs();
      this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (items * 1000) / behaviour.itemsPerSecond;
      await wait(Math.max(0, this.#freeAtMs - nowMs));
    }
    edge += behaviour.partialRate;
    if (dice < edge) return this.#answer(response, request, 200, 'one item was rejected', items > 0 ? 1 : 0);
    edge += behaviour.cutRate;
    if (dice < edge) {
      request.socket.destroy();
      return;
    }
    edge += behaviour.garbageRate;
    if (dice < edge) {
      this.#count(200);
      response
        .writeHead(200, { 'content-type': 'application/x-protobuf' })
        .end(Buffer.from([0xff, 0xff, 0x07]));
      return;
    }
    this.#answer(response, request, 200, '');
  }

  /**
   * What New Relic answers before it looks at the data; its answers have no body, those of success neither. What it does behind a 200
   * is counted by rule.
   * @returns the status, 0 when it goes on, and after how many seconds to come again
   */
  #newRelic(
    { headers }: IncomingMessage,
    signal: string,
    wire: Buffer,
  ): [status: number, retryAfter: number] {
    const key = String(headers['api-key'] ?? '');
    if (key === '') return [401, 0];
    if (!LICENSE_KEY.test(key)) return [403, 0];
    if (wire.byteLength >= NEW_RELIC_LIMITS.bodyBytes) return [413, 0];
    if (!NEW_RELIC_ENCODINGS.has(String(headers['content-encoding'] ?? 'identity'))) return [415, 0];
    const seconds = Math.floor(Date.now() / 1000);
    const number = Math.floor(seconds / 60);
    if (this.#minute.number !== number) this.#minute = { number, requests: new Map() };
    const { requests } = this.#minute;
    const { requestsPerMinute } = this.#behaviour;
    if (requestsPerMinute > 0 && (requests.get(signal) ?? 0) >= requestsPerMinute)
      return [429, 60 - (seconds % 60)];
    requests.set(signal, (requests.get(signal) ?? 0) + 1);
    return [0, 0];
  }

  /** Takes as long as the link does for so many bytes. */
  async #carried(bytes: number): Promise<void> {
    const { bytesPerSecond } = this.#behaviour;
    if (bytesPerSecond <= 0) return;
    const nowMs = clockMs();
    this.#linkFreeAtMs = Math.max(nowMs, this.#linkFreeAtMs) + (bytes * 1000) / bytesPerSecond;
    await wait(this.#linkFreeAtMs - nowMs);
  }

  #count(status: number): void {
    const { byStatus } = this.#counts;
    byStatus[String(status)] = (byStatus[String(status)] ?? 0) + 1;
  }

  #answer(
    response: ServerResponse,
    request: IncomingMessage,
    status: number,
    message: string,
    rejected = 0,
    retryAfter = 0,
  ): void {
    this.#count(status);
    const json = (request.headers['content-type'] ?? '').startsWith('application/json');
    const headers: Record<string, string> = {
      'content-type': json ? 'application/json' : 'application/x-protobuf',
    };
    const { newRelic } = this.#behaviour;
    const retryAfterSeconds = retryAfter || this.#behaviour.retryAfterSeconds;
    if ((status === 429 || status === 503) && retryAfterSeconds > 0)
      headers['retry-after'] = String(retryAfterSeconds);
    if (!request.complete) headers.connection = 'close';
    if (newRelic) {
      response.writeHead(status, { ...headers, 'content-length': '0' }).end();
      return;
    }
    const signal = TEST_SIGNALS.find((name) => (request.url ?? '').endsWith(name)) ?? 'traces';
    const body =
      status === 200
        ? exportAnswer(signal, json, rejected > 0 ? { rejected, message } : undefined)
        : statusAnswer(json, status, message);
    response.writeHead(status, headers).end(body);
  }

  async #control(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const reply = (status: number, value: unknown) =>
      response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(`${JSON.stringify(value, null, 2)}\n`);
    const why = foreignPage(request);
    if (why) return void reply(403, { error: why });
    const url = new URL(request.url ?? '', 'http://mock');
    switch (`${request.method} ${path}`) {
      case 'GET /_mock/stats':
        return void reply(200, this.stats());
      case 'GET /_mock/behaviour':
        return void reply(200, this.#behaviour);
      case 'PUT /_mock/behaviour': {
        const text = await read(request, CONTROL_MAX_BYTES);
        const given = parseBehaviour(String(text ?? ''));
        if (typeof given === 'string') return void reply(400, { error: given });
        this.set(given);
        return void reply(200, this.#behaviour);
      }
      case 'POST /_mock/outage/on':
        reply(200, { outage: true });
        return this.set({ outage: true });
      case 'POST /_mock/outage/off':
        this.set({ outage: false });
        return void reply(200, { outage: false });
      case 'POST /_mock/reset':
        this.reset();
        return void reply(200, {});
      case 'GET /_mock/received':
        return void reply(200, this.#received.flat(Number(url.searchParams.get('run'))));
      default:
        return void reply(404, { error: `there is no ${request.method} ${path}` });
    }
  }
}

/** Why a request must not be answered that a page of another site may have sent; undefined when none has. */
function foreignPage({ headers }: IncomingMessage): string | undefined {
  const { host = '', origin, 'sec-fetch-site': site } = headers;
  // A name that its owner has pointed at this machine; those of containers have no dot.
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  if (name.includes('.') && isIP(name) === 0 && !name.endsWith('.localhost'))
    return `"${name}" is not a name of this address`;
  const isOwn = origin === undefined || (URL.canParse(origin) && new URL(origin).host === host);
  if (isOwn && (site === undefined || site === 'same-origin' || site === 'none')) return undefined;
  return 'a page of another site may not use this address';
}

function emptyCounts() {
  return {
    requests: 0,
    wireBytes: 0,
    bodyBytes: 0,
    byStatus: {} as Record<string, number>,
    unreadable: 0,
    profiles: 0,
    maxConcurrency: 0,
    newRelic: {} as Partial<Record<NewRelicRule, number>>,
  };
}

function parseBehaviour(text: string): Partial<Behaviour> | string {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    return 'expected JSON';
  }
  if (typeof given !== 'object' || given === null) return 'expected an object';
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(HEALTHY, key))
      return `there is no ${key}; expected one of ${Object.keys(HEALTHY).join(', ')}`;
    const wanted = typeof HEALTHY[key as keyof Behaviour];
    if (typeof value !== wanted) return `${key}: expected a ${wanted}`;
  }
  return given;
}

async function read(
  request: IncomingMessage,
  maxBytes: number,
  carried?: (bytes: number) => Promise<void>,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    await carried?.(chunk.byteLength);
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      request.resume();
      return undefined;
    }
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** Larger than any test sends: what it measures may not depend on it. */
const MAX_BODY = { maxOutputLength: 512 * 1024 * 1024 };

const GZIP_HEADER_BYTES = 10;

/** What a reader makes of a body that does not know that more may follow. */
function firstMember(wire: Buffer, encoding: string): Buffer {
  if (encoding === 'gzip') return zlib.inflateRawSync(wire.subarray(GZIP_HEADER_BYTES), MAX_BODY);
  if (encoding === 'zstd') return zlib.zstdDecompressSync(wire, MAX_BODY);
  return wire;
}

async function decompress(wire: Buffer, encoding: string): Promise<Buffer> {
  switch (encoding) {
    case 'identity':
    case '':
      return wire;
    case 'gzip':
      return wire.byteLength < 1024 * 1024 ? zlib.gunzipSync(wire, MAX_BODY) : promisify(zlib.gunzip)(wire);
    case 'deflate':
      return zlib.inflateSync(wire, MAX_BODY);
    case 'zstd': {
      const frames: Buffer[] = [];
      for (let at = 0; at < wire.byteLength; ) {
        const frame = zlib.zstdDecompressSync(wire.subarray(at), {
          ...MAX_BODY,
          info: true,
        } as never) as unknown as {
          buffer: Buffer;
          engine: { bytesWritten: number };
        };
        frames.push(frame.buffer);
        at += frame.engine.bytesWritten;
      }
      return Buffer.concat(frames);
    }
    default:
      throw new Error(`Content-Encoding ${encoding} is not supported`);
  }
}
