import { createHash, timingSafeEqual } from 'node:crypto';
import { isLoopback } from '@nrdot/config';
import type { Logger, MetricsRegistry } from '@nrdot/telemetry';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { type Address, formatAddress } from './address.ts';
import { refusal } from './browser-guard.ts';
import type { RunningService } from './host.ts';
import { listen } from './listen.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { PageSession } from './page-session.ts';
import { type ServerTls, secureServer } from './server-tls.ts';

const BODY_MAX_BYTES = 1024 * 1024;
const HEALTH_CHECKS = new Set(['/healthz', '/readyz']);
/** Further ones are closed, so that they do not use up the descriptors of a process that also receives data. */
const CONNECTIONS_MAX = 1_000;
/** Nothing from other hosts, nothing inline, no text as markup; not in a frame. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
/** The same for a page of another package, which may have inline styles. */
const FOREIGN_PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";
const pageHeaders = (contentType: string, policy: string) => ({
  'content-type': contentType,
  'content-security-policy': policy,
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
});
const YAML_TYPES = ['application/yaml', 'application/x-yaml', 'text/yaml'];

export interface AdminOptions {
  listen: Address;
  /** Required on every route except the health checks. Mandatory if `listen` is not a loopback address. */
  token?: string;
  /** Additional host names that browsers may use. */
  hosts?: readonly string[];
  /** HTTPS if it has a certificate. */
  tls?: ServerTls;
  /** Time for a whole request to arrive. */
  requestTimeoutMs?: number;
}

/** An error answer, with a message for people. */
export class AdminError extends Error {
  readonly status: number;
  readonly code: string;
  /** Further fields for programs. */
  readonly details: object;

  constructor(status: number, code: string, message: string, details: object = {}) {
    super(message);
    this.name = 'AdminError';
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

export interface AdminRequest {
  params: Record<string, string>;
  query: Record<string, string>;
  body: unknown;
}

export interface PageRequest {
  /** Path below the page's own, without a leading slash. */
  path: string;
  query: Record<string, string>;
}

export interface PageAnswer {
  status: number;
  contentType: string;
  body: string | Buffer;
}

/** What a route returns: an object is sent as JSON. */
export type AdminAnswer =
  | object
  | { contentType: string; text: string | Buffer }
  | AsyncIterable<string | Uint8Array>;

/**
 * The admin address of a process: `/healthz` (alive), `/readyz` (able to work; the reasons only with the token), `/metrics`,
 * and what services add. It has no secrets, and no payloads except in the dlq's export.
 */
export class AdminServer {
  readonly #app: FastifyInstance;
  readonly #options: AdminOptions;
  readonly #services: RunningService[] = [];
  readonly #files = new Set<string>();
  #stopping = false;

  /** @throws Error if it would be reachable for others without a token */
  constructor(options: AdminOptions, registry: MetricsRegistry, log: Logger) {
    if (!options.token && !isLoopback(options.listen.host)) {
      throw new Error(
        `admin.listen is ${formatAddress(options.listen)}, which other machines can reach; expected a loopback address, or admin.token to be set`,
      );
    }
    this.#options = options;
    const app: FastifyInstance = fastify({
      ...secureServer(options.tls ?? {}, { requestTimeoutMs: options.requestTimeoutMs }),
      logger: false,
      bodyLimit: BODY_MAX_BYTES,
      forceCloseConnections: true,
      // Such keys are ordinary keys in JSON: routes reject them as unknown names.
      onProtoPoisoning: 'ignore',
      onConstructorPoisoning: 'ignore',
    });
    this.#app = app;
    app.setErrorHandler((error, _request, reply) => {
      const known = error instanceof AdminError ? error : undefined;
      const status = known?.status ?? (error as { statusCode?: number }).statusCode ?? 500;
      const { message } = error as Error;
      if (status >= 500) log.error({ err: message }, 'an admin request failed');
      const code = known?.code ?? (status < 500 ? 'bad_request' : 'internal');
      return reply.code(status).send({ error: { code, message, ...known?.details } });
    });
    // A form on another site could send text/plain, but not JSON or YAML.
    app.removeContentTypeParser('text/plain');
    const inTurn = new OneAtATime();
    app.addHook('onRequest', (request, reply, done) => inTurn.take(request.raw, reply.raw, done));
    app.addHook('onRequest', async (request, reply) => {
      reply.headers({
        'x-content-type-options': 'nosniff',
        'cross-origin-resource-policy': 'same-origin',
        'cache-control': 'no-store',
      });
      // Node takes the first of them. A proxy that takes another one would forward what it did not mean to (RFC 9112, 3.2).
      if ((request.raw.headersDistinct.host?.length ?? 0) > 1) {
        throw new AdminError(400, 'bad_request', 'the header Host is repeated; expected it once');
      }
      const reason = this.#refusal(request);
      // Load balancers may send any host name or, with HTTP/1.0, none.
      const isHealthCheck = HEALTH_CHECKS.has(request.routeOptions.url ?? '');
      if (reason && !isHealthCheck) throw new AdminError(403, 'forbidden', reason);
      // Here rather than in a handler, before which the body would be read.
      if (request.is404)
        throw new AdminError(404, 'not_found', `there is nothing at ${request.url.split('?')[0]}`);
    });
    app.addContentTypeParser(YAML_TYPES, { parseAs: 'string' }, (_request, text, done) => done(null, text));
    app.get('/healthz', () => ({ status: 'alive' }));
    app.get('/readyz', (request, reply) => {
      const services = Object.fromEntries(
        this.#services.map((service) => [service.name, service.notReady() ?? 'ready']),
      );
      const notices = Object.fromEntries(
        this.#services.flatMap((service) => {
          const warning = service.warning?.();
          return warning ? [[service.name, warning]] : [];
        }),
      );
      const ready = !this.#stopping && Object.values(services).every((state) => state === 'ready');
      const status = this.#stopping ? 'stopping' : ready ? 'ready' : 'not ready';
      // The reasons contain host names and errors, so they require what other routes do.
      const mayKnow = this.#isAuthorized(request) && !this.#refusal(request);
      return reply.code(ready ? 200 : 503).send(mayKnow ? { status, services, notices } : { status });
    });
    app.get('/metrics', { onRequest: this.#authorize }, async (_request, reply) =>
      reply.header('content-type', registry.contentType).send(await registry.text()),
    );
  }

  /** Adds a service to `/readyz`. */
  watch(service: RunningService): void {
    this.#services.push(service);
  }

  /** Adds a route; call before `start`. */
  route(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    url: string,
    handle: (request: AdminRequest) => Promise<AdminAnswer> | AdminAnswer,
    { bodyMaxBytes = BODY_MAX_BYTES } = {},
  ): void {
    this.#app.route({
      method,
      url,
      bodyLimit: bodyMaxBytes,
      onRequest: this.#authorize,
      handler: async (request, reply) => {
        const { params, query, body } = request as AdminRequest;
        const [twice] = Object.entries(query).find(([, value]) => typeof value !== 'string') ?? [];
        if (twice !== undefined)
          throw new AdminError(400, 'bad_request', `${twice.slice(0, 80)}: repeated; expected it once`);
        return send(reply, await handle({ params, query, body }));
      },
    });
  }

  /** Adds a file of a page. It contains no data and is served without the token, which the page needs to read data. */
  file(url: string, contentType: string, read: () => Promise<Buffer>): void {
    this.#files.add(url);
    this.#app.get(url, async (_request, reply) =>
      reply
        .headers({ ...pageHeaders(contentType, PAGE_POLICY), 'cache-control': 'no-cache' })
        .send(await read()),
    );
  }

  /**
   * Adds a read-only page of another package below a path that ends in a slash. If a token is required, a POST with it to
   * `<path>session` opens the page for an hour.
   */
  foreignPage(path: string, answer: (request: PageRequest) => Promise<PageAnswer>): void {
    const { token, tls } = this.#options;
    const session = new PageSession(path, tls?.certFile !== undefined);
    this.#app.post(`${path}session`, { onRequest: this.#authorize }, (_request, reply) =>
      reply.header('set-cookie', session.begin(Date.now())).send({ open: path }),
    );
    this.#app.get(path.slice(0, -1), (_request, reply) => reply.redirect(path));
    this.#app.get(`${path}*`, async (request, reply) => {
      if (token && !session.holds(request.headers.cookie, Date.now())) {
        await this.#authorize(request, reply);
        if (reply.sent) return reply;
      }
      const { status, contentType, body } = await answer({
        path: (request.params as { '*': string })['*'],
        query: request.query as Record<string, string>,
      });
      return reply.code(status).headers(pageHeaders(contentType, FOREIGN_PAGE_POLICY)).send(body);
    });
  }

  /** @returns the address, with the port that the system chose for port 0 */
  async start(): Promise<Address> {
    const { listen: address, tls } = this.#options;
    return listen(this.#app, address, { tls, connections: CONNECTIONS_MAX });
  }

  /** From here on `/readyz` fails, so that load balancers stop sending. */
  drain(): void {
    this.#stopping = true;
  }

  async stop(): Promise<void> {
    await this.#app.close();
  }

  /** Before the body is read: whoever has no token costs no more than the headers. */
  #authorize = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    if (this.#isAuthorized(request)) return;
    const message = 'expected the header Authorization: Bearer <admin.token>';
    await reply
      .code(401)
      .header('www-authenticate', 'Bearer')
      .send({ error: { code: 'unauthorized', message } });
  };

  #refusal({ headers, protocol, routeOptions }: FastifyRequest): string | undefined {
    const { token, hosts } = this.#options;
    const { host, origin, 'sec-fetch-site': site } = headers;
    const isFile = this.#files.has(routeOptions.url ?? '');
    return refusal(
      { host, origin, site: site as string | undefined, isSecure: protocol === 'https', isFile },
      token !== undefined,
      hosts,
    );
  }

  #isAuthorized(request: FastifyRequest): boolean {
    return bears(request.headers.authorization, this.#options.token);
  }
}

/** Whether a request's header `Authorization` has the token, if one is required. */
export function bears(authorization = '', token: string | undefined): boolean {
  return !token || sameSecret(/^Bearer (.+)$/i.exec(authorization)?.[1] ?? '', token);
}

/** Compares in a time that does not depend on where they differ. */
export function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function send(reply: FastifyReply, answer: AdminAnswer): FastifyReply {
  if (Symbol.asyncIterator in answer) {
    return reply.header('content-type', 'application/x-ndjson').send(ReadableStream.from(answer));
  }
  if ('contentType' in answer) return reply.header('content-type', answer.contentType).send(answer.text);
  return reply.send(answer);
}
