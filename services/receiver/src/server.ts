import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Config } from '@nrdot/config';
import {
  type BodyFormat,
  exportResponse,
  GRPC,
  OtlpError,
  parseContentEncoding,
  SIGNALS,
  type Signal,
  statusBody,
} from '@nrdot/otlp';
import { listen, OneAtATime, sameSecret, secureServer } from '@nrdot/service';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { type FastifyInstance, fastify } from 'fastify';
import { InflightBytes, readBody } from './body.ts';
import { Cors } from './cors.ts';
import { type IngestDeps, ingest, type QueueCapacity } from './ingest.ts';
import { endWhenRead } from './linger.ts';

export type ReceiverOptions = Omit<Config['receiver'], 'tokens'> & {
  /** Bearer tokens, one of which a client must send; no check if empty. */
  tokens: readonly string[];
  /** The queue's limits, if known here. */
  queue?: QueueCapacity | undefined;
};

export interface ReceiverDeps extends IngestDeps {
  log: Logger;
  metrics: Metrics;
}

/**
 * Answers to connection errors that occur before there is a request. A request that does not arrive in time gets a retryable
 * status: a sender must not retry after a 400 or 408 (OTLP 1.11), and would lose valid data because its network, or this
 * machine, was slow.
 */
const ANSWERS: Record<string, string> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '503 Service Unavailable\r\nRetry-After: 1',
};

/** Retry-After of rejections, in seconds. */
const RETRY_AFTER = '1';
/** Of a request target without its query. */
const TARGET_MAX_CHARS = 1_024;
/** Scheme and authority of a request target in absolute form, which a server must accept (RFC 9112, 3.2.2). */
const ABSOLUTE_FORM = /^https?:\/\/[^/?#]+/i;

/** The OTLP/HTTP server. It answers 200 only for durable data. */
export class Receiver {
  readonly #app: FastifyInstance;
  readonly #options: ReceiverOptions;
  #tokens: readonly string[];
  readonly #deps: ReceiverDeps;
  readonly #inflight: InflightBytes;
  readonly #signalAtPath: ReadonlyMap<string, Signal>;
  readonly #cors: Cors;
  readonly #inTurn = new OneAtATime();
  #stopping = false;

  constructor(options: ReceiverOptions, deps: ReceiverDeps) {
    this.#options = options;
    this.#tokens = options.tokens;
    this.#deps = deps;
    this.#inflight = new InflightBytes(options.maxInflightBytes);
    this.#cors = new Cors(options.cors);
    this.#signalAtPath = new Map(
      (Object.keys(SIGNALS) as Signal[]).map((signal) => [options.pathPrefix + SIGNALS[signal].path, signal]),
    );
    this.#app = this.#build();
  }

  /** @returns the address, with the port that the system chose for port 0 */
  async start(): Promise<{ host: string; port: number }> {
    const { listen: address, tls, maxConnections: connections } = this.#options;
    return listen(this.#app, address, { tls, connections });
  }

  /** Sets the tokens, from the next request on; no check if empty. */
  setTokens(tokens: readonly string[]): void {
    this.#tokens = tokens;
  }

  /** Accepts no new requests, answers those in flight, and cuts off what is left after `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    const cut = setTimeout(() => this.#app.server.closeAllConnections(), timeoutMs);
    await this.#app.close();
    clearTimeout(cut);
  }

  #build(): FastifyInstance {
    const { requestTimeoutMs, keepAliveMs, tls, maxBodyBytes, maxHeaderBytes } = this.#options;
    const app: FastifyInstance = fastify({
      ...secureServer(tls, { requestTimeoutMs, maxHeaderBytes }),
      logger: false,
      keepAliveTimeout: keepAliveMs,
      bodyLimit: maxBodyBytes,
      forceCloseConnections: 'idle',
      exposeHeadRoutes: false,
      frameworkErrors: ({ message }, { raw: request }, reply) => {
        reply.hijack();
        this.#refuse(request, reply.raw, new OtlpError(400, 'malformed', message));
      },
      clientErrorHandler: (error, socket) => {
        // Nothing can be said before there is a session, nor would the callback below ever be called.
        if (error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return void socket.destroy();
        if (!socket.writable) return;
        const answer = ANSWERS[error.code ?? ''] ?? '400 Bad Request';
        // Destroy the socket: what still arrives of a request that was answered must not be processed.
        socket.end(`HTTP/1.1 ${answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
          socket.destroy(),
        );
      },
    });
    // The handler reads the stream itself, so that limits on size and memory apply while the body arrives.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
    app.setNotFoundHandler(async ({ raw: request }, reply) => {
      reply.hijack();
      const signal = this.#signalAt(request.url ?? '');
      if (signal) return this.#handle(signal, request, reply.raw);
      const paths = Object.values(SIGNALS).map(({ path }) => this.#options.pathPrefix + path);
      const message = `unknown path; expected POST to ${paths.join(', ')}`;
      this.#refuse(request, reply.raw, new OtlpError(404, 'not_found', message));
    });
    app.setErrorHandler((error, { raw: request }, reply) => {
      reply.hijack();
      this.#refuse(request, reply.raw, error);
    });
    this.#handleFirst(app);
    return app;
  }

  /**
   * Handles OTLP requests before Fastify creates its own objects for them; all other requests (other methods, other paths, all
   * while stopping) go to Fastify. Both use the same handler.
   */
  #handleFirst({ server }: FastifyInstance): void {
    const others = server.listeners('request') as RequestListener[];
    server.removeAllListeners('request');
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      this.#inTurn.take(request, response, () => {
        const signal = request.method === 'POST' ? this.#signalAt(request.url ?? '') : undefined;
        if (signal && !this.#stopping) void this.#handle(signal, request, response);
        else for (const other of others) other.call(server, request, response);
      });
    });
  }

  /** Ignores doubled and trailing slashes, the query, and scheme and authority. */
  #signalAt(url: string): Signal | undefined {
    const known = this.#signalAtPath.get(url);
    if (known) return known;
    const [target = ''] = url.split('?', 1);
    if (target.length > TARGET_MAX_CHARS) return undefined;
    const path = target.replace(ABSOLUTE_FORM, '').replace(/\/{2,}/g, '/');
    return this.#signalAtPath.get(path.endsWith('/') ? path.slice(0, -1) : path);
  }

  async #handle(signal: Signal, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { metrics } = this.#deps;
    const end = metrics.receiverRequestSeconds.startTimer({ signal });
    const reservation = this.#inflight.open();
    try {
      this.#cors.allow(request, response);
      if (request.method === 'OPTIONS') return this.#cors.preflight(request, response);
      if (request.method !== 'POST')
        throw new OtlpError(405, 'method', `method ${request.method} is not allowed here; expected POST`);
      this.#authorize(request);
      const coding = request.headers['transfer-encoding'];
      if (coding !== undefined && coding.toLowerCase() !== 'chunked') {
        const message = `Transfer-Encoding "${coding}" is not supported; expected "chunked", and Content-Encoding for compression`;
        throw new OtlpError(501, 'transfer_encoding', message, GRPC.UNIMPLEMENTED);
      }
      const format = formatOf(request.headers['content-type']);
      const encoding = parseContentEncoding(request.headers['content-encoding']);
      const length = request.headers['content-length']; // the HTTP parser has validated it
      const declaredBytes = length === undefined ? undefined : Number(length);
      const wire = await readBody(request, declaredBytes, this.#options.maxBodyBytes, reservation);
      metrics.receiverInflightBytes.set(this.#inflight.usedBytes);
      const { items, bodyBytes, partial } = await ingest(
        { signal, format, encoding, wire, reservation },
        this.#options,
        this.#deps,
      );
      metrics.receiverItems.inc({ signal }, items);
      metrics.receiverBytes.inc({ signal, kind: 'wire' }, wire.byteLength);
      metrics.receiverBytes.inc({ signal, kind: 'body' }, bodyBytes);
      metrics.receiverRequests.inc({ signal, code: '200' });
      answer(response, 200, format, exportResponse(signal, format, partial));
    } catch (error) {
      this.#refuse(request, response, error, signal);
    } finally {
      reservation.release();
      metrics.receiverInflightBytes.set(this.#inflight.usedBytes);
      end();
    }
  }

  /** Answers with a `Status` in the encoding of the request. */
  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown, signal?: Signal): void {
    const { log, metrics } = this.#deps;
    const known = error instanceof OtlpError ? error : unexpected(error);
    if (!(error instanceof OtlpError) && known.httpStatus === 500) {
      log.error(
        { err: error instanceof Error ? error.stack : String(error) },
        'a request failed because of an internal error',
      );
    }
    if (signal) {
      metrics.receiverRequests.inc({ signal, code: String(known.httpStatus) });
      metrics.receiverRefused.inc({ signal, reason: known.code });
    }
    if (known.httpStatus === 401) response.setHeader('www-authenticate', 'Bearer');
    if (known.httpStatus === 405) response.setHeader('allow', 'POST, OPTIONS');
    if (known.httpStatus === 503) response.setHeader('retry-after', RETRY_AFTER);
    const json = (request.headers['content-type'] ?? '').toLowerCase().startsWith('application/json');
    const format: BodyFormat = json ? 'json' : 'protobuf';
    const body = statusBody(format, known.grpcCode, known.message);
    if (request.complete || request.destroyed) {
      answer(response, known.httpStatus, format, body);
      return;
    }
    // Otherwise the unread rest of the body would be parsed as the next request.
    response.setHeader('connection', 'close');
    const length = { 'content-type': contentTypeOf(format), 'content-length': body.byteLength };
    response.writeHead(known.httpStatus, length);
    endWhenRead(request, response, body, this.#options.maxBodyBytes);
  }

  #authorize(request: IncomingMessage): void {
    const tokens = this.#tokens;
    if (tokens.length === 0) return;
    const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    let known = false;
    for (const token of tokens) known = sameSecret(given, token) || known; // compare all, so that the time does not tell which one matched
    if (known) return;
    throw new OtlpError(
      401,
      'unauthorized',
      'the bearer token is missing or wrong; expected the header Authorization: Bearer <one of receiver.tokens>',
    );
  }
}

function formatOf(contentType: string | undefined): BodyFormat {
  const type = (contentType ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (type === 'application/x-protobuf') return 'protobuf';
  if (type === 'application/json') return 'json';
  const flaw = contentType === undefined ? 'is missing' : `"${type.slice(0, 100)}" is not supported`;
  const expected = 'expected application/x-protobuf or application/json';
  throw new OtlpError(415, 'content_type', `Content-Type ${flaw}; ${expected}`);
}

function answer(response: ServerResponse, status: number, format: BodyFormat, body: Uint8Array): void {
  response.writeHead(status, { 'content-type': contentTypeOf(format), 'content-length': body.byteLength });
  // Writing an empty chunk would take a second write.
  if (body.byteLength === 0) response.end();
  else response.end(body);
}

function contentTypeOf(format: BodyFormat): string {
  return format === 'json' ? 'application/json' : 'application/x-protobuf';
}

function unexpected(error: unknown): OtlpError {
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  return statusCode >= 400 && statusCode < 500
    ? new OtlpError(statusCode, 'bad_request', message, GRPC.INVALID_ARGUMENT)
    : new OtlpError(
        500,
        'internal',
        "the request failed because of an internal error; see the receiver's log",
      );
}
